"""Normalization: numpy's statistics over valid pixels, nothing from outside the field, and records without loss."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from hseval.core.cubes import ArraySet, Cube, CubeSet
from hseval.utils.errors import HsevalError
from hseval_ldm.data.normalization import Normalization
from tests.helpers.sets import make_texture_set


class MixedSet(CubeSet):
    """A set of the given cubes, whose shapes and masks may differ."""

    def __init__(self, cubes: list[Cube]) -> None:
        self.cubes = cubes
        structures = tuple(sorted({name for cube in cubes for name in cube.masks}))
        plain = ArraySet(np.zeros((len(cubes), len(cubes[0].data), 1, 1)), ids=[c.id for c in cubes], location="mixed")
        self.info = dataclasses.replace(plain.info, structures=structures)

    def read(self, index: int) -> Cube:
        return self.cubes[index]

    def shape(self, index: int) -> tuple[int, int, int]:
        bands, height, width = self.cubes[index].data.shape
        return bands, height, width


def measure(data: CubeSet, **options: Any) -> Normalization:
    return Normalization.measure(data, range(len(data)), **options)


def replace_cubes(data: ArraySet, cubes: Any, **masks: Any) -> ArraySet:
    return ArraySet(cubes, wavelengths=data.wavelengths, masks={**data.masks, **masks}, ids=data.ids)


@pytest.fixture
def data() -> ArraySet:
    return make_texture_set(6, size=16, bands=4)


def test_statistics_are_those_of_the_valid_pixels(data: ArraySet) -> None:
    normalization = measure(data)
    pixels = np.moveaxis(data.cubes, 1, 0)[:, data.masks["fov"]].astype(np.float64)
    np.testing.assert_allclose(normalization.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(normalization.std, pixels.std(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(normalization.low, pixels.min(axis=1))
    np.testing.assert_array_equal(normalization.high, pixels.max(axis=1))
    assert (normalization.structures, normalization.size) == (("bright", "dark", "fov"), (16, 16))


def test_statistics_are_precise_where_the_mean_is_much_larger_than_the_standard_deviation(data: ArraySet) -> None:
    shifted = replace_cubes(data, data.cubes + np.float32(2**14))
    pixels = np.moveaxis(shifted.cubes, 1, 0)[:, data.masks["fov"]].astype(np.float64)
    np.testing.assert_allclose(measure(shifted).std, pixels.std(axis=1), rtol=1e-9)


def test_a_large_set_is_measured_on_cubes_drawn_by_the_seed() -> None:
    data = make_texture_set(8, size=16, bands=2)
    means = {measure(data, limit=3, seed=seed).mean.tobytes() for seed in (1, 1, 2, 3)}
    assert len(means) == 3
    expected = {
        np.moveaxis(part.cubes, 1, 0)[:, part.masks["fov"]].astype(float).mean(axis=1).round(12).tobytes()
        for indices in ([a, b, c] for a in range(8) for b in range(a) for c in range(b))
        for part in [ArraySet(data.cubes[indices], masks={"fov": data.masks["fov"][indices]})]
    }
    assert np.round(measure(data, limit=3, seed=1).mean, 12).tobytes() in expected


def test_only_the_given_cubes_are_measured(data: ArraySet) -> None:
    poisoned = data.cubes.copy()
    poisoned[5] = 1e6
    part = Normalization.measure(replace_cubes(data, poisoned), [0, 2, 3], seed=1)
    expected = Normalization.measure(data, [0, 2, 3], seed=1)
    assert part.to_record() == expected.to_record()


def test_a_cube_with_an_empty_field_changes_no_statistics(data: ArraySet) -> None:
    fov = data.masks["fov"].copy()
    fov[3] = False
    emptied = replace_cubes(data, data.cubes, fov=fov)
    expected = Normalization.measure(data, [0, 1, 2, 4, 5])
    assert measure(emptied).to_record() == expected.to_record()
    assert not any(part.any() for part in expected.to_batch([emptied[3]])._replace(has_mask=torch.zeros(1)))


def test_pixels_outside_the_field_are_ignored(data: ArraySet) -> None:
    poison = np.where(data.masks["fov"][:, None], data.cubes, np.float32(1e9))
    masks_outside = {name: mask | ~data.masks["fov"] for name, mask in data.masks.items() if name != "fov"}
    poisoned = replace_cubes(data, poison, **masks_outside)
    assert measure(poisoned).to_record() == measure(data).to_record()
    for part, expected in zip(measure(data).to_batch(list(poisoned)), measure(data).to_batch(list(data)), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_count_as_outside(data: ArraySet, bad: float) -> None:
    cubes = data.cubes.copy()
    cubes[1, 2, 6:9, 5:11] = bad
    hole = data.masks["fov"].copy()
    hole[1, 6:9, 5:11] = False
    broken, masked = replace_cubes(data, cubes), replace_cubes(data, data.cubes, fov=hole)
    assert measure(broken).to_record() == measure(masked).to_record()
    for part, expected in zip(measure(data).to_batch(list(broken)), measure(data).to_batch(list(masked)), strict=True):
        assert torch.equal(part, expected)


def test_a_batch_is_normalized_inside_and_zero_outside(data: ArraySet) -> None:
    batch, fov = measure(data).to_batch(list(data)), torch.from_numpy(data.masks["fov"])
    inside = batch.cubes.movedim(1, 0)[:, fov].double()
    torch.testing.assert_close(inside.mean(dim=1), torch.zeros(4, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(dim=1, correction=0), torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0)
    assert not batch.cubes.movedim(1, 0)[:, ~fov].any()
    assert torch.equal(batch.field[:, 0], fov)
    assert batch.has_mask.all()
    for number, name in enumerate(("bright", "dark", "fov")):
        assert torch.equal(batch.masks[:, number], torch.from_numpy(data.masks[name]).float())


def test_each_cube_of_a_batch_depends_on_that_cube_alone(data: ArraySet) -> None:
    whole, alone = measure(data).to_batch(list(data)), measure(data).to_batch([data[4]])
    assert all(torch.equal(a[4:5], b) for a, b in zip(whole, alone, strict=True))


def test_physical_values_are_restored(data: ArraySet) -> None:
    normalization = measure(data)
    restored = normalization.to_physical(normalization.to_batch(list(data)).cubes)
    fov = data.masks["fov"]
    np.testing.assert_allclose(
        restored.movedim(1, 0)[:, fov], np.moveaxis(data.cubes, 1, 0)[:, fov], rtol=1e-5, atol=1e-7
    )


def test_clipping_allows_the_measured_range_and_a_margin() -> None:
    cubes = np.array([[2.0, 4.0], [-1.0, 1.0], [0.05, 10.0]], dtype=np.float32).reshape(1, 3, 1, 2)
    normalization = measure(ArraySet(cubes))
    assert torch.equal(normalization.clip(torch.from_numpy(cubes)), torch.from_numpy(cubes))
    for extreme, expected in ((-99.0, [1.8, -1.2, 0.0]), (99.0, [4.2, 1.2, 10.995])):
        clipped = normalization.clip(torch.full((1, 3, 1, 1), extreme), margin=0.1)
        torch.testing.assert_close(clipped.flatten(), torch.tensor(expected))


@pytest.mark.parametrize("dead", [0.0, 0.3, 123.456])
def test_a_dead_band_is_not_scaled_up_to_noise(data: ArraySet, dead: float) -> None:
    cubes = data.cubes.copy()
    cubes[:, 1] = dead
    normalization = measure(replace_cubes(data, cubes))
    assert normalization.std[1] == pytest.approx(1e-2 * np.median(normalization.std[[0, 2, 3]]))
    cubes[0, 1] += 0.01 * normalization.std[0]
    assert normalization.to_batch([replace_cubes(data, cubes)[0]]).cubes[:, 1].abs().max() < 10


def test_the_network_input_is_cubes_then_masks_from_minus_one_to_one(data: ArraySet) -> None:
    batch = measure(data).to_batch(list(data))
    network_input = batch.to_network_input()
    assert network_input.shape == (6, 4 + 3, 16, 16)
    assert torch.equal(network_input[:, :4], batch.cubes)
    for number, name in enumerate(("bright", "dark", "fov")):
        assert torch.equal(
            network_input[:, 4 + number], torch.from_numpy(np.where(data.masks[name], 1.0, -1.0)).float()
        )


def test_a_missing_mask_is_unknown_in_that_cube_alone(data: ArraySet) -> None:
    cubes = [
        dataclasses.replace(c, masks={k: v for k, v in c.masks.items() if k != "dark" or i}) for i, c in enumerate(data)
    ]
    batch = measure(MixedSet(cubes)).to_batch(cubes)
    assert batch.has_mask.tolist() == [[True, False, True]] + [[True, True, True]] * 5
    dark, fov = batch.to_network_input()[0, 5], torch.from_numpy(data.masks["fov"][0])
    assert not dark[fov].any()
    assert (dark[~fov] == -1).all()


def test_without_fov_every_pixel_is_valid_and_no_fov_is_added() -> None:
    data = make_texture_set(3, size=16, bands=2, field=False)
    normalization = measure(data)
    batch = normalization.to_batch(list(data))
    assert normalization.structures == ("bright", "dark")
    assert batch.field.all()
    bare = ArraySet(data.cubes)
    assert measure(bare).to_batch(list(bare)).masks.shape == (3, 0, 16, 16)
    assert measure(bare).to_batch(list(bare)).to_network_input().shape == (3, 2, 16, 16)


def test_all_pixels_are_valid_in_a_cube_without_the_fov_of_the_others(data: ArraySet) -> None:
    cubes = [data[0], dataclasses.replace(data[1], masks={})]
    batch = measure(MixedSet(cubes)).to_batch(cubes)
    assert batch.has_mask.tolist() == [[True] * 3, [False] * 3]
    assert not batch.to_network_input()[1, 4:].any()


def test_cubes_of_two_shapes_are_refused_with_their_names_and_shapes(data: ArraySet) -> None:
    odd = Cube(np.zeros((4, 16, 15), dtype=np.float32), id="odd")
    with pytest.raises(HsevalError, match=r"^mixed: cube 'odd' has shape \(4, 16, 15\), cube 'cube-0-000' has \(4, 1"):
        measure(MixedSet([data[0], odd]))
    with pytest.raises(HsevalError, match=r"'odd' has shape \(4, 16, 15\), expected \(4, 16, 16\)"):
        measure(data).to_batch([odd])


def test_sets_without_information_are_refused(data: ArraySet) -> None:
    with pytest.raises(HsevalError, match="none of 6 cubes has a pixel in its field that is finite in all bands"):
        measure(replace_cubes(data, data.cubes, fov=np.zeros_like(data.masks["fov"])))
    with pytest.raises(HsevalError, match="all valid pixels of 6 cubes have the same values"):
        measure(replace_cubes(data, np.full_like(data.cubes, 0.1)))


@pytest.mark.parametrize("known", [True, False])
def test_the_record_is_lossless_in_json(data: ArraySet, known: bool) -> None:
    normalization = measure(data if known else ArraySet(data.cubes))
    restored = Normalization.from_record(json.loads(json.dumps(normalization.to_record())))
    for field in dataclasses.fields(Normalization):
        np.testing.assert_array_equal(getattr(restored, field.name), getattr(normalization, field.name))
    assert type(restored.size) is type(restored.structures) is tuple
    assert all(
        torch.equal(a, b) for a, b in zip(restored.to_batch([data[0]]), normalization.to_batch([data[0]]), strict=True)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "damaged"),
        ({"low": [0.0]}, "different numbers of bands"),
        ({"high": [float("nan")] * 4}, "finite"),
        ({"size": [3]}, "damaged"),
    ],
)
def test_a_damaged_record_is_refused(data: ArraySet, change: dict[str, Any], message: str) -> None:
    record = measure(data).to_record()
    with pytest.raises(HsevalError, match=message):
        Normalization.from_record({**record, **change})
    del record[next(iter(change))]
    with pytest.raises(HsevalError, match=f"{next(iter(change))!r} is missing"):
        Normalization.from_record(record)


def test_another_set_must_match_the_measured_one(data: ArraySet) -> None:
    normalization = measure(data)
    normalization.check_compatible(make_texture_set(2, size=16, bands=4, seed=5))
    normalization.check_compatible(ArraySet(data.cubes, masks=data.masks))  # wavelengths unknown: nothing to contradict
    shifted = ArraySet(
        data.cubes, wavelengths=data.wavelengths + np.array([0, 0.05, 3, 1]), masks=data.masks, location="B"
    )
    with pytest.raises(HsevalError, match=r"^B: band 2 is at 756\.333 nm, at 753\.333 nm in the checkpoint"):
        normalization.check_compatible(shifted)
    with pytest.raises(HsevalError, match=r"shape \(4, 8, 8\), the checkpoint was trained on \(4, 16, 16\)"):
        normalization.check_compatible(make_texture_set(2, size=8, bands=4))
    with pytest.raises(
        HsevalError, match="has the masks bright, dark, the checkpoint was trained with bright, dark, fov"
    ):
        normalization.check_compatible(make_texture_set(2, size=16, bands=4, field=False))


def add_outlier(data: ArraySet, value: float, *, share: float = 0.0, band: int = 2) -> ArraySet:
    """Return the set with a value in one pixel of cube 3, or in a share of the field of every cube."""
    cubes = data.cubes.copy()
    cubes[3, band, 8, 8] = value
    n_rows = int(share * 16)
    cubes[:, band, :n_rows] = np.where(n_rows, value, cubes[:, band, :n_rows])
    return replace_cubes(data, cubes)


@pytest.mark.parametrize("fill", [1e20, -1e20, 9.97e36, -3.4e38, 1e8])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_fill_value_is_refused_with_its_band_before_training(data: ArraySet, fill: float, share: float) -> None:
    with pytest.raises(HsevalError) as error:
        measure(add_outlier(data, fill, share=share))
    message = str(error.value)
    assert f"band 2 (753.333 nm) of cube 'cube-0-00{0 if share else 3}' holds {np.float32(fill):.6g}," in message
    assert "write NaN there, or exclude such pixels from the mask 'fov'" in message and "\n" not in message


def test_a_fill_value_in_a_dead_band_is_refused_too(data: ArraySet) -> None:
    cubes = data.cubes.copy()
    cubes[:, 1] = 0.3
    with pytest.raises(HsevalError, match=r"band 1 \(601\.667 nm\) of cube 'cube-0-003' holds 1e\+20, the .* 0\.3:"):
        measure(add_outlier(replace_cubes(data, cubes), 1e20, band=1))


def test_a_masked_fill_value_is_accepted(data: ArraySet) -> None:
    fov = data.masks["fov"].copy()
    fov[3, 8, 8] = False
    masked = replace_cubes(data, add_outlier(data, 1e20).cubes, fov=fov)
    assert measure(masked).to_record() == measure(replace_cubes(data, data.cubes, fov=fov)).to_record()
    assert measure(add_outlier(data, np.nan)).to_record() == measure(masked).to_record()


@pytest.mark.parametrize("tail", ["lognormal", "cauchy", "hot pixel", "counts of a few photons", "different scales"])
def test_heavy_tails_are_not_taken_for_fill_values(data: ArraySet, tail: str) -> None:
    rng = np.random.default_rng(0)
    shape = data.cubes.shape
    cubes = {
        "lognormal": lambda: np.exp(3 * rng.standard_normal(shape)),
        "cauchy": lambda: rng.standard_cauchy(shape),
        "hot pixel": lambda: add_outlier(data, 65535).cubes,
        "counts of a few photons": lambda: rng.poisson(0.01, shape) * 4000.0,
        "different scales": lambda: data.cubes * np.logspace(-12, 12, 4)[:, None, None],
    }[tail]()
    assert np.isfinite(measure(replace_cubes(data, cubes.astype(np.float32))).std).all()
