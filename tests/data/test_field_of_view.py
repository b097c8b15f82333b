"""The field of view: pixels outside it have no effect, pixels inside it are never lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hseval.data.field_of_view import (
    compute_bounding_box,
    compute_canvas_shape,
    compute_pooling_weights,
    erode_fov,
    fill_outside,
    find_valid_pixels,
    group_by_bounding_box,
)


def make_disc(size: int, radius: float, *, stop: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(y, x)
    return (distance <= radius) & (distance >= stop)


def test_pixels_are_valid_inside_the_field_and_where_all_bands_are_finite() -> None:
    cubes = np.zeros((2, 3, 4, 5), dtype=np.float32)
    cubes[0, 1, 2, 3], cubes[1, 0, 0, 0] = np.nan, -np.inf
    fields = np.ones((2, 4, 5), dtype=bool)
    fields[:, -1] = False
    assert np.argwhere(~find_valid_pixels(cubes)).tolist() == [[0, 2, 3], [1, 0, 0]]
    assert (find_valid_pixels(cubes[0]) == find_valid_pixels(cubes)[0]).all()
    expected = fields.copy()
    expected[0, 2, 3] = expected[1, 0, 0] = False
    assert (find_valid_pixels(cubes, fields.astype(np.uint8)) == expected).all()


def test_the_box_holds_every_valid_pixel_and_no_empty_row() -> None:
    valid = np.zeros((9, 12), dtype=bool)
    valid[2, 5] = valid[6, 3] = True
    assert compute_bounding_box(valid) == (slice(2, 7), slice(3, 6))


def test_an_empty_field_has_the_whole_image_as_its_box() -> None:
    assert compute_bounding_box(np.zeros((4, 5), dtype=bool)) == (slice(0, 4), slice(0, 5))


def test_fields_are_grouped_by_box() -> None:
    valid = np.stack([make_disc(16, 5), make_disc(16, 7), make_disc(16, 5)])
    assert sorted(group_by_bounding_box(valid).values()) == [[0, 2], [1]]


def test_erosion_removes_the_rim_and_only_the_rim() -> None:
    inside = erode_fov(np.pad(np.ones((8, 8), dtype=bool), 3)[None])[0]
    assert inside.sum() == 36
    assert inside[4:10, 4:10].all()


def test_a_single_dead_pixel_costs_one_pixel() -> None:
    valid = np.ones((1, 12, 12), dtype=bool)
    valid[0, 5, 5] = False
    assert erode_fov(valid).sum() == 10 * 10 - 1


def test_a_field_too_thin_to_erode_is_unchanged() -> None:
    valid = np.zeros((1, 9, 9), dtype=bool)
    valid[0, 4] = True
    assert np.array_equal(erode_fov(valid), valid)


def test_erosion_does_not_depend_on_the_crop() -> None:
    valid = make_disc(24, 8)
    rows, columns = compute_bounding_box(valid)
    assert np.array_equal(erode_fov(valid[None])[0][rows, columns], erode_fov(valid[rows, columns][None])[0])


def fill(image: np.ndarray, valid: np.ndarray, *, margin: int = 16) -> np.ndarray:
    tensors = torch.from_numpy(image)[None, None], torch.from_numpy(valid)[None]
    return fill_outside(*tensors, canvas=compute_canvas_shape(*valid.shape, margin=margin))[0, 0].numpy()


@pytest.mark.parametrize("size", [16, 33, 64])
def test_valid_pixels_are_unchanged_and_constants_stay_constant(size: int) -> None:
    valid = make_disc(size, size / 2 - 1, stop=2)
    image = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    assert np.array_equal(fill(image, valid)[:size, :size][valid], image[valid])
    np.testing.assert_allclose(fill(np.full_like(image, 0.3), valid), 0.3, rtol=1e-5)


def test_values_outside_the_field_do_not_affect_the_fill() -> None:
    valid = make_disc(40, 17)
    image = np.random.default_rng(1).normal(size=(40, 40)).astype(np.float32)
    assert np.array_equal(fill(image, valid), fill(np.where(valid, image, 1e6).astype(np.float32), valid))


def test_the_fill_of_a_smooth_image_has_no_edge_anywhere_on_the_periodic_canvas() -> None:
    y, x = np.mgrid[:64, :64] / 64.0
    image, valid = (1 + y + 0.5 * x).astype(np.float32), make_disc(64, 31)
    canvas = fill(image, valid, margin=32)
    jumps = max(np.abs(canvas - np.roll(canvas, 1, axis=axis)).max() for axis in (0, 1))
    assert jumps < 0.15  # a black surround jumps by 1 to 2.5
    assert image[valid].min() - 1e-5 <= canvas.min() <= canvas.max() <= image[valid].max() + 1e-5


def test_canvases_contain_the_image_and_its_margin() -> None:
    assert compute_canvas_shape(224, 224, margin=32) == (256, 256)
    assert compute_canvas_shape(225, 16, margin=32) == (288, 64)


def test_pooling_weights_sum_to_one_and_exclude_uncovered_positions() -> None:
    coverage = torch.tensor([[[0.0, 0.5, 0.9, 1.0]]])
    weight = compute_pooling_weights(coverage)[0, 0]
    assert weight.sum() == pytest.approx(1)
    assert weight[:2].tolist() == [0, 0]
    assert 0 < weight[2] < weight[3]


def test_a_field_smaller_than_the_filter_is_pooled_over_its_center() -> None:
    coverage = torch.tensor([[[0.05, 0.2, 0.05]]])
    assert compute_pooling_weights(coverage)[0, 0].tolist() == [0, 1, 0]
