"""What synthetic cubes are for: pretraining without labels, on samples, on real cubes, on both, and on none.

A small encoder learns to predict hidden parts of cubes, with as many steps whatever the cubes are. It is then frozen,
and linear probes learn from a few labelled real eyes: to tell arteries, veins and the optic nerve head pixel by
pixel, and eyes whose veins are short of oxygen from healthy ones. Scores are those of 200 other real eyes; intervals
hold for other seeds (which eyes are labelled, first weights, order of training) and other eyes.

    python examples/pretraining.py FOLDER [--ldm RUN] [--quick] [--record]

Real eyes are phantoms, so everything about them is known. ``pca`` is fitted here on all training eyes; RUN is a run of
the bundled generator on the same eyes, such as ``make ldm-demo`` leaves. ``--record`` writes result and picture to
where the docs show them.
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
from pretraining_encoder import described, pretrain, untrained
from pretraining_eyes import LOW_OXYGEN, Eyes, draw_eyes, draw_samples, fit_pca, known_to, mixed
from pretraining_probe import Classifier, balanced_accuracy, interval, separate
from pretraining_report import NONE, OUTCOMES, SPECTRA, draw, table

from hseval.extractors.encoder.checkpoint import FitOptions
from hseval.extractors.encoder.network import Network
from hseval.utils.atomic_files import write_text
from hseval.utils.random_streams import create_rng

ROOT = Path(__file__).resolve().parents[1]
TRAINING, TEST, TEST_LOW, LABELLED_LOW = 1, 12, 13, 14  # seeds of the phantom
SAMPLING_SEED = 3

Array = NDArray[Any]
Tables = dict[str, Array]  # outcome -> each eye's score, (seed, eye)
Encoder = Callable[[], Network | None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        size: of the pictures, px.
        drawn: healthy eyes for training; a run of ldm holds some of them out.
        many: of them, those pretrained on, and that generators are fitted on.
        few: of these, those that are labelled; as many short of oxygen are labelled besides.
        test: eyes of either kind that scores are measured on.
        samples: of each generator.
        seeds: repetitions.
        fit: of the encoder.
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
    """The real eyes: healthy ones for training, those short of oxygen to be labelled, and both kinds to be scored."""

    healthy: Eyes
    low: Eyes
    test: Eyes
    test_low: Eyes


def main(folder: Path, *, ldm: Path | None = None, quick: bool = False, record: bool = False) -> dict[str, Any]:
    """Draw, pretrain, probe; write ``pretraining.json`` and ``pretraining.png``; return the result."""
    plan = QUICK if quick else Plan()
    folder.mkdir(parents=True, exist_ok=True)
    real, samples = drawn(folder, plan, ldm)
    plan = dataclasses.replace(plan, many=len(real.healthy))
    start = time.process_time()
    tables = repeated(real, samples, plan)
    by_seed = {arm: {name: found[name].mean(axis=1).tolist() for name in OUTCOMES} for arm, found in tables.items()}
    result = {
        "plan": dataclasses.asdict(plan),
        "generators": list(samples),
        "cpu_minutes": (time.process_time() - start) / 60,
        "by_seed": by_seed,
        "scores": {arm: told(found) for arm, found in tables.items()},
        "gains": {arm: told(gained(found, tables[NONE])) for arm, found in tables.items() if arm != NONE},
        "beside_real": beside(tables, list(samples), plan),
    }
    print(table(result))
    keep(result, folder, record=record)
    return result


def drawn(folder: Path, plan: Plan, ldm: Path | None) -> tuple[Real, dict[str, Eyes]]:
    """Return the real eyes, and the samples of generators fitted on those for training."""
    size = plan.size
    training = draw_eyes(folder, plan.drawn, seed=TRAINING, size=size)
    known = training.subset((known_to(ldm, training) if ldm else range(plan.drawn))[: plan.many])
    real = Real(
        Eyes.of(known),
        Eyes.of(draw_eyes(folder, 4 * plan.few, seed=LABELLED_LOW, size=size, shift=LOW_OXYGEN)),
        Eyes.of(draw_eyes(folder, plan.test, seed=TEST, size=size)),
        Eyes.of(draw_eyes(folder, plan.test, seed=TEST_LOW, size=size, shift=LOW_OXYGEN)),
    )
    runs = {"pca": fit_pca(folder, known)} | ({"ldm": ldm} if ldm else {})
    samples = {name: draw_samples(folder, name, run, plan.samples, seed=SAMPLING_SEED) for name, run in runs.items()}
    return real, {name: Eyes.of(each) for name, each in samples.items()}


# The experiment.


def repeated(real: Real, samples: Mapping[str, Eyes], plan: Plan) -> dict[str, Tables]:
    """Return each arm's tables, over seeds; arms share a seed's labelled eyes and first weights, and the test eyes."""
    found: dict[str, list[Tables]] = {}
    for seed in range(plan.seeds):
        few, low = (
            eyes.at(create_rng(seed, name).permutation(len(eyes))[: plan.few])
            for name, eyes in (("labelled healthy", real.healthy), ("labelled low", real.low))
        )
        for name, make in arms(real.healthy, few, samples, plan, seed).items():
            found.setdefault(name, []).append(probed(make(), few, low, real))
            print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
    return {arm: {name: np.stack([each[name] for each in parts]) for name in OUTCOMES} for arm, parts in found.items()}


def arms(real: Eyes, few: Eyes, samples: Mapping[str, Eyes], plan: Plan, seed: int) -> dict[str, Encoder]:
    """Return what makes each arm's encoder; None stands for the spectra as they are."""

    def on(*parts: Eyes) -> Encoder:
        return lambda: pretrain(mixed(parts), plan.fit, seed=seed)

    made: dict[str, Encoder] = {
        SPECTRA: lambda: None,
        NONE: lambda: untrained(few, plan.fit, seed=seed),
        real_of(plan.few): on(few),
        real_of(plan.many): on(real),
    }
    made |= {name: on(each) for name, each in samples.items()}
    made |= {f"{real_of(plan.few)} + {name}": on(few, each) for name, each in samples.items()}
    best = list(samples)[-1]
    return made | {f"{real_of(plan.many)} + {best}": on(real, samples[best])}


