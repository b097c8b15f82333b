"""Batches: a function of seed and step, the same whoever makes them, padded and weighted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hseval_ldm.data.batches import Batches, whole
from hseval_ldm.data.dataset import TrainingData, detail_weight
from hseval_ldm.data.normalization import Batch, Normalisation
from hseval_ldm.options import LdmOptions
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.sets import texture_set

COUNT = 6


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Cubes of 30 x 30, which no compression divides."""
    cubes = texture_set(COUNT, size=30, bands=3)
    return TrainingData.open(cubes, range(COUNT), Normalisation.measure(cubes, range(COUNT)), memory=1)


def batches(data: TrainingData, ranks: Ranks | None = None, *, seed: int = 0, name: str = "a", **given: Any) -> Batches:
    options = LdmOptions(**({"ae_batch": 4, "flip": "both", "crop": 16} | given))
    return Batches(data, options, ranks or Ranks(), seed=seed, name=name)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("crop", [None, 16])
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_make_the_parts_of_the_global_batch(data: TrainingData, crop: int | None, ranks: int) -> None:
    for step in (0, 7):
        all_of = batches(data, crop=crop).at(step)
        parts = [batches(data, Ranks(rank, ranks), crop=crop).at(step) for rank in range(ranks)]
        assert {len(part.cubes) for part in parts} == {4 // ranks}
        assert same(all_of, Batch(*(torch.cat(each) for each in zip(*parts, strict=True))))


def test_a_batch_is_a_function_of_seed_step_and_name(data: TrainingData) -> None:
    made = batches(data).at(3)
    assert same(made, batches(data).at(3))
    for other in (batches(data).at(4), batches(data, seed=1).at(3), batches(data, name="b").at(3)):
        assert not same(made, other)


def test_an_epoch_takes_each_cube_once(data: TrainingData) -> None:
    plain = {"flip": "none", "crop": None, "ae_batch": 3}
    taken = torch.cat([batches(data, **plain).at(step).cubes for step in range(2)])
    everything = whole(data, np.arange(COUNT), LdmOptions(), torch.device("cpu")).cubes
    matches = (taken[:, None] == everything).flatten(2).all(dim=2)
    assert torch.equal(matches.sum(dim=0), torch.ones(COUNT, dtype=torch.int64))


@pytest.mark.parametrize(("crop", "compression", "side"), [(None, 8, 32), (None, 4, 32), (16, 8, 16), (32, 8, 32)])
def test_sides_are_multiples_of_the_compression(
    data: TrainingData, crop: int | None, compression: int, side: int
) -> None:
    made = batches(data, crop=crop, compression=compression).at(0)
    assert made.cubes.shape == (4, 3, side, side) and made.masks.shape == (4, 3, side, side)
    assert made.field.shape == (4, 1, side, side) and made.known.shape == (4, 3)
    assert not made.cubes.masked_select(~made.field).any() and made.field.any()


def test_flips_turn_cubes_masks_and_field_alike(data: TrainingData) -> None:
    everything = data.batch(np.arange(COUNT))
    for step in range(3):
        made = batches(data, crop=None, flip="both").at(step)
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


def test_weights_are_those_of_the_options(data: TrainingData) -> None:
    maker = batches(data, crop=None, mask_gain=2.0, contrast_gain=0.5)
    made, weight = maker.weighted(1)
    assert same(made, maker.at(1))
    assert torch.equal(weight, detail_weight(made, mask_gain=2.0, contrast_gain=0.5))
    assert not weight.masked_select(~made.field).any()
    flat = batches(data, crop=None, mask_gain=0.0, contrast_gain=0.0).weight(made)
    assert torch.allclose(flat, made.field.float())
    assert not torch.allclose(weight, flat, atol=0.1)


def test_whole_cubes_are_as_they_are_but_padded(data: TrainingData) -> None:
    at = np.array([4, 1])
    made, plain = whole(data, at, LdmOptions(compression=8, flip="both", crop=16), torch.device("cpu")), data.batch(at)
    assert made.cubes.shape[-2:] == (32, 32)
    assert torch.equal(made.cubes[..., :30, :30], plain.cubes) and torch.equal(made.known, plain.known)
