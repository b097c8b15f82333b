"""Closed forms, what the metric is sensitive to, and the contracts."""

import io

import numpy as np
import pytest
from hseval_ndi import Ndi, NdiQuantiles, compute_difference_index

import hseval
from hseval.plugin import ArraySet
from hseval.testing import check_extractor, check_metric, find_plugin, make_example_set

WAVELENGTHS = np.array([500.0, 660.0, 680.0, 800.0, 900.0])


def make_flat_set(indices: np.ndarray, gain: float = 1.0, wavelengths: np.ndarray = WAVELENGTHS) -> ArraySet:
    """Return a cube for each index ``(n,)``: 670 nm is halfway between bands of 0.9 and 1.1 times ``1 - index``."""
    low = gain * (1 - indices)[:, None, None, None] * np.array([0.5, 0.9, 1.1])[:, None, None]
    high = np.broadcast_to(gain * (1 + indices)[:, None, None, None], (len(indices), 2, 1, 1))
    return ArraySet(np.concatenate([low, high], axis=1) + np.zeros((16, 16)), wavelengths=wavelengths)


def compute_ndi(samples: ArraySet, ref: ArraySet) -> float:
    score = hseval.score(samples, ref=ref, metrics=["ndi"], device="cpu", cache=False).scores[0]
    assert score.statistics is not None
    return score.statistics.full_value


def test_plugins_are_registered() -> None:
    assert find_plugin("metric", "ndi") is Ndi
    assert find_plugin("extractor", "ndi-levels") is NdiQuantiles


def test_plugins_fulfill_contracts() -> None:
    check_extractor(NdiQuantiles)
    check_metric(Ndi)


def test_difference_index_of_known_values() -> None:
    cube = make_flat_set(np.array([0.25])).cubes[0]
    assert np.allclose(compute_difference_index(cube, WAVELENGTHS, high=800, low=670), 0.25)
    assert np.allclose(compute_difference_index(cube, WAVELENGTHS, high=670, low=800), -0.25)
    assert np.allclose(
        compute_difference_index(cube, WAVELENGTHS, high=900, low=680), (1.25 - 0.75 * 1.1) / (1.25 + 0.75 * 1.1)
    )
    assert np.isnan(compute_difference_index(cube, WAVELENGTHS, high=901, low=670)).all()
    assert np.isnan(compute_difference_index(-cube, WAVELENGTHS, high=800, low=670)).all()


def test_score_equals_index_shift_and_ignores_gain() -> None:
    indices = np.linspace(-0.4, 0.4, 12)
    real = make_flat_set(indices)
    assert compute_ndi(make_flat_set(indices + 0.1, gain=3), real) == pytest.approx(0.1, abs=1e-5)
    assert compute_ndi(make_flat_set(indices, gain=3), real) == pytest.approx(0, abs=1e-5)


def test_scores_are_reported_by_structure() -> None:
    sets = [make_example_set(12, seed=seed) for seed in (1, 2)]
    report, output = hseval.score(sets[0], ref=sets[1], metrics=["ndi"], cache=False), io.StringIO()
    assert set(report.scores[0].details["structures"]) == {"disc", "fov"}
    renderer = find_plugin("renderer", "terminal")
    renderer(renderer.Options(details=True)).render(report, output)
    assert "ndi by structure" in output.getvalue()


def test_swapped_bands_are_detected_despite_equal_histograms() -> None:
    real = make_flat_set(np.linspace(-0.4, 0.4, 12))
    swapped = real.cubes.copy()
    swapped[:, 3:] = swapped[::-1, 3:]  # each band still has the same values, over all cubes
    assert compute_ndi(ArraySet(swapped, wavelengths=WAVELENGTHS), real) > 0.1


def test_wavelengths_outside_the_bands_give_a_hint() -> None:
    sets = [make_example_set(8, seed=seed) for seed in (1, 2)]
    far = {"ndi-levels": {"high": 1200}}
    score = hseval.score(sets[0], ref=sets[1], metrics=["ndi"], cache=False, options=far).scores[0]
    assert score.value is None
    assert "within the bands, 450 to 905 nm: --set ndi-levels.high=" in score.verdict
