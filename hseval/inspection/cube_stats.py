"""What one cube tells to ``hseval info``: a few numbers, so that a set of any size is looked at in one pass."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FIELD, Cube
from hseval.utils.random_streams import stream

SURROUND = 0.01  # share of all-zero pixels from which a black surround is worth a word


@dataclasses.dataclass(frozen=True)
class CubeFacts:
    """What one cube adds to an inspection.

    Attributes:
        shape: ``(band, y, x)``.
        digest: sha256 of shape and pixels.
        field: pixels inside the field of view.
        valid: those of them that are finite in every band.
        negative: share of the valid values below 0.
        low: smallest valid value (Inf: there is none).
        high: largest valid value.
        sample: values drawn for the quantiles.
        constant: per band, whether all valid pixels hold one value.
        level: per band, the first valid pixel's value (what a constant band holds).
        unfit: per band, whether no pixel of the field is finite.
        areas: structure -> its mask's share of the picture.
        surround: whether a black surround is there that no field of view excludes.
    """

    shape: tuple[int, int, int]
    digest: bytes
    field: int
    valid: int
    negative: float
    low: float
    high: float
    sample: NDArray[np.float32]
    constant: NDArray[np.bool_]
    level: NDArray[np.float32]
    unfit: NDArray[np.bool_]
    areas: Mapping[str, float]
    surround: bool


def cube_facts(cube: Cube, index: int, budget: int) -> CubeFacts:
    """Return the facts of one cube; ``budget`` values of it are kept for the quantiles."""
    data = cube.data
    finite = np.isfinite(data)
    whole = finite.all(axis=0)
    field = np.asarray(cube.masks.get(FIELD, np.ones(whole.shape, dtype=bool)))
    valid = whole & field
    values = data[:, valid]
    level = values[:, 0] if values.size else np.full(len(data), np.nan, np.float32)
    return CubeFacts(
        shape=(data.shape[0], data.shape[1], data.shape[2]),
        digest=hashlib.sha256(repr(data.shape).encode() + data.tobytes()).digest(),
        field=int(field.sum()),
        valid=int(valid.sum()),
        negative=float((values < 0).mean()) if values.size else 0.0,
        low=float(values.min()) if values.size else np.inf,
        high=float(values.max()) if values.size else -np.inf,
        sample=_sample(values.ravel(), index, budget),
        constant=(values == level[:, None]).all(axis=1) & (values.shape[1] > 1),
        level=level,
        unfit=np.logical_not((finite & field).any(axis=(1, 2))),
        areas={name: float(np.mean(mask)) for name, mask in cube.masks.items()},
        surround=FIELD not in cube.masks and _black_surround(data),
    )


def _sample(values: NDArray[np.float32], index: int, budget: int) -> NDArray[np.float32]:
    if values.size <= budget:
        return values.copy()
    return values[stream(0, "inspect", index).integers(0, values.size, budget)]


def _black_surround(data: NDArray[np.float32]) -> bool:
    corners = data[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    return not corners.any() and float((~data.any(axis=0)).mean()) >= SURROUND
