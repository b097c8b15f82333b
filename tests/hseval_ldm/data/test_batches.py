"""Batches: a function of seed and step, the same whoever makes them, padded and weighted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hseval_ldm.data.batches import BatchLoader, load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset, compute_detail_weight
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.options import LdmOptions
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.sets import texture_set

COUNT = 6


@pytest.fixture(scope="module")
def data() -> CubeDataset:
    """Cubes of 30 x 30, which no compression divides."""
    cubes = texture_set(COUNT, size=30, bands=3)
    return CubeDataset.open(cubes, range(COUNT), Normalization.measure(cubes, range(COUNT)), memory_gib=1)


def batches(
    data: CubeDataset, ranks: Ranks | None = None, *, seed: int = 0, name: str = "a", **given: Any
) -> BatchLoader:
    options = LdmOptions(**({"ae_batch": 4, "flip": "both", "crop": 16} | given))
    return BatchLoader(data, options, ranks or Ranks(), seed=seed, name=name)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("crop", [None, 16])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_make_the_parts_of_the_global_batch(data: CubeDataset, crop: int | None, ranks: int) -> None:
    for step in (0, 7):
        all_of = batches(data, crop=crop).load(step)
        parts = [batches(data, Ranks(rank, ranks), crop=crop).load(step) for rank in range(ranks)]
        assert {len(part.cubes) for part in parts} == {4 // ranks}
        assert same(all_of, Batch(*(torch.cat(each) for each in zip(*parts, strict=True))))


def test_a_batch_is_a_function_of_seed_step_and_name(data: CubeDataset) -> None:
    made = batches(data).load(3)
    assert same(made, batches(data).load(3))
    for other in (batches(data).load(4), batches(data, seed=1).load(3), batches(data, name="b").load(3)):
        assert not same(made, other)


def test_an_epoch_takes_each_cube_once(data: CubeDataset) -> None:
    plain = {"flip": "none", "crop": None, "ae_batch": 3}
    taken = torch.cat([batches(data, **plain).load(step).cubes for step in range(2)])
    everything = load_whole_cubes(data, np.arange(COUNT), LdmOptions(), torch.device("cpu")).cubes
    matches = (taken[:, None] == everything).flatten(2).all(dim=2)
    assert torch.equal(matches.sum(dim=0), torch.ones(COUNT, dtype=torch.int64))


@pytest.mark.parametrize(("crop", "compression", "side"), [(None, 8, 32), (None, 4, 32), (16, 8, 16), (32, 8, 32)])
def test_sides_are_multiples_of_the_compression(
    data: CubeDataset, crop: int | None, compression: int, side: int
) -> None:
    made = batches(data, crop=crop, compression=compression).load(0)
    assert made.cubes.shape == (4, 3, side, side) and made.masks.shape == (4, 3, side, side)
    assert made.field.shape == (4, 1, side, side) and made.has_mask.shape == (4, 3)
    assert not made.cubes.masked_select(~made.field).any() and made.field.any()


def test_flips_turn_cubes_masks_and_field_alike(data: CubeDataset) -> None:
    everything = data.load_batch(np.arange(COUNT))
    for step in range(3):
        made = batches(data, crop=None, flip="both").load(step)
        for cube, masks, field in zip(made.cubes, made.masks, made.field, strict=True):
            views = [
                (axes, index)
                for axes in ((), (1,), (2,), (1, 2))
                for index in range(COUNT)
                if torch.equal(cube[:, :30, :30], everything.cubes[index].flip(axes))
            ]
            axes, index = views[0]
            assert torch.equal(masks[:, :30, :30], everything.masks[index].flip(axes))
            assert torch.equal(field[:, :30, :30], everything.field[index].flip(axes))


def test_weights_are_those_of_the_options(data: CubeDataset) -> None:
    maker = batches(data, crop=None, mask_gain=2.0, contrast_gain=0.5)
    made, weight = maker.load_with_weights(1)
    assert same(made, maker.load(1))
    assert torch.equal(weight, compute_detail_weight(made, mask_gain=2.0, contrast_gain=0.5))
    assert not weight.masked_select(~made.field).any()
    flat = batches(data, crop=None, mask_gain=0.0, contrast_gain=0.0).compute_weights(made)
    assert torch.allclose(flat, made.field.float())
    assert not torch.allclose(weight, flat, atol=0.1)


def test_whole_cubes_are_as_they_are_but_padded(data: CubeDataset) -> None:
    at = np.array([4, 1])
    made, plain = (
        load_whole_cubes(data, at, LdmOptions(compression=8, flip="both", crop=16), torch.device("cpu")),
        data.load_batch(at),
    )
    assert made.cubes.shape[-2:] == (32, 32)
    assert torch.equal(made.cubes[..., :30, :30], plain.cubes) and torch.equal(made.has_mask, plain.has_mask)