def real_of(count: int) -> str:
    """Name the arm that is pretrained on so many real eyes."""
    return f"{count} real"


def probed(network: Network | None, few: Eyes, low: Eyes, real: Real) -> Tables:
    """Fit linear probes on labelled eyes; return each test eye's scores ``(eye,)``."""
    labelled, labelled_low, test, test_low = (
        list(described(network, eyes)) for eyes in (few, low, real.test, real.test_low)
    )
    classifier = Classifier.fit(
        np.concatenate([eye.pixels for eye in labelled]), np.concatenate([eye.classes for eye in labelled])
    )
    structures = [balanced_accuracy(classifier(eye.pixels), eye.classes) for eye in test]
    sides, true = (np.repeat([-1.0, 1.0], [len(each) for each in pair])
                   for pair in ((labelled, labelled_low), (test, test_low)))  # fmt: skip
    rows, others = (np.stack([eye.row for eye in eyes]) for eyes in (labelled + labelled_low, test + test_low))
    found = separate(rows, sides, others)
    return {"structures": np.array(structures), "oxygen": (np.sign(found) == true).astype(float)}


# The result.


def gained(found: Tables, base: Tables) -> Tables:
    """Return what an arm has beyond another, paired by seed and eye."""
    return {name: found[name] - base[name] for name in OUTCOMES}


def beside(tables: Mapping[str, Tables], samples: list[str], plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the differences that the question is about, paired: what samples add, and what they can't replace."""
    few, many = real_of(plan.few), real_of(plan.many)
    pairs = [(f"{few} + {name}", few) for name in samples] + [(name, many) for name in samples] + [(few, many)]
    pairs.append((f"{many} + {samples[-1]}", many))
    return {f"{one} against {other}": told(gained(tables[one], tables[other])) for one, other in pairs}


def told(found: Tables) -> dict[str, Any]:
    """Return each outcome's mean and interval, as JSON holds them."""
    return {name: interval(each)._asdict() for name, each in found.items()}


def keep(result: Mapping[str, Any], folder: Path, *, record: bool) -> None:
    """Write result and picture to the folder, or to where the docs show them."""
    if record:
        sys.path.insert(0, str(ROOT))
        from benchmarks.helpers import machine

        machine.record("evidence/pretraining", result)
    else:
        write_text(folder / "pretraining.json", json.dumps(result, indent=1) + "\n")
    draw(result, ROOT / "docs" / "images" / "pretraining.png" if record else folder / "pretraining.png")


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where eyes, samples and result are kept")
    parser.add_argument("--ldm", type=Path, metavar="RUN", help="a run of the bundled generator on the same eyes")
    parser.add_argument("--quick", action="store_true", help="the same in seconds, to see that it runs")
    parser.add_argument("--record", action="store_true", help="write to benchmarks/results and docs/images")
    return parser.parse_args()


if __name__ == "__main__":
    given = _given()
    main(given.folder, ldm=given.ldm, quick=given.quick, record=given.record)
