"""Diagnosis: planted differences are reported by structure, wavelength and scale; scores like real are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hseval.core.cubes import ArraySet
from hseval.core.report import Report, Score
from hseval.core.report_file import load_report
from hseval.core.score_records import SplitStatistics
from hseval.reporting.diagnosis import (
    METRIC_DIAGNOSTICS,
    BandAxis,
    compute_excess,
    diagnose_report,
    find_peak_range,
    get_value_and_floor,
    list_worst,
)
from hseval.scoring.score import score
from tests.helpers.commands import Outcome
from tests.helpers.described_sets import replace_cubes
from tests.helpers.sets import make_texture_set, save_set

NM = np.linspace(450, 905, 6)
METRICS = ("spectral-kl", "spectral-angle", "band-covariance", "power-spectrum", "plausibility")


def make_score(name: str, value: dict[str, Any], floor: dict[str, Any], verdict: str = "worse than real") -> Score:
    statistics = SplitStatistics(6, 40, 40, 3.0, value_details=value, floor_details=floor)
    return Score(name=name, value=3.0, floor=1.0, better="lower", verdict=verdict, n=20, statistics=statistics)


def make_report(*scores: Score, wavelengths_known: bool = True) -> Report:
    reference = {"wavelengths": NM.tolist(), "wavelengths_known": wavelengths_known}
    return Report(scores, (), {"sets": {"reference": reference}})


def make_kl_details(curve: Any, *, shift: float = 0.0, std: float = 1.0) -> dict[str, Any]:
    means = {"reference": [1.0] * 6, "samples": [1.0 + shift] * 6}
    stds = {"reference": [1.0] * 6, "samples": [std] * 6}
    return {"value": float(np.mean(curve)), "by_wavelength": list(curve), "means": means, "deviations": stds}


FLAT = {"structures": {name: make_kl_details([0.1] * 6) for name in ("artery", "vein")}}


def test_the_peak_range_is_the_part_above_half_of_the_peak() -> None:
    assert find_peak_range([0.0, 1.0, 2.0, 1.0, 0.9, 2.0]) == (1, 2, 3)
    assert find_peak_range([5.0]) == (0, 0, 0)


def test_bands_are_named_by_peak_and_range() -> None:
    assert BandAxis(NM, True).format_peak([0, 0, 1, 0, 0, 0]) == "near 632 nm"
    assert BandAxis(NM, True).format_peak([0, 0.6, 1, 0, 0, 0]) == "near 632 nm (541 to 632 nm)"
    assert BandAxis(NM, True).format_peak([1, 1, 1, 1, 1, 1]) == "near 450 nm"
    assert BandAxis(range(6), False).format_peak([0, 0.6, 1, 0, 0, 0]) == "at band 2 (1 to 2)"
    assert BandAxis(NM, True).format_peak([0] * 6) == BandAxis(NM, True).format_peak([1.0]) == ""


def test_excess_needs_value_and_floor() -> None:
    score = make_score("spectral-kl", {"curve": [3.0, 2.0], "alone": 1.0}, {"curve": [1.0, 1.0]})
    assert compute_excess(score, "curve") == [2.0, 1.0]
    assert get_value_and_floor(score, "alone") is None
    assert (
        compute_excess(score, "missing") == compute_excess(dataclasses.replace(score, statistics=None), "curve") == []
    )


def test_the_worst_entries_are_the_largest_and_those_near_it() -> None:
    at_n = {"parts": {name: {"value": value} for name, value in (("a", 2.0), ("b", 9.0), ("c", 6.0), ("d", 0.5))}}
    floor = {"parts": {name: {"value": 1.0} for name in "abcd"}}
    assert list_worst(make_score("x", at_n, floor), "parts") == ["b", "c"]
    assert list_worst(make_score("x", at_n, floor), "parts", min_excess=1.0) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ({"shift": 0.5}, "in vein near 632 nm, where samples are brighter by 0.5 standard deviations of the real data"),
        ({"shift": -2.0}, "in vein near 632 nm, where samples are darker by 2 standard deviations of the real data"),
        ({"std": 1.5}, "in vein near 632 nm, where samples vary 1.5 times as much as real pixels"),
        ({}, "in vein near 632 nm, in the shape of their distribution"),
    ],
)
def test_the_structure_the_wavelength_and_the_direction_are_reported(planted: dict[str, float], expected: str) -> None:
    at_n = {
        "structures": {
            "artery": make_kl_details([0.2] * 6),
            "vein": make_kl_details([0.1, 0.1, 3.0, 0.1, 0.1, 0.1], **planted),
        }
    }
    assert diagnose_report(make_report(make_score("spectral-kl", at_n, FLAT))) == [
        f"spectral-kl: values differ most {expected}"
    ]


@pytest.mark.parametrize("verdict", ["like real", "closer than real", "no floor: too few samples", "not computed: x"])
def test_there_is_no_sentence_without_a_difference(verdict: str) -> None:
    at_n = {"structures": {"vein": make_kl_details([9.0] * 6)}}
    assert diagnose_report(make_report(make_score("spectral-kl", at_n, FLAT, verdict))) == []


@pytest.mark.parametrize("name", sorted(METRIC_DIAGNOSTICS))
def test_details_that_are_missing_give_no_sentence_and_no_error(name: str) -> None:
    score = make_score(name, {}, {})
    for variant in (score, dataclasses.replace(score, statistics=None)):
        assert diagnose_report(make_report(variant)) == diagnose_report(Report((variant,), (), {})) == []


def make_power_details(signed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    cycles, flat = [0.05, 0.1, 0.2, 0.4], [0.1] * 4
    at_n = {"frequencies": cycles, "by_frequency": np.abs(signed).tolist()}
    at_n["leaning_by_frequency"] = np.sign(signed).tolist()
    return at_n, {"frequencies": cycles, "by_frequency": flat}


@pytest.mark.parametrize(
    ("signed", "expected"),
    [
        ([0.1, 0.1, -0.2, -9], "too little fine structure, as after a blur (periods of about 2.5 px, by 9 dB at most)"),
        ([0.1, 0.1, 0.2, 4.0], "too much fine structure, as with noise (periods of about 2.5 px, by 4 dB at most)"),
        ([-5.0, -4.0, 0.1, 0.1], "too little coarse structure (periods of 10 to 20 px, by 5 dB at most)"),
        ([3.0, 3.1, 2.9, 3.0], "too much structure at every scale (periods of 2.5 to 20 px, by 3.1 dB at most)"),
    ],
)
def test_the_spatial_scale_is_reported(signed: list[float], expected: str) -> None:
    assert diagnose_report(make_report(make_score("power-spectrum", *make_power_details(signed)))) == [
        f"power-spectrum: {expected}"
    ]


def test_bands_that_differ_both_ways_are_no_blur() -> None:
    at_n, floor = make_power_details([3.0] * 4)
    at_n["leaning_by_frequency"] = [0.1] * 4
    (sentence,) = diagnose_report(make_report(make_score("power-spectrum", at_n, floor)))
    assert "3 dB, higher in some bands and lower in others" in sentence


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("worse than real", "like real", "like real"), "spectra differ, spatial structure alone does not"),
        (("like real", "worse than real", "like real"), "spatial structure differs, spectra alone do not"),
        (("worse than real", "worse than real", "like real"), "both spectra and spatial structure differ"),
        (("like real", "like real", "worse than real"), "but their combination does"),
        (("like real", "like real", "like real"), ""),
    ],
)
def test_the_two_views_are_read_together(verdicts: tuple[str, str, str], expected: str) -> None:
    scores = [
        Score(name=name, value=4.1, floor=2.0, better="lower", verdict=verdict, n=20)
        for name, verdict in zip(("fid-spectral", "fid-spatial", "fid"), verdicts, strict=True)
    ]
    sentences = diagnose_report(make_report(*scores))
    assert len(sentences) == bool(expected)
    assert all(expected in sentence and "fid-spectral 4.1, floor 2" in sentence for sentence in sentences)
    assert diagnose_report(make_report(scores[0])) == []  # one view alone gives no sentence


def degrade(kind: str, base: ArraySet) -> ArraySet:
    cubes = base.cubes.copy()
    if kind == "blur":
        cubes = gaussian_filter(cubes, (0, 0, 0.8, 0.8))
    elif kind == "dark":  # one structure, one band
        cubes[:, 2] = np.where(base.masks["dark"], 0.5 * cubes[:, 2], cubes[:, 2])
    elif kind == "negative":
        cubes[:, 1][np.random.default_rng(0).random(cubes[:, 1].shape) < 0.05] *= -1
    elif kind == "noise":
        cubes[:, 4] += np.random.default_rng(1).normal(0, 0.02, cubes[:, 4].shape)
    return replace_cubes(base, cubes)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("blur", ["power-spectrum: too little fine structure, as after a blur"]),
        ("dark", ["spectral-kl: values differ most in dark near 632 nm, where samples are darker"]),
        ("negative", ["plausibility: ", "(real: ", "negative: 0.8", "most near 541 nm"]),
        ("noise", ["power-spectrum: too much structure at", "plausibility: noise is ", "most near 814 nm"]),
    ],
)
def test_planted_differences_are_reported(kind: str, expected: list[str]) -> None:
    real, base = make_texture_set(24, seed=1), make_texture_set(16, seed=2)
    metrics = [name for name in METRICS if any(phrase.startswith(f"{name}:") for phrase in expected)]
    report = score(degrade(kind, base), ref=real, metrics=metrics, cache=False, quick=True)
    text = "\n".join(report.differences)
    for phrase in expected:
        assert phrase in text, text


def test_real_cubes_get_no_sentence() -> None:
    cubes = make_texture_set(48, seed=3)
    real, holdout = cubes.subset(range(32)), cubes.subset(range(32, 48))
    assert diagnose_report(score(holdout, ref=real, metrics=METRICS, cache=False, quick=True)) == []


def test_the_command_line_and_json_contain_the_sentences(hseval: Callable[..., Outcome], tmp_path: Any) -> None:
    paths = [save_set(tmp_path / "real.h5", make_texture_set(16, size=24, seed=4))]
    paths.append(save_set(tmp_path / "generated.h5", degrade("blur", make_texture_set(12, size=24, seed=5))))
    metrics = ",".join((*METRICS, "fid-spatial", "fid-spectral"))
    arguments = ("--metrics", metrics, "--json", tmp_path / "r.json", "--workers", "0", "--quick")
    outcome = hseval("score", paths[1], "--ref", paths[0], *arguments, "--set", "scattering.scales=2")
    assert outcome.status == 0, outcome.err
    assert "too little fine structure, as after a blur" in outcome.out
    report = load_report(tmp_path / "r.json")
    assert {score.name for score in report.scores} == set(metrics.split(","))
    assert all(score.value is not None for score in report.scores)
    assert tuple(diagnose_report(report)) == report.differences
