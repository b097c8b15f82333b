"""A use of synthetic cubes: pretraining without labels on samples, on real cubes, on both, and on none.

A small encoder learns to predict hidden parts of cubes, with the same number of steps for all data. It is then frozen,
and linear probes are fitted on a few labeled real eyes: to classify pixels as artery, vein or optic nerve head, and
eyes as healthy or with veins short of oxygen. Scores are those of 200 other real eyes; intervals are over other seeds
(which eyes are labeled, initial weights, order of training) and other eyes.

    python examples/pretraining.py FOLDER [--ldm RUN] [--quick] [--record]

Real eyes are phantoms, so their truth is known. ``pca`` is fitted here on all training eyes; RUN is a run of the
bundled generator on the same eyes, such as that of ``make ldm-demo``. ``--record`` writes result and picture to where
the docs show them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pretraining_encoder import build_untrained, compute_features, pretrain
from pretraining_eyes import LOW_OXYGEN, Eyes, draw_eyes, draw_samples, find_training_eyes, fit_pca, mix
from pretraining_probe import Classifier, compute_balanced_accuracy, compute_interval, separate
from pretraining_report import NONE, OUTCOMES, SPECTRA, draw, format_tables

from hseval.extractors.encoder.network import Network
from hseval.extractors.encoder.options import FitOptions
from hseval.utils.atomic_files import write_text
from hseval.utils.random_streams import create_rng

ROOT = Path(__file__).resolve().parents[1]
TRAINING, TEST, TEST_LOW_OXYGEN, LABELED_LOW = 1, 12, 13, 14  # seeds of the phantom
SAMPLING_SEED = 3

Array = NDArray[Any]
Tables = dict[str, Array]  # outcome -> each eye's score, (seed, eye)
Encoder = Callable[[], Network | None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Numbers of eyes, and other sizes.

    Attributes:
        size: side of the images, px.
        drawn: healthy eyes for training; a run of ldm holds some of them out.
        many: number of these used for pretraining and for fitting generators.
        few: number of these that are labeled; as many eyes short of oxygen are labeled as well.
        test: eyes of either kind for computing scores.
        samples: of each generator.
        seeds: repetitions.
        fit: options of the encoder.
    """

    size: int = 64
    drawn: int = 256
    many: int = 224
    few: int = 16
    test: int = 100
    samples: int = 224
    seeds: int = 8
    fit: FitOptions = dataclasses.field(default_factory=lambda: FitOptions(steps=300))


QUICK = Plan(32, 16, 16, 8, 6, 8, 2, FitOptions(steps=2, batch=4, width=4))


@dataclasses.dataclass(frozen=True)
class Real:
    """The real eyes: healthy ones for training, labeled ones short of oxygen, and both kinds for testing."""

    healthy: Eyes
    low: Eyes
    test: Eyes
    test_low: Eyes


def main(folder: Path, *, ldm: Path | None = None, quick: bool = False, record: bool = False) -> dict[str, Any]:
    """Draw, pretrain, probe; write ``pretraining.json`` and ``pretraining.png``; return the result."""
    plan = QUICK if quick else Plan()
    folder.mkdir(parents=True, exist_ok=True)
    real, samples = make_eyes(folder, plan, ldm)
    plan = dataclasses.replace(plan, many=len(real.healthy))
    start = time.process_time()
    tables = run_seeds(real, samples, plan)
    by_seed = {arm: {name: table[name].mean(axis=1).tolist() for name in OUTCOMES} for arm, table in tables.items()}
    result = {
        "plan": dataclasses.asdict(plan),
        "generators": list(samples),
        "cpu_minutes": (time.process_time() - start) / 60,
        "by_seed": by_seed,
        "scores": {arm: compute_intervals(scores) for arm, scores in tables.items()},
        "gains": {
            arm: compute_intervals(subtract(scores, tables[NONE])) for arm, scores in tables.items() if arm != NONE
        },
        "beside_real": compute_differences(tables, list(samples), plan),
    }
    print(format_tables(result))
    save_result(result, folder, record=record)
    return result


def make_eyes(folder: Path, plan: Plan, ldm: Path | None) -> tuple[Real, dict[str, Eyes]]:
    """Return the real eyes, and samples of generators fitted on the training eyes."""
    size = plan.size
    training = draw_eyes(folder, plan.drawn, seed=TRAINING, size=size)
    training_eyes = training.subset((find_training_eyes(ldm, training) if ldm else range(plan.drawn))[: plan.many])
    real = Real(
        Eyes.of(training_eyes),
        Eyes.of(draw_eyes(folder, 4 * plan.few, seed=LABELED_LOW, size=size, shift=LOW_OXYGEN)),
        Eyes.of(draw_eyes(folder, plan.test, seed=TEST, size=size)),
        Eyes.of(draw_eyes(folder, plan.test, seed=TEST_LOW_OXYGEN, size=size, shift=LOW_OXYGEN)),
    )
    runs = {"pca": fit_pca(folder, training_eyes)} | ({"ldm": ldm} if ldm else {})
    samples = {name: draw_samples(folder, name, run, plan.samples, seed=SAMPLING_SEED) for name, run in runs.items()}
    return real, {name: Eyes.of(cubes) for name, cubes in samples.items()}


