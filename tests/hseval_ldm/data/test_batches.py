"""Batches: a function of seed and step, independent of the number of ranks, padded and weighted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hseval.utils.distributed import Ranks
from hseval_ldm.data.batches import BatchLoader, load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset, compute_detail_weight
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.options import LdmOptions
from tests.helpers.sets import make_texture_set

COUNT = 6


@pytest.fixture(scope="module")
def data() -> CubeDataset:
    """Return cubes of 30 x 30, which is not a multiple of any compression."""
    cubes = make_texture_set(COUNT, size=30, bands=3)
    return CubeDataset(cubes, range(COUNT), Normalization.measure(cubes, range(COUNT)), memory_gib=1)


def make_loader(
    data: CubeDataset, ranks: Ranks | None = None, *, seed: int = 0, name: str = "a", **changes: Any
) -> BatchLoader:
    options = LdmOptions(**({"ae_batch": 4, "flip": "both", "crop": 16} | changes))
    return BatchLoader(data, options, ranks or Ranks(), seed=seed, name=name)


def are_equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("crop", [None, 16])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_load_the_parts_of_the_global_batch(data: CubeDataset, crop: int | None, ranks: int) -> None:
    for step in (0, 7):
        whole = make_loader(data, crop=crop).load(step)
        parts = [make_loader(data, Ranks(rank, ranks), crop=crop).load(step) for rank in range(ranks)]
        assert {len(part.cubes) for part in parts} == {4 // ranks}
        assert are_equal(whole, Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True))))


def test_a_batch_is_a_function_of_seed_step_and_name(data: CubeDataset) -> None:
    loaded = make_loader(data).load(3)
    assert are_equal(loaded, make_loader(data).load(3))
    for other in (make_loader(data).load(4), make_loader(data, seed=1).load(3), make_loader(data, name="b").load(3)):
        assert not are_equal(loaded, other)


def test_an_epoch_uses_each_cube_once(data: CubeDataset) -> None:
    plain = {"flip": "none", "crop": None, "ae_batch": 3}
    loaded = torch.cat([make_loader(data, **plain).load(step).cubes for step in range(2)])
    everything = load_whole_cubes(data, np.arange(COUNT), LdmOptions(), torch.device("cpu")).cubes
    matches = (loaded[:, None] == everything).flatten(2).all(dim=2)
    assert torch.equal(matches.sum(dim=0), torch.ones(COUNT, dtype=torch.int64))


@pytest.mark.parametrize(("crop", "compression", "side"), [(None, 8, 32), (None, 4, 32), (16, 8, 16), (32, 8, 32)])
def test_sides_are_multiples_of_the_compression(
    data: CubeDataset, crop: int | None, compression: int, side: int
) -> None:
    batch = make_loader(data, crop=crop, compression=compression).load(0)
    assert batch.cubes.shape == (4, 3, side, side) and batch.masks.shape == (4, 3, side, side)
    assert batch.field.shape == (4, 1, side, side) and batch.has_mask.shape == (4, 3)
    assert not batch.cubes.masked_select(~batch.field).any() and batch.field.any()


def test_cubes_masks_and_field_are_flipped_alike(data: CubeDataset) -> None:
    everything = data.load_batch(np.arange(COUNT))
    for step in range(3):
        batch = make_loader(data, crop=None, flip="both").load(step)
        for cube, masks, field in zip(batch.cubes, batch.masks, batch.field, strict=True):
            views = [
                (axes, index)
                for axes in ((), (1,), (2,), (1, 2))
                for index in range(COUNT)
                if torch.equal(cube[:, :30, :30], everything.cubes[index].flip(axes))
            ]
            axes, index = views[0]
            assert torch.equal(masks[:, :30, :30], everything.masks[index].flip(axes))
            assert torch.equal(field[:, :30, :30], everything.field[index].flip(axes))


def test_weights_follow_the_options(data: CubeDataset) -> None:
    loader = make_loader(data, crop=None, mask_gain=2.0, contrast_gain=0.5)
    batch, weight = loader.load_with_weights(1)
    assert are_equal(batch, loader.load(1))
    assert torch.equal(weight, compute_detail_weight(batch, mask_gain=2.0, contrast_gain=0.5))
    assert not weight.masked_select(~batch.field).any()
    flat = make_loader(data, crop=None, mask_gain=0.0, contrast_gain=0.0).compute_weights(batch)
    assert torch.allclose(flat, batch.field.float())
    assert not torch.allclose(weight, flat, atol=0.1)


def test_whole_cubes_are_neither_flipped_nor_cropped_but_padded(data: CubeDataset) -> None:
    indices, options = np.array([4, 1]), LdmOptions(compression=8, flip="both", crop=16)
    padded, plain = load_whole_cubes(data, indices, options, torch.device("cpu")), data.load_batch(indices)
    assert padded.cubes.shape[-2:] == (32, 32)
    assert torch.equal(padded.cubes[..., :30, :30], plain.cubes) and torch.equal(padded.has_mask, plain.has_mask)
