"""Closed forms, what the metric sees and does not see, and the contracts."""

import io

import numpy as np
import pytest
from hseval_ndi import Ndi, NdiLevels, difference_index

import hseval
from hseval import ArraySet
from hseval.core.plugin_manager import plugins
from hseval.testing import check_extractor, check_metric, example_set

NM = np.array([500.0, 660.0, 680.0, 800.0, 900.0])


def flat(indices: np.ndarray, gain: float = 1.0, nm: np.ndarray = NM) -> ArraySet:
    """Return a cube an index, ``(n,)``: 670 nm lies halfway between bands of 0.9 and 1.1 times ``1 - index``."""
    low = gain * (1 - indices)[:, None, None, None] * np.array([0.5, 0.9, 1.1])[:, None, None]
    high = np.broadcast_to(gain * (1 + indices)[:, None, None, None], (len(indices), 2, 1, 1))
    return ArraySet(np.concatenate([low, high], axis=1) + np.zeros((16, 16)), wavelengths=nm)


def value(samples: ArraySet, ref: ArraySet) -> float:
    found = hseval.score(samples, ref=ref, metrics=["ndi"], device="cpu", cache=False).scores[0]
    return float(found.details["full_value"])


def test_both_are_found_by_name() -> None:
    assert plugins().find("metric", "ndi") is Ndi
    assert plugins().find("extractor", "ndi-levels") is NdiLevels


def test_keep_their_contracts() -> None:
    check_extractor(NdiLevels)
    check_metric(Ndi)


def test_the_index_of_known_values() -> None:
    cube = flat(np.array([0.25])).cubes[0]
    assert np.allclose(difference_index(cube, NM, high=800, low=670), 0.25)
    assert np.allclose(difference_index(cube, NM, high=670, low=800), -0.25)
    assert np.allclose(difference_index(cube, NM, high=900, low=680), (1.25 - 0.75 * 1.1) / (1.25 + 0.75 * 1.1))
    assert np.isnan(difference_index(cube, NM, high=901, low=670)).all()
    assert np.isnan(difference_index(-cube, NM, high=800, low=670)).all()


def test_a_shift_of_the_index_is_the_score_and_gain_is_none() -> None:
    indices = np.linspace(-0.4, 0.4, 12)
    real = flat(indices)
    assert value(flat(indices + 0.1, gain=3), real) == pytest.approx(0.1, abs=1e-5)
    assert value(flat(indices, gain=3), real) == pytest.approx(0, abs=1e-5)


def test_each_structure_has_its_own_and_is_shown() -> None:
    sets = [example_set(12, seed=seed) for seed in (1, 2)]
    report, shown = hseval.score(sets[0], ref=sets[1], metrics=["ndi"], cache=False), io.StringIO()
    assert set(report.scores[0].details["structures"]) == {"disc", "fov"}
    plugins().build("renderer", "terminal").render(report, shown)
    assert "ndi by structure" in shown.getvalue()


def test_swapped_partners_are_seen_though_every_band_keeps_its_histogram() -> None:
    real = flat(np.linspace(-0.4, 0.4, 12))
    swapped = real.cubes.copy()
    swapped[:, 3:] = swapped[::-1, 3:]  # each band still has the same values, over all cubes
    assert value(ArraySet(swapped, wavelengths=NM), real) > 0.1


def test_bands_that_do_not_reach_say_what_to_do() -> None:
    sets = [example_set(8, seed=seed) for seed in (1, 2)]
    far = {"ndi-levels": {"high": 1200}}
    score = hseval.score(sets[0], ref=sets[1], metrics=["ndi"], cache=False, options=far).scores[0]
    assert score.value is None
    assert "within the bands, 450 to 905 nm: --set ndi-levels.high=" in score.verdict