# The experiment.


def run_seeds(real: Real, samples: Mapping[str, Eyes], plan: Plan) -> dict[str, Tables]:
    """Return each arm's tables; arms share a seed's labeled eyes and initial weights, and the test eyes."""
    tables: dict[str, list[Tables]] = {}
    for seed in range(plan.seeds):
        few, low = (
            eyes.at(create_rng(seed, name).permutation(len(eyes))[: plan.few])
            for name, eyes in (("labelled healthy", real.healthy), ("labelled low", real.low))
        )
        for name, make in build_arms(real.healthy, few, samples, plan, seed).items():
            tables.setdefault(name, []).append(probe(make(), few, low, real))
            print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
    return {
        arm: {name: np.stack([table[name] for table in by_seed]) for name in OUTCOMES}
        for arm, by_seed in tables.items()
    }


def build_arms(real: Eyes, few: Eyes, samples: Mapping[str, Eyes], plan: Plan, seed: int) -> dict[str, Encoder]:
    """Return functions that build each arm's encoder; None means the spectra themselves."""

    def pretrain_on(*parts: Eyes) -> Encoder:
        return lambda: pretrain(mix(parts), plan.fit, seed=seed)

    encoders: dict[str, Encoder] = {
        SPECTRA: lambda: None,
        NONE: lambda: build_untrained(few, plan.fit, seed=seed),
        name_real_arm(plan.few): pretrain_on(few),
        name_real_arm(plan.many): pretrain_on(real),
    }
    encoders |= {name: pretrain_on(eyes) for name, eyes in samples.items()}
    encoders |= {f"{name_real_arm(plan.few)} + {name}": pretrain_on(few, eyes) for name, eyes in samples.items()}
    best = list(samples)[-1]
    return encoders | {f"{name_real_arm(plan.many)} + {best}": pretrain_on(real, samples[best])}


def name_real_arm(count: int) -> str:
    """Return the name of the arm pretrained on ``count`` real eyes."""
    return f"{count} real"


def probe(network: Network | None, few: Eyes, low: Eyes, real: Real) -> Tables:
    """Fit linear probes on labeled eyes; return each test eye's scores ``(eye,)``."""
    labeled, labeled_low, test, test_low = (
        list(compute_features(network, eyes)) for eyes in (few, low, real.test, real.test_low)
    )
    classifier = Classifier.fit(
        np.concatenate([eye.pixels for eye in labeled]), np.concatenate([eye.classes for eye in labeled])
    )
    structures = [compute_balanced_accuracy(classifier(eye.pixels), eye.classes) for eye in test]
    sides, true = (np.repeat([-1.0, 1.0], [len(eyes) for eyes in pair])
                   for pair in ((labeled, labeled_low), (test, test_low)))  # fmt: skip
    features, test_features = (
        np.stack([eye.features for eye in eyes]) for eyes in (labeled + labeled_low, test + test_low)
    )
    predicted = separate(features, sides, test_features)
    return {"structures": np.array(structures), "oxygen": (np.sign(predicted) == true).astype(float)}


# The result.


def subtract(table: Tables, base: Tables) -> Tables:
    """Return the differences of an arm from another, paired by seed and eye."""
    return {name: table[name] - base[name] for name in OUTCOMES}


def compute_differences(tables: Mapping[str, Tables], samples: list[str], plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the paired differences of interest: the gain from samples, and their deficit to real eyes."""
    few, many = name_real_arm(plan.few), name_real_arm(plan.many)
    pairs = [(f"{few} + {name}", few) for name in samples] + [(name, many) for name in samples] + [(few, many)]
    pairs.append((f"{many} + {samples[-1]}", many))
    return {f"{arm} against {base}": compute_intervals(subtract(tables[arm], tables[base])) for arm, base in pairs}


def compute_intervals(tables: Tables) -> dict[str, Any]:
    """Return each outcome's mean and interval as dictionaries."""
    return {name: compute_interval(table)._asdict() for name, table in tables.items()}


def save_result(result: Mapping[str, Any], folder: Path, *, record: bool) -> None:
    """Write result and picture to the folder, or to where the docs show them."""
    if record:
        sys.path.insert(0, str(ROOT))
        from benchmarks.helpers import machine

        machine.record("evidence/pretraining", result)
    else:
        write_text(folder / "pretraining.json", json.dumps(result, indent=1) + "\n")
    draw(result, ROOT / "docs" / "images" / "pretraining.png" if record else folder / "pretraining.png")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for eyes, samples and result")
    parser.add_argument("--ldm", type=Path, metavar="RUN", help="a run of the bundled generator on the same eyes")
    parser.add_argument("--quick", action="store_true", help="a test run of seconds")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/results and docs/images")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse_arguments()
    main(arguments.folder, ldm=arguments.ldm, quick=arguments.quick, record=arguments.record)
