"""Flips and crops: fixed lists of flips, draws from (seed, step) alone, and crops that contain valid pixels."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hseval_ldm.data.augmentation import (
    FLIP_AXES,
    Flip,
    apply_flips,
    choose_crop_offsets,
    crop_batch,
    draw_crop_candidates,
    draw_flips,
)
from hseval_ldm.data.normalization import Batch, Normalization
from tests.helpers.sets import make_texture_set


@pytest.fixture(scope="module")
def batch() -> Batch:
    data = make_texture_set(5, size=16, bands=3)
    return Normalization.measure(data, range(5)).to_batch(list(data))


def test_flips_are_those_of_numpy() -> None:
    image = torch.arange(24.0).reshape(2, 3, 4)
    expected = [image, np.flip(image.numpy(), 2), np.flip(image.numpy(), 1), np.flip(image.numpy(), (1, 2))]
    for flip, count in (("none", 1), ("horizontal", 2), ("both", 4)):
        assert len(FLIP_AXES[flip]) == count
        for axes, flipped in zip(FLIP_AXES[flip], expected, strict=False):
            np.testing.assert_array_equal(image.flip(axes), flipped)


@pytest.mark.parametrize("flip", get_args(Flip))
def test_cube_masks_and_field_are_flipped_alike(batch: Batch, flip: Flip) -> None:
    choices = np.arange(5) % len(FLIP_AXES[flip])
    flipped = apply_flips(batch, flip, choices)
    for i, choice in enumerate(choices):
        for name in ("cubes", "masks", "field"):
            assert torch.equal(getattr(flipped, name)[i], getattr(batch, name)[i].flip(FLIP_AXES[flip][choice]))
    assert torch.equal(flipped.has_mask, batch.has_mask)


def test_flips_depend_on_seed_and_step_and_cover_all_views() -> None:
    def draw(seed: int, step: int) -> list[int]:
        return draw_flips("both", seed=seed, step=step, count=64).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)
    counts = np.bincount(np.concatenate([draw(0, step) for step in range(64)]), minlength=4)
    assert (np.abs(counts - 1024) < 6 * np.sqrt(1024 * 0.75)).all()
    assert not draw_flips("none", seed=1, step=2, count=64).any()


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 24), st.integers(0, 99))
def test_candidates_lie_inside_the_cube(height: int, width: int, size: int, step: int) -> None:
    corners = draw_crop_candidates((height, width), size, seed=0, step=step, count=3)
    assert corners.shape == (3, 8, 2)
    assert (corners >= 0).all()
    assert (corners + np.minimum(size, (height, width)) <= (height, width)).all()


def test_every_corner_is_drawn() -> None:
    corners = draw_crop_candidates((7, 6), 4, seed=0, step=0, count=200)
    assert {tuple(corner) for corner in corners.reshape(-1, 2)} == {(y, x) for y in range(4) for x in range(3)}


def test_candidates_depend_on_seed_and_step() -> None:
    draws = {
        draw_crop_candidates((64, 64), 8, seed=a, step=b, count=4).tobytes()
        for a, b in ((0, 0), (0, 0), (0, 1), (1, 0))
    }
    assert len(draws) == 3


def test_crops_are_windows_of_the_batch(batch: Batch) -> None:
    offsets = np.array([[0, 0], [8, 8], [3, 5], [1, 7], [4, 4]])
    cropped = crop_batch(batch, 8, offsets)
    for i, (top, left) in enumerate(offsets):
        for name in ("cubes", "masks", "field"):
            assert torch.equal(getattr(cropped, name)[i], getattr(batch, name)[i, :, top : top + 8, left : left + 8])
    assert torch.equal(cropped.has_mask, batch.has_mask)


def test_a_cube_smaller_than_the_crop_is_not_cropped(batch: Batch) -> None:
    offsets = choose_crop_offsets(batch.field, 99, draw_crop_candidates((16, 16), 99, seed=0, step=0, count=5))
    assert all(torch.equal(a, b) for a, b in zip(crop_batch(batch, 99, offsets), batch, strict=True))


def test_the_first_candidate_with_enough_field_is_chosen_else_the_best() -> None:
    field = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    field[..., :4, :4] = True
    corners = np.array([[[4, 4], [3, 3], [2, 2], [1, 0], [0, 0]]])
    chosen = {
        share: choose_crop_offsets(field, 4, corners, min_share=share)[0].tolist() for share in (0.05, 0.25, 0.5, 1.0)
    }
    assert chosen == {0.05: [3, 3], 0.25: [2, 2], 0.5: [1, 0], 1.0: [0, 0]}
    assert choose_crop_offsets(field, 4, corners[:, :3], min_share=0.9).tolist() == [[2, 2]]


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 16), st.integers(0, 99))
def test_a_crop_contains_some_of_the_field_wherever_it_lies(y: int, x: int, size: int, step: int) -> None:
    field = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    field[0, 0, y, x] = True
    corner = choose_crop_offsets(field, size, draw_crop_candidates((16, 16), size, seed=0, step=step, count=1, tries=2))
    assert crop_batch(Batch(field, field, field, field), size, corner).field.shape == (1, 1, size, size)
    assert crop_batch(Batch(field, field, field, field), size, corner).field.any()


def test_without_a_valid_candidate_the_crop_is_centered_on_the_field() -> None:
    field = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    field[..., 19:22, 9:12] = True
    assert choose_crop_offsets(field, 8, np.zeros((1, 4, 2), dtype=int)).tolist() == [[20 - 4, 10 - 4]]


def test_an_empty_field_still_gives_a_crop() -> None:
    field = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    corners = draw_crop_candidates((8, 8), 4, seed=0, step=0, count=1)
    assert choose_crop_offsets(field, 4, corners).tolist() == corners[:, 0].tolist()


def test_ranks_with_their_slice_of_the_candidates_crop_like_one_rank(batch: Batch) -> None:
    corners = draw_crop_candidates((16, 16), 6, seed=4, step=9, count=5)
    whole = choose_crop_offsets(batch.field, 6, corners)
    slices = (slice(0, 2), slice(2, 5))
    local = [choose_crop_offsets(batch.field[part], 6, corners[part]) for part in slices]
    np.testing.assert_array_equal(np.concatenate(local), whole)
