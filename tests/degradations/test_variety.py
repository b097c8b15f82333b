"""Set-wise degradations and near-copies."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import Cube
from hseval.degradations import find_degradation, list_degradation_names
from hseval.degradations.base import SetDegradation
from hseval.degradations.variety import compute_leading_component
from hseval.utils.random_streams import create_rng
from tests.helpers.degraded import COPY_NAMES, copy_cube, make_textured_cube

Array = NDArray[Any]
N = 200


def pick(name: str, features: Array, severity: float, *, seed: int = 0) -> Array:
    return cast("SetDegradation", find_degradation(name)).pick(features, severity, create_rng(seed, name))


def make_two_modes(n: int = N, seed: int = 0) -> tuple[Array, Array]:
    """Return features of two clusters, the rarer with a tenth of the cubes, and a mask of it."""
    rng = np.random.default_rng(seed)
    rare = rng.permutation(n) < n // 10
    return rng.standard_normal((n, 30)) + 4.0 * rare[:, None], rare


@pytest.mark.parametrize("name", list_degradation_names("set"))
def test_the_declared_share_of_n_picks_is_replaced_by_others(name: str) -> None:
    features, _ = make_two_modes()
    for severity in find_degradation(name).severities:
        picks = pick(name, features, severity)
        assert picks.shape == (N,) and picks.dtype == np.int64
        assert picks.min() >= 0 and picks.max() < N
        unchanged = picks == np.arange(N)
        assert N - unchanged.sum() == pytest.approx(severity / 100 * N, abs=0.51)
        assert set(picks[~unchanged]) <= set(np.flatnonzero(unchanged))  # no replaced cube is picked elsewhere
        assert np.unique(picks).size == unchanged.sum()
        np.testing.assert_array_equal(picks, pick(name, features, severity))


@pytest.mark.parametrize("name", list_degradation_names("set"))
def test_a_higher_severity_replaces_the_same_cubes_and_more(name: str) -> None:
    features, _ = make_two_modes()
    before = np.zeros(N, dtype=bool)
    for severity in find_degradation(name).severities:
        replaced = pick(name, features, severity) != np.arange(N)
        assert (replaced | ~before).all()
        before = replaced


@pytest.mark.parametrize("name", list_degradation_names("set"))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sets_of_a_few_cubes_give_valid_picks(name: str, n: int) -> None:
    picks = pick(name, np.random.default_rng(0).standard_normal((n, 5)), find_degradation(name).severities[-1])
    assert picks.shape == (n,) and picks.min() >= 0 and picks.max() < n


@pytest.mark.parametrize("name", list_degradation_names("set"))
def test_constant_features_are_accepted(name: str) -> None:
    assert pick(name, np.ones((20, 4)), 50.0).shape == (20,)


def test_the_rare_mode_is_dropped_first_and_completely_or_not_at_all() -> None:
    features, rare = make_two_modes()
    hits = set()
    for seed in range(8):
        replaced = pick("mode-dropped", features, 10.0, seed=seed) != np.arange(N)
        hits.add(float(replaced[rare].mean()))
        if replaced[rare].any():
            np.testing.assert_array_equal(replaced, rare)
    assert hits == {0.0, 1.0}  # either end of the axis, by the seed


def test_the_leading_axis_is_the_first_right_singular_projection() -> None:
    features, rare = make_two_modes()
    axis = compute_leading_component(features * np.linspace(1, 1e6, 30))  # units of a feature do not count
    assert abs(np.corrcoef(axis, rare)[0, 1]) > 0.95


def test_a_collapsed_set_has_less_variance_and_duplicates_do_not() -> None:
    features = np.random.default_rng(0).standard_normal((N, 3))
    variances = {name: features[pick(name, features, 90.0)].var(axis=0).sum() for name in ("collapse", "duplicates")}
    assert variances["collapse"] < 0.5 * features.var(axis=0).sum() < variances["duplicates"]


def test_remaining_cubes_repeat_about_equally_often() -> None:
    features, _ = make_two_modes()
    counts = np.bincount(pick("duplicates", features, 95.0), minlength=N)
    assert set(np.unique(counts[counts > 0])) <= set(range(15, 26))


def test_an_exact_copy_is_the_cube() -> None:
    cube = make_textured_cube()
    np.testing.assert_array_equal(copy_cube("copy-exact", cube).data, cube.data)


def test_a_noisy_copy_has_noise_of_one_percent_of_each_band() -> None:
    data = np.array([1.0, 20.0], dtype=np.float32)[:, None, None] * np.ones((2, 60, 60), dtype=np.float32)
    noise = copy_cube("copy-noise", Cube(data)).data / data - 1
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 0.01, rtol=0.05)


def test_a_shifted_copy_moves_by_two_pixels_with_its_structures_and_the_field_stays() -> None:
    cube = make_textured_cube()
    field, middle = cube.masks["fov"], np.s_[12:-12, 12:-12]
    observed = set()
    for seed in range(20):
        copy = copy_cube("copy-shift", cube, seed=seed)
        moves = [
            (y, x) for y in range(-3, 4) for x in range(-3, 4)
            if np.allclose(copy.data[:, *middle], np.roll(cube.data, (y, x), (1, 2))[:, *middle])
        ]  # fmt: skip
        assert len(moves) == 1
        observed.add(moves[0])
        np.testing.assert_array_equal(copy.masks["fov"], field)
        np.testing.assert_array_equal(copy.masks["vein"][middle], np.roll(cube.masks["vein"], moves[0], (0, 1))[middle])
        assert not copy.masks["vein"][~field].any()
        np.testing.assert_array_equal(copy.data[:, ~field], cube.data[:, ~field])
    assert observed == {(2, 0), (-2, 0), (0, 2), (0, -2)}


@pytest.mark.parametrize("shape", [(20, 20), (16, 24)], ids=str)
def test_flips_and_rotations_transform_masks_and_preserve_the_shape(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    data = rng.uniform(1, 2, (3, *shape)).astype(np.float32)
    cube = Cube(data, {"fov": data[0] > 1.1, "vein": data[0] > 1.7})
    turns = {"copy-flip": set(), "copy-rotation": set()}  # type: dict[str, set[bytes]]
    for name, observed in turns.items():
        for seed in range(24):
            copy = copy_cube(name, cube, seed=seed)
            assert copy.data.shape == data.shape and copy.data.flags.c_contiguous
            np.testing.assert_array_equal(copy.masks["vein"], copy.data[0] > 1.7)
            np.testing.assert_array_equal(copy.masks["fov"], copy.data[0] > 1.1)
            observed.add(copy.data.tobytes())
    flips = {np.ascontiguousarray(image).tobytes() for image in (data[:, ::-1], data[:, :, ::-1])}
    rotations = {np.ascontiguousarray(np.rot90(data, k, (1, 2))).tobytes() for k in (1, 2, 3)}
    upside = {np.ascontiguousarray(np.rot90(data, 2, (1, 2))).tobytes()}
    assert turns == {"copy-flip": flips, "copy-rotation": rotations if shape[0] == shape[1] else upside}


def test_a_brighter_or_darker_copy_is_off_by_five_percent() -> None:
    cube = make_textured_cube()
    field = cube.masks["fov"]
    copies = [copy_cube("copy-gain", cube, seed=seed).data[0, field] for seed in range(9)]
    ratios = {round(float((copy / cube.data[0, field]).mean()), 4) for copy in copies}
    assert ratios == {0.95, 1.05}


@pytest.mark.parametrize("name", COPY_NAMES)
def test_copies_are_reproducible_and_float32(name: str) -> None:
    cube = make_textured_cube()
    first = copy_cube(name, cube)
    assert first.data.dtype == np.float32 and all(mask.dtype == bool for mask in first.masks.values())
    np.testing.assert_array_equal(first.data, copy_cube(name, cube).data)
