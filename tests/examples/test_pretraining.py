"""The pretraining example: it runs as a command, its probes agree with scikit-learn, its intervals cover."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pretraining.py"
RECORDED = ROOT / "benchmarks" / "results" / "evidence" / "pretraining.json"
TWO_STEPS = """
features_steps = 0
ae_steps = 1
ldm_steps = 1
compression = 4
latent_channels = 4
codes = 16
width = 8
blocks = 1
model = "vqvae"
base = 8
multipliers = [1, 2]
unet_blocks = 1
ae_batch = 4
ldm_batch = 4
timesteps = 100
steps = 2
held_out = 0.25
score_cubes = 0
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    return importlib.import_module("pretraining")


@pytest.fixture
def probe(example: Any) -> Any:
    return importlib.import_module("pretraining_probe")


def test_it_runs_as_a_command_and_includes_samples_of_ldm(example: Any, tmp_path: Path) -> None:
    pytest.importorskip("hseval_pca")
    from hseval.core.plugin_manager import get_plugins

    (tmp_path / "tiny.toml").write_text(TWO_STEPS)
    eyes = example.draw_eyes(tmp_path, example.QUICK.drawn, seed=example.TRAINING, size=example.QUICK.size)
    run = tmp_path / "run"
    run.mkdir()
    get_plugins().build("generator", "ldm", {"preset": str(tmp_path / "tiny.toml")}).fit(eyes, run, device="cpu")
    command = [sys.executable, str(EXAMPLE), str(tmp_path), "--quick", "--ldm", str(run)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "pretraining.json").read_text())
    assert process.stdout.strip() == example.format_tables(result)
    assert list(result["scores"]) == [
        "no encoder", "none", "8 real", "12 real", "pca", "ldm", "8 real + pca", "8 real + ldm", "12 real + ldm",
    ]  # fmt: skip
    for scores in (*result["scores"].values(), *result["gains"].values(), *result["beside_real"].values()):
        assert all(score["low"] <= score["mean"] <= score["high"] for score in scores.values())
    assert len({tuple(scores["structures"]) for scores in result["by_seed"].values()}) == len(result["scores"])
    assert (tmp_path / "pretraining.png").stat().st_size > 10_000


def test_a_run_trained_on_other_eyes_is_refused(example: Any, tmp_path: Path) -> None:
    from hseval import HsevalError
    from hseval_ldm.generator import Ldm
    from hseval_ldm.options import LdmOptions

    (tmp_path / "tiny.toml").write_text(TWO_STEPS)
    eyes, other_eyes = (example.draw_eyes(tmp_path, 4, seed=seed, size=32) for seed in (1, 2))
    Ldm(LdmOptions(preset=str(tmp_path / "tiny.toml"), stage="autoencoder")).fit(other_eyes, tmp_path, device="cpu")
    held_out = set(json.loads((tmp_path / "config.json").read_text())["held_out"])
    assert held_out
    known = {other_eyes.ids[index] for index in example.find_training_eyes(tmp_path, other_eyes)}
    assert known == set(other_eyes.ids) - held_out
    with pytest.raises(HsevalError, match=r"was trained on other eyes .* hseval sample phantom -n 4 --seed 1"):
        example.find_training_eyes(tmp_path, eyes)


