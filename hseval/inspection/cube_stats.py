"""Statistics of one cube for ``hseval info``: a few numbers, so that a set of any size is read in one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.data.content_hash import compute_content_hash
from hseval.utils.arrays import BoolArray, Float32Array
from hseval.utils.random_streams import create_rng

MIN_SURROUND_SHARE = 0.01  # share of all-zero pixels from which a black surround is reported


@dataclasses.dataclass(frozen=True)
class CubeStats:
    """Statistics of one cube.

    Attributes:
        shape: ``(band, y, x)``.
        digest: sha256 of shape and pixels.
        field_pixel_count: pixels inside the field of view.
        valid_pixel_count: those of them that are finite in every band.
        negative_share: share of the valid values below 0.
        min_value: smallest valid value; Inf if there is none.
        max_value: largest valid value; -Inf if there is none.
        sampled_values: values drawn for the quantiles.
        constant_bands: per band, whether all valid pixels have one value.
        first_values: per band, the first valid pixel's value (the value of a constant band).
        invalid_bands: per band, whether no pixel of the field is finite.
        mask_shares: structure -> its mask's share of the image.
        has_surround: whether there is a black surround that no field of view excludes.
    """

    shape: tuple[int, int, int]
    digest: str
    field_pixel_count: int
    valid_pixel_count: int
    negative_share: float
    min_value: float
    max_value: float
    sampled_values: Float32Array
    constant_bands: BoolArray
    first_values: Float32Array
    invalid_bands: BoolArray
    mask_shares: Mapping[str, float]
    has_surround: bool


def compute_cube_stats(cube: Cube, index: int, max_samples: int) -> CubeStats:
    """Return the statistics of one cube, with at most ``max_samples`` of its values for the quantiles."""
    data = cube.data
    finite = np.isfinite(data)
    all_finite = finite.all(axis=0)
    field = np.asarray(cube.masks.get(FOV, np.ones(all_finite.shape, dtype=bool)))
    valid = all_finite & field
    values = data[:, valid]
    level = values[:, 0] if values.size else np.full(len(data), np.nan, np.float32)
    return CubeStats(
        shape=(data.shape[0], data.shape[1], data.shape[2]),
        digest=compute_content_hash(data),
        field_pixel_count=int(field.sum()),
        valid_pixel_count=int(valid.sum()),
        negative_share=float((values < 0).mean()) if values.size else 0.0,
        min_value=float(values.min()) if values.size else np.inf,
        max_value=float(values.max()) if values.size else -np.inf,
        sampled_values=_draw_sample(values.ravel(), index, max_samples),
        constant_bands=(values == level[:, None]).all(axis=1) & (values.shape[1] > 1),
        first_values=level,
        invalid_bands=np.logical_not((finite & field).any(axis=(1, 2))),
        mask_shares={name: float(np.mean(mask)) for name, mask in cube.masks.items()},
        has_surround=FOV not in cube.masks and _has_black_surround(data),
    )


def _draw_sample(values: Float32Array, index: int, max_samples: int) -> Float32Array:
    if values.size <= max_samples:
        return values.copy()
    return values[create_rng(0, "inspect", index).integers(0, values.size, max_samples)]


def _has_black_surround(data: Float32Array) -> bool:
    corners = data[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    return not corners.any() and float((~data.any(axis=0)).mean()) >= MIN_SURROUND_SHARE
