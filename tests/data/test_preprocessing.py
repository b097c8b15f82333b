"""Preprocessing of cubes for extractors."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.core.cubes import FOV, Cube
from hseval.data.preprocessing import compute_consensus_fov, get_fov_mask, preprocess_cube, resample_mask
from hseval.utils.errors import HsevalError
from tests.helpers.sets import make_texture_set


def make_cube(**masks: np.ndarray) -> Cube:
    data = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)
    return Cube(data, masks)


def make_field(*box: slice) -> np.ndarray:
    inside = np.zeros((6, 8), dtype=bool)
    inside[box] = True
    return inside


def test_a_cube_is_cropped_to_its_field_and_the_rest_is_nan() -> None:
    inside = make_field(slice(1, 4), slice(2, 7))
    inside[1, 2] = False
    preprocessed = preprocess_cube(make_cube(fov=inside), ("fov", "vein"))
    assert preprocessed is not None
    assert preprocessed.data.shape == (2, 3, 5)
    assert np.isnan(preprocessed.data[:, 0, 0]).all()
    assert np.isfinite(preprocessed.data).sum() == 2 * 14
    assert not preprocessed.masks["vein"].any()


def test_a_nonfinite_value_in_one_band_makes_the_pixel_invalid_in_all_bands_and_masks() -> None:
    broken = make_cube(fov=make_field(slice(None), slice(None)), vein=make_field(slice(None), slice(None)))
    broken.data[1, 2, 3] = np.inf
    preprocessed = preprocess_cube(broken, ("fov", "vein"))
    assert preprocessed is not None
    assert not preprocessed.masks["vein"][2, 3]
    assert np.isnan(preprocessed.data[:, 2, 3]).all()
    assert preprocessed.nonfinite_fraction == pytest.approx(1 / 48)


def test_a_cube_without_a_valid_pixel_gives_none() -> None:
    assert preprocess_cube(make_cube(fov=make_field(slice(0), slice(0))), ()) is None
    assert preprocess_cube(Cube(np.full((2, 4, 4), np.nan, dtype=np.float32)), ()) is None


def test_an_explicit_field_of_view_replaces_the_cubes_own() -> None:
    own, explicit = make_field(slice(0, 2), slice(0, 2)), make_field(slice(3, 6), slice(3, 8))
    assert (get_fov_mask(make_cube(fov=own), explicit) == explicit).all()


def test_a_field_of_one_pixel_is_the_full_frame() -> None:
    assert resample_mask(np.ones((1, 1), dtype=bool), (5, 7)).all()
    halves = np.array([[True, False]])
    assert (resample_mask(halves, (2, 6)) == [[True] * 3 + [False] * 3] * 2).all()


def test_the_consensus_contains_pixels_of_at_least_half_of_the_fields() -> None:
    cubes = make_texture_set(4)
    cubes.masks[FOV][:, 0, 0] = [True, True, False, False]
    cubes.masks[FOV][:, 0, 1] = [True, False, False, False]
    consensus = compute_consensus_fov(cubes)
    assert consensus is not None
    assert consensus[0, 0]
    assert not consensus[0, 1]


def test_there_is_no_consensus_without_fields_or_with_two_shapes() -> None:
    assert compute_consensus_fov(make_texture_set(2, field=False)) is None

    class TwoShapes(type(make_texture_set(1))):  # type: ignore[misc]
        def read_masks(self, index: int) -> dict[str, np.ndarray]:
            return {FOV: np.ones((8, 8 + index), dtype=bool)}

    cubes = TwoShapes(np.zeros((2, 1, 8, 8)), location="two-shapes")
    with pytest.raises(HsevalError, match="two-shapes: fields of view of"):
        compute_consensus_fov(cubes)