def test_arms_start_from_the_same_weights_and_mix_in_equal_shares(example: Any, tmp_path: Path) -> None:
    import torch

    eyes = example.Eyes.of(example.draw_eyes(tmp_path, 6, seed=1, size=32))
    few, more = eyes.at([0, 1]), eyes.at([2, 3, 4, 5])
    options = example.QUICK.fit
    weights, other_weights = (
        dict(example.build_untrained(part, options, seed=3).named_parameters()) for part in (few, more)
    )
    for name, weight in weights.items():  # two steps of 1e-9, and their rounding in float32
        torch.testing.assert_close(weight, other_weights[name], rtol=0, atol=1e-8)
    both = example.mix([few, more])
    assert len(both) == 8 == len(set(both.ids))
    assert [name.split("/")[0] for name in both.ids] == [eyes.ids[at] for at in (0, 1, 0, 1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(both.cubes[:4], eyes.cubes[[0, 1, 0, 1]])


# Probes.


def test_pixels_are_classified_as_by_scikit_learns_weighted_ridge(probe: Any) -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    classes = rng.choice([0, 1, 3], p=[0.9, 0.07, 0.03], size=3000)  # class 2 does not occur
    features = (rng.normal(size=(3000, 5)) + 5 + classes[:, None] * rng.normal(size=5)) * np.logspace(-2, 2, 5)
    weight = 1 / 3 / np.array([(classes == label).sum() for label in classes])
    mean = weight @ features
    scale = np.sqrt(weight @ (features - mean) ** 2)
    ridge = Ridge(alpha=probe.PIXEL_PENALTY).fit(features / scale, np.eye(4)[classes], sample_weight=weight)
    theirs = np.where(np.arange(4) == 2, -np.inf, ridge.predict(features / scale)).argmax(axis=1)
    ours = probe.Classifier.fit(features, classes)(features)
    np.testing.assert_array_equal(ours, theirs)
    assert probe.compute_balanced_accuracy(ours, classes) > 0.6


def test_balanced_accuracy_weights_all_classes_equally(probe: Any) -> None:
    true = np.repeat([0, 1, 3], [90, 8, 2])
    assert probe.compute_balanced_accuracy(true, true) == 1
    assert probe.compute_balanced_accuracy(np.zeros_like(true), true) == pytest.approx(1 / 3)


@pytest.mark.parametrize("width", [6, 80])
def test_eyes_are_separated_as_by_scikit_learns_leave_one_out(probe: Any, width: int) -> None:
    from sklearn.linear_model import RidgeCV

    rng = np.random.default_rng(width)
    sides = np.repeat([-1.0, 1.0], [20, 12])
    features = rng.normal(size=(32, width)) * np.logspace(0, 3, width) + 7
    features[:, :3] += sides[:, None]
    other_eyes = rng.normal(size=(9, width)) * np.logspace(0, 3, width) + 7
    standardized, others = ((x - features.mean(axis=0)) / features.std(axis=0) for x in (features, other_eyes))
    penalties = probe.PENALTIES * np.linalg.eigvalsh(standardized @ standardized.T).mean()
    theirs = RidgeCV(alphas=penalties).fit(standardized, sides).predict(others)
    np.testing.assert_allclose(probe.separate(features, sides, other_eyes), theirs, rtol=1e-6, atol=1e-8)


# Intervals.


@pytest.mark.parametrize(("seed_std", "eye_std"), [(1.0, 0.5), (0.1, 2.0), (0.3, 3.0)])
def test_intervals_cover_the_mean_over_other_seeds_and_eyes(probe: Any, seed_std: float, eye_std: float) -> None:
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        seeds, eyes = seed_std * rng.normal(size=(5, 1)), eye_std * rng.normal(size=40)
        interval = probe.compute_interval(0.7 + seeds + eyes + 0.5 * rng.normal(size=(5, 40)))
        covered.append(interval.low <= 0.7 <= interval.high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_an_interval_is_students_t_if_only_seeds_differ(probe: Any) -> None:
    from scipy.stats import ttest_1samp

    means = np.array([0.5, 0.6, 0.8, 0.55])
    expected = ttest_1samp(means, 0).confidence_interval(0.95)
    interval = probe.compute_interval(np.repeat(means[:, None], 7, axis=1))
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert tuple(probe.compute_interval(np.full((3, 4), 0.25))) == (0.25, 0.25, 0.25)


# Docs.


def test_the_page_shows_the_recorded_result(example: Any) -> None:
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    assert example.format_tables(json.loads(RECORDED.read_text(encoding="utf-8"))) in page
