"""How well do the built-in segmenters find structures, what do they cost, and what does a score by their masks see?

1. Held out: phantom eyes of 224 px in two folds. A segmenter fitted on one finds artery, vein and disc in the other;
   Dice is over all pixels of all eyes, each found by the model that did not see it. Bars: 0.70 for artery and vein,
   0.90 for the disc. Processor seconds, one thread.
2. Scores: ``spectral-kl`` of other eyes of 64 px, by their true masks and by a segmenter's. The floor and the value of
   eyes as they are should be alike by both; oxygen shifted in veins or arteries should be seen by both; and noise,
   which the reference does not have, shows what a segmenter does with samples unlike what it was fitted on.

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


def eyes(count: int, *, size: int, seed: int, **options: Any) -> ArraySet:
    """Return phantom eyes with their true masks."""
    phantom = Phantom(PhantomOptions(size=size, **options))
    drawn = list(phantom.sample(count, seed=seed))
    masks = {name: np.stack([eye.masks[name] for eye in drawn]) for name in (*BARS, FOV)}
    cubes = np.stack([eye.cube for eye in drawn])
    return ArraySet(cubes, wavelengths=phantom.wavelengths, masks=masks, ids=[eye.id for eye in drawn])


def held_out(name: str, data: ArraySet) -> dict[str, Any]:
    """Return a segmenter's held-out Dice over two folds, and its processor seconds."""
    structures = sorted(BARS)
    counts: NDArray[np.int64] = np.zeros((len(structures), 3), dtype=np.int64)
    fitting = finding = 0.0
    for fold in range(FOLD_COUNT):
        halves = [data.subset(range(part, len(data), FOLD_COUNT)) for part in (fold, 1 - fold)]
        seen, other = (PreparedSet(half, structures, None) for half in halves)
        segmenter = get_plugins().build("segmenter", name)
        started = time.process_time()
        segmenter.fit(seen)
        fitting += time.process_time() - started
        for cube in other:
            started = time.process_time()
            found = segmenter.segment(cube.data[None], wavelengths=data.wavelengths)
            finding += time.process_time() - started
            true = np.stack([cube.masks[each] for each in structures])
            counts += count_agreement(np.stack([found[each][0] for each in structures]), true)
    reached = dict(zip(structures, dice(counts).tolist(), strict=True))
    return {
        "dice": reached,
        "bars_met": all(reached[each] >= bar for each, bar in BARS.items()),
        "fit_seconds": fitting / FOLD_COUNT,
        "segment_seconds_a_cube": finding / len(data),
    }


def scored(name: str, samples: ArraySet, ref: ArraySet) -> dict[str, Any]:
    """Return ``spectral-kl`` by a segmenter's masks, and by the true ones."""
    score = hseval.score(samples, ref=ref, metrics=["spectral-kl"], segmenter=name, workers=0)["spectral-kl"]
    told = score.details["segmenter"]
    by_structure = {each: part["value"] for each, part in score.details["structures"].items()}
    own = score.details["own_masks"]
    return {
        "value": score.value,
        "floor": score.floor,
        "verdict": score.verdict,
        "structures": by_structure,
        "true_masks": {each: own[each] for each in ("value", "floor", "verdict")}
        | {"structures": {each: part["value"] for each, part in own["structures"].items()}},
        "held_out_dice": told["dice"],
        "dice_on_samples": told["agreement_with_samples"],
    }


def shown(name: str, kind: str, found: dict[str, Any]) -> str:
    """Return one line."""
    true = found["true_masks"]
    veins = f"vein {found['structures']['vein']:.3f} ({true['structures']['vein']:.3f})"
    return (
        f"{name}, {kind}: {found['value']:.3f} over {found['floor']:.3f}, {found['verdict']} "
        f"(true masks {true['value']:.3f} over {true['floor']:.3f}, {true['verdict']}); {veins}; "
        f"Dice on samples { ({each: round(value, 2) for each, value in found['dice_on_samples'].items()}) }"
    )


def main() -> None:
    """Measure, print and record; what is done is recorded at once."""
    set_threads(1)
    result: dict[str, Any] = {
        "eyes": EYES,
        "size": LARGE,
        "fitted_on": EYES // FOLD_COUNT,
        "held_out": {},
        "scores": {},
    }
    large = eyes(EYES, size=LARGE, seed=1)
    for name in NAMES:
        result["held_out"][name] = held_out(name, large)
        print(name, result["held_out"][name], flush=True)
        record("evidence/segmenters", result)
    ref = eyes(CUBES, size=SMALL, seed=2)
    samples = {kind: eyes(CUBES, size=SMALL, seed=3, **options) for kind, options in KINDS.items()}
    for name in NAMES:
        result["scores"][name] = {}
        for kind, data in samples.items():
            result["scores"][name][kind] = scored(name, data, ref)
            print(shown(name, kind, result["scores"][name][kind]), flush=True)
            record("evidence/segmenters", result)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HSEVAL_CACHE"] = folder
        main()
