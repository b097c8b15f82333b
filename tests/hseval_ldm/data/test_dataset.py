"""Batches from memory and from disk are equal, and detail weights follow their closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from hseval import open_set
from hseval.core.cubes import ArraySet
from hseval_ldm.data.dataset import CubeDataset, compute_detail_weight
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.data.prefetch import Prefetcher
from tests.helpers.sets import make_texture_set, save_set

PART = (5, 1, 2, 6)


@pytest.fixture(scope="module")
def data() -> ArraySet:
    plain = make_texture_set(8, size=16, bands=3)
    plain.cubes[2, :, 5:7, 5:9] = np.nan
    return plain


def open_dataset(data: ArraySet, memory: float) -> CubeDataset:
    return CubeDataset(data, PART, Normalization.measure(data, PART), memory_gib=memory)


def are_equal(one: Batch, other: Batch) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_from_memory_and_disk_are_bit_identical(data: ArraySet, tmp_path: Path) -> None:
    stored = open_set(save_set(tmp_path / "set.h5", data))
    normalization = Normalization.measure(data, PART)
    in_memory, on_disk = open_dataset(data, 1.0), CubeDataset(stored, PART, normalization, memory_gib=0.0)
    assert (in_memory.in_memory, on_disk.in_memory) == (True, False)
    for indices in ([0], [3, 1], [2, 2, 0, 1]):
        first, second = in_memory.load_batch(np.array(indices)), on_disk.load_batch(np.array(indices))
        assert are_equal(first, second)
        assert are_equal(first, normalization.to_batch([data[PART[i]] for i in indices]))
        assert torch.isfinite(first.cubes).all()


def test_batches_read_by_several_threads_equal_those_read_by_one(data: ArraySet, tmp_path: Path) -> None:
    stored = open_set(save_set(tmp_path / "set.h5", data))
    on_disk = CubeDataset(stored, PART, Normalization.measure(data, PART), memory_gib=0.0)
    batches = Prefetcher(lambda step: on_disk.load_batch(np.array([step % 4])), 24, workers=3)
    assert all(are_equal(batches.get(step), on_disk.load_batch(np.array([step % 4]))) for step in range(24))


def test_cubes_are_loaded_into_memory_only_if_they_fit(data: ArraySet) -> None:
    dataset = open_dataset(data, 1.0)
    assert (len(dataset), dataset.size) == (4, (16, 16))
    assert dataset.ids == tuple(data.ids[i] for i in PART)
    required = 4 * (4 * 3 + 3 + 1) * 16 * 16 / 2**30  # float32 bands, uint8 masks, the field
    assert open_dataset(data, required).in_memory
    assert not open_dataset(data, required * 0.999).in_memory


def test_the_caller_may_change_a_batch_from_memory(data: ArraySet) -> None:
    dataset = open_dataset(data, 1.0)
    before = dataset.load_batch(np.array([1]))
    dataset.load_batch(np.array([1])).cubes.fill_(7)
    assert are_equal(dataset.load_batch(np.array([1])), before)


def make_batch(cubes: torch.Tensor, masks: torch.Tensor, field: torch.Tensor) -> Batch:
    return Batch(cubes * field, masks * field, torch.ones(masks.shape[:2], dtype=torch.bool), field)


@pytest.fixture
def textured(data: ArraySet) -> Batch:
    return open_dataset(data, 1.0).load_batch(np.arange(4))


def test_weights_have_mean_one_in_the_field_of_every_cube_and_are_zero_outside(textured: Batch) -> None:
    weight = compute_detail_weight(textured, mask_gain=2.0, contrast_gain=1.0)
    assert weight.shape == (4, 1, 16, 16)
    assert weight.dtype == torch.float32
    assert not weight[~textured.field].any()
    assert (weight[textured.field] > 0).all()
    for i in range(4):
        assert weight[i][textured.field[i]].mean() == pytest.approx(1, abs=1e-5)


def test_without_gains_all_pixels_of_the_field_have_equal_weight(textured: Batch) -> None:
    weight = compute_detail_weight(textured, mask_gain=0, contrast_gain=0)
    torch.testing.assert_close(weight, textured.field.float())


def test_the_gain_of_a_structure_grows_as_its_share_shrinks() -> None:
    field = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    masks = torch.zeros(1, 4, 20, 20)
    masks[0, 0, :2] = 1  # a tenth: gain 1
    masks[0, 1, 4, :10] = 1  # a fortieth: gain 2
    masks[0, 2, 19, 19] = 1  # one in 400: sqrt(40), bounded to 4
    masks[0, 3] = 1  # the whole field has no gain
    masks[0, 1, 0, 0], masks[0, 1, 4, 0] = 1, 0  # where two overlap, the smaller one counts
    weight = compute_detail_weight(make_batch(torch.zeros(1, 2, 20, 20), masks, field), mask_gain=3.0, contrast_gain=0)
    expected = torch.ones(20, 20)
    expected[:2] = 1 + 3 * 1
    expected[4, 1:10] = expected[0, 0] = 1 + 3 * 2
    expected[19, 19] = 1 + 3 * 4
    torch.testing.assert_close(weight[0, 0], expected / expected.mean())


def test_contrast_is_the_distance_from_a_blur_inside_the_field(textured: Batch) -> None:
    weight = compute_detail_weight(textured, mask_gain=0, contrast_gain=0.5).numpy()
    for i in range(4):
        field = textured.field[i, 0].numpy()

        def blur(image: np.ndarray) -> np.ndarray:
            return gaussian_filter(image.astype(np.float64), 1.0, mode="constant", truncate=2.0)

        bands = [band.numpy() for band in textured.cubes[i]]
        contrast = np.mean([np.abs(band - blur(band) / np.maximum(blur(field), 1e-12)) for band in bands], axis=0)
        raw = (1 + 0.5 * np.minimum(contrast / contrast[field].mean(), 4)) * field
        np.testing.assert_allclose(weight[i, 0], raw / raw[field].mean(), rtol=1e-4)


def test_the_edge_of_the_field_and_a_flat_cube_have_no_contrast() -> None:
    y, x = np.mgrid[:24, :24] - 11.5
    field = torch.from_numpy(x**2 + y**2 < 100)[None, None]
    weight = compute_detail_weight(
        make_batch(torch.full((1, 3, 24, 24), 2.5), torch.zeros(1, 0, 24, 24), field), mask_gain=1.0, contrast_gain=5.0
    )
    torch.testing.assert_close(weight, field.float(), atol=2e-3, rtol=0)


def test_a_thin_line_has_more_weight_than_its_surroundings() -> None:
    cubes = torch.zeros(1, 3, 24, 24)
    cubes[..., 12] = -1.0
    field = torch.ones(1, 1, 24, 24, dtype=torch.bool)
    weight = compute_detail_weight(make_batch(cubes, torch.zeros(1, 0, 24, 24), field), mask_gain=0, contrast_gain=1.0)[
        0, 0
    ]
    assert (weight[:, 12] > 2 * weight[:, 0]).all()


def test_an_empty_field_has_no_weight(textured: Batch) -> None:
    empty = textured._replace(field=torch.zeros_like(textured.field))
    assert not compute_detail_weight(empty, mask_gain=1.0, contrast_gain=1.0).any()


def test_weights_of_a_cube_do_not_depend_on_its_batch(textured: Batch) -> None:
    alone = Batch(*(part[2:3] for part in textured))
    whole = compute_detail_weight(textured, mask_gain=2.0, contrast_gain=1.0)[2:3]
    torch.testing.assert_close(compute_detail_weight(alone, mask_gain=2.0, contrast_gain=1.0), whole)
