"""Accuracy and cost of the built-in segmenters, and the sensitivity of a score that uses their masks.

1. Held-out accuracy: phantom eyes of 224 px in two folds. A segmenter fitted on one finds artery, vein and disc in the
   other; Dice is over all pixels of all eyes, each segmented by the model that was not fitted on it. Targets: 0.70 for
   artery and vein, 0.90 for the disc. Processor seconds, one thread.
2. Scores: ``spectral-kl`` of other eyes of 64 px, with their true masks and with a segmenter's. Floor and value of
   unchanged eyes should agree; shifted oxygen in veins or arteries should be detected with both; and noise, which the
   reference does not have, shows how a segmenter behaves on samples unlike its training data.

    python -m benchmarks.evidence.segmenters
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hseval
from benchmarks.helpers.machine import record, set_threads
from hseval.core.cubes import FOV, ArraySet
from hseval.core.plugin_manager import get_plugins
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions
from hseval.scoring.segmentation.folds import FOLD_COUNT
from hseval.scoring.segmentation.segmented_set import PreparedSet, count_agreement, dice

NAMES = ("pixels", "unet")
BARS = {"artery": 0.70, "vein": 0.70, "onh": 0.90}
LARGE, EYES = 224, 64  # part 1
SMALL, CUBES = 64, 96  # part 2
KINDS: dict[str, dict[str, Any]] = {
    "as the reference": {},
    "veins, 5 points more oxygen": {"vein_saturation_shift": 0.05},
    "veins, 10 points more oxygen": {"vein_saturation_shift": 0.10},
    "veins, 20 points more oxygen": {"vein_saturation_shift": 0.20},
    "arteries, 10 points less oxygen": {"artery_saturation_shift": -0.10},
    "10 times the noise": {"noise": 10.0},
}


def draw_eyes(count: int, *, size: int, seed: int, **options: Any) -> ArraySet:
    """Return phantom eyes with their true masks."""
    phantom = Phantom(PhantomOptions(size=size, **options))
    eyes = list(phantom.sample(count, seed=seed))
    masks = {name: np.stack([eye.masks[name] for eye in eyes]) for name in (*BARS, FOV)}
    cubes = np.stack([eye.cube for eye in eyes])
    return ArraySet(cubes, wavelengths=phantom.wavelengths, masks=masks, ids=[eye.id for eye in eyes])


def measure_held_out(name: str, data: ArraySet) -> dict[str, Any]:
    """Return a segmenter's held-out Dice over two folds, and its processor seconds."""
    structures = sorted(BARS)
    counts: NDArray[np.int64] = np.zeros((len(structures), 3), dtype=np.int64)
    fitting = segmenting = 0.0
    for fold in range(FOLD_COUNT):
        halves = [data.subset(range(part, len(data), FOLD_COUNT)) for part in (fold, 1 - fold)]
        training, test = (PreparedSet(half, structures, None) for half in halves)
        segmenter = get_plugins().build("segmenter", name)
        started = time.process_time()
        segmenter.fit(training)
        fitting += time.process_time() - started
        for cube in test:
            started = time.process_time()
            masks = segmenter.segment(cube.data[None], wavelengths=data.wavelengths)
            segmenting += time.process_time() - started
            true = np.stack([cube.masks[structure] for structure in structures])
            counts += count_agreement(np.stack([masks[structure][0] for structure in structures]), true)
    by_structure = dict(zip(structures, dice(counts).tolist(), strict=True))
    return {
        "dice": by_structure,
        "bars_met": all(by_structure[structure] >= bar for structure, bar in BARS.items()),
        "fit_seconds": fitting / FOLD_COUNT,
        "segment_seconds_a_cube": segmenting / len(data),
    }


def compute_score(name: str, samples: ArraySet, ref: ArraySet) -> dict[str, Any]:
    """Return ``spectral-kl`` with a segmenter's masks and with the true ones."""
    score = hseval.score(samples, ref=ref, metrics=["spectral-kl"], segmenter=name, workers=0)["spectral-kl"]
    masks = score.segmentation
    assert masks is not None
    assert masks.own_masks is not None
    by_structure = {structure: part["value"] for structure, part in score.details["structures"].items()}
    own = masks.own_masks
    true_structures = {structure: part["value"] for structure, part in (own.structures or {}).items()}
    return {
        "value": score.value,
        "floor": score.floor,
        "verdict": score.verdict,
        "structures": by_structure,
        "true_masks": {
            "value": own.value,
            "floor": own.floor,
            "verdict": own.verdict,
            "structures": true_structures,
        },
        "held_out_dice": masks.dice,
        "dice_on_samples": masks.agreement,
    }


def format_line(name: str, kind: str, result: dict[str, Any]) -> str:
    """Return the scores of one kind of samples on one line."""
    true = result["true_masks"]
    veins = f"vein {result['structures']['vein']:.3f} ({true['structures']['vein']:.3f})"
    return (
        f"{name}, {kind}: {result['value']:.3f}, floor {result['floor']:.3f}, {result['verdict']} "
        f"(true masks {true['value']:.3f}, floor {true['floor']:.3f}, {true['verdict']}); {veins}; "
        f"Dice on samples { ({structure: round(value, 2) for structure, value in result['dice_on_samples'].items()}) }"
    )


def main() -> None:
    """Measure, print and record after each step."""
    set_threads(1)
    result: dict[str, Any] = {
        "eyes": EYES,
        "size": LARGE,
        "fitted_on": EYES // FOLD_COUNT,
        "held_out": {},
        "scores": {},
    }
    large = draw_eyes(EYES, size=LARGE, seed=1)
    for name in NAMES:
        result["held_out"][name] = measure_held_out(name, large)
        print(name, result["held_out"][name], flush=True)
        record("evidence/segmenters", result)
    ref = draw_eyes(CUBES, size=SMALL, seed=2)
    samples = {kind: draw_eyes(CUBES, size=SMALL, seed=3, **options) for kind, options in KINDS.items()}
    for name in NAMES:
        result["scores"][name] = {}
        for kind, data in samples.items():
            result["scores"][name][kind] = compute_score(name, data, ref)
            print(format_line(name, kind, result["scores"][name][kind]), flush=True)
            record("evidence/segmenters", result)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HSEVAL_CACHE"] = folder
        main()
