"""Detection rate of planted copies and rate of false alarms of ``authenticity``, on phantom and real data.

A twentieth of the samples are replaced by near-copies of training cubes (the ``copies`` degradations); the others are
independent real cubes. A copy is found if it is below the copy threshold, and traced if its nearest training cube is
its original. Whether a copy is found does not depend on the other samples, so every repeat plants more copies of each
kind than a twentieth, and computes the score with a twentieth of them.

False alarms are independent samples below the threshold, which is the k-th smallest distance of n held-out cubes: k /
(n + 1) of them are expected there, at most 1 % from 99 held-out cubes on. Every repeat draws new training, held-out and
sample cubes (of Indian Pines: a new assignment of the same patches), because the error of a threshold is shared by all
of its samples; the interval for the phantom is Student's t over repeats. The repeats of Indian Pines share its few
patches and have no interval. Patches of 12 px leave 24 held-out ones, so 1 independent patch in 25 is expected below
their minimum; patches of 8 px leave 99.

    python -m benchmarks.evidence.copies [--data phantom-64 phantom-224 indian-pines indian-pines-8] [--workers 2]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, t

from benchmarks.helpers.machine import RESULTS, record
from hseval.core.cubes import FOV, Cube
from hseval.core.feature_table import FeatureTable
from hseval.data.preprocessing import preprocess_cube
from hseval.degradations import list_degradations
from hseval.degradations.base import CopyDegradation
from hseval.extractors.maps import LowresMaps
from hseval.metrics.authenticity import DISTANCE, LOWRES_MAPS, MAP_EXTENTS, NEAREST_ID, Authenticity
from hseval.metrics.copying_tests import compute_copy_rank, compute_copy_threshold
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng

PLANTED = 0.05  # share of copies among the samples of a score
MIN_FOUND, MAX_FALSE_ALARMS = 0.95, 0.01  # targets
EXPECTED_TO_FIND = ("copy-exact", "copy-noise", "copy-shift", "copy-flip", "copy-gain")
COLUMNS = 72  # of Indian Pines: the part for development, cut into patches that share no pixel

Array = NDArray[Any]
Columns = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Setting:
    """Numbers of cubes in each set, of copies of each kind, and of repeats.

    ``size`` is in pixels; ``scene``: patches of Indian Pines instead of phantom eyes.
    """

    size: int
    train: int
    held_out: int
    samples: int
    copies: int
    repeats: int
    scene: bool = False

    def draw_roles(self, repeat: int) -> tuple[list[int], list[int], list[int]]:
        """Return the indices of training, held-out and sample cubes."""
        total = self.train + self.held_out + self.samples
        indices = np.arange(repeat * total, (repeat + 1) * total)
        if self.scene:
            indices = create_rng(repeat, "copies deal").permutation(total)
        train, held_out, samples = np.split(indices, [self.train, self.train + self.held_out])
        return train.tolist(), held_out.tolist(), samples.tolist()


SETTINGS = {
    "phantom-64": Setting(size=64, train=200, held_out=200, samples=200, copies=20, repeats=10),
    "phantom-224": Setting(size=224, train=100, held_out=100, samples=100, copies=20, repeats=2),
    "indian-pines": Setting(size=12, train=24, held_out=24, samples=24, copies=24, repeats=10, scene=True),
    "indian-pines-8": Setting(size=8, train=30, held_out=99, samples=33, copies=30, repeats=10, scene=True),
}


def make_cube(size: int, scene: bool, index: int) -> tuple[Cube, Array]:
    """Return a cube and its wavelengths."""
    if scene:
        cubes, wavelengths = load_patches(size)
        return cubes[index], wavelengths
    from hseval.generators.phantom import Phantom
    from hseval.generators.phantom.plugin import PhantomOptions

    phantom = Phantom(PhantomOptions(size=size))
    sample = phantom.draw_sample(7, index)
    masks = {name: np.asarray(mask, dtype=bool) for name, mask in sample.masks.items()}
    return Cube(sample.cube, masks), np.asarray(phantom.wavelengths, dtype=np.float64)


@cache
def load_patches(size: int) -> tuple[list[Cube], Array]:
    """Return the patches of the left half of Indian Pines, 16 bands, and the wavelengths."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
    from indian_pines import every_nth_band, load_scene  # type: ignore[import-not-found,unused-ignore]

    scene, wavelengths, _ = load_scene()
    bands, centers = every_nth_band(scene[:, :, :COLUMNS], wavelengths)
    corners = [(y, x) for y in range(0, scene.shape[1] - size + 1, size) for x in range(0, COLUMNS, size)]
    return [Cube(np.ascontiguousarray(bands[:, y : y + size, x : x + size])) for y, x in corners], centers


def compute_maps(cube: Cube, wavelengths: Array) -> Columns:
    """Return the low-resolution maps of a cube, cropped to its field as in a score: columns by name."""
    preprocessed = preprocess_cube(cube, (FOV,))
    if preprocessed is None:
        raise RuntimeError("a cube has no valid pixel")
    masks = {name: mask[None] for name, mask in preprocessed.masks.items()}
    maps = LowresMaps()(preprocessed.data[None], wavelengths=wavelengths, masks=masks)
    return {LOWRES_MAPS: maps[""][0], MAP_EXTENTS: maps["pixels"][0]}


def compute_copy_maps(index: int, *, size: int, scene: bool, copies: bool) -> dict[str, Columns]:
    """Return the maps of a cube, under ``""``, and with ``copies`` those of its near-copies by kind."""
    cube, wavelengths = make_cube(size, scene, index)
    maps = {"": compute_maps(cube, wavelengths)}
    for degradation in list_degradations("copies") if copies else ():
        rng = create_rng(index, degradation.name)
        copy = cast("CopyDegradation", degradation).copy(cube, wavelengths=wavelengths, rng=rng)
        maps[degradation.name] = compute_maps(copy, wavelengths)
    return maps


def build_features(maps: Sequence[Columns], names: Sequence[int]) -> FeatureTable:
    """Return the maps of several cubes as a feature table."""
    ids = np.array([str(name) for name in names])
    columns = {name: np.stack([columns[name] for columns in maps]) for name in (LOWRES_MAPS, MAP_EXTENTS)}
    return FeatureTable(columns, ids, ids, ids, np.arange(1.0), structures=(FOV,))


def run_repeat(setting: Setting, repeat: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Draw the sets, plant copies of every kind, and search for them."""
    train, held_out, samples = setting.draw_roles(repeat)
    originals = train[: setting.copies]
    extract = partial(compute_copy_maps, size=setting.size, scene=setting.scene)
    without_copies = pool.map(partial(extract, copies=False), [*train, *held_out, *samples], chunksize=8)
    maps = dict(zip([*train, *held_out, *samples], (by_kind[""] for by_kind in without_copies), strict=True))
    planted = list(pool.map(partial(extract, copies=True), originals, chunksize=2))
    kinds = [degradation.name for degradation in list_degradations("copies")]
    sample_maps = [maps[i] for i in samples] + [copies[kind] for kind in kinds for copies in planted]
    metric = Authenticity()
    real, generated, base = metric.relate(
        real=build_features([maps[i] for i in held_out], held_out),
        generated=build_features(sample_maps, samples + originals * len(kinds)),
        train=build_features([maps[i] for i in train], train),
    )
    threshold, independent_count = compute_copy_threshold(real[DISTANCE]), len(samples)
    result: dict[str, Any] = {
        "threshold": threshold,
        "false_alarms": int((generated[DISTANCE][:independent_count] < threshold).sum()),
        "smallest_honest": float(generated[DISTANCE][:independent_count].min()),
    }
    for number, kind in enumerate(kinds):
        indices = independent_count + number * len(originals) + np.arange(len(originals))
        count = max(round(PLANTED * independent_count), 1)
        score = metric.compare(
            real=real,
            generated=generated.select(np.r_[count:independent_count, indices[:count]]),
            train=base,
            rng=create_rng(repeat, "copies score"),
        )
        result[kind] = {
            "found": int((generated[DISTANCE][indices] < threshold).sum()),
            "traced": int((generated[NEAREST_ID][indices] == generated.ids[indices]).sum()),
            "distances": generated[DISTANCE][indices].tolist(),
            "score": score.value,
        }
    return result


def compute_binomial_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the Clopper-Pearson 95 % interval of a share."""
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def compute_t_interval(shares: Array) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of repeats that share no cube, or None for fewer than 3."""
    if len(shares) < 3:
        return None
    half_width = float(t.ppf(0.975, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares)))
    return float(shares.mean()) - half_width, float(shares.mean()) + half_width


def summarize(setting: Setting, repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of one data set."""
    alarms = np.array([repeat["false_alarms"] for repeat in repeats])
    independent_count = setting.samples * len(repeats)
    independent = not setting.scene
    kinds = {}
    for kind in (degradation.name for degradation in list_degradations("copies")):
        found, traced = (sum(repeat[kind][key] for repeat in repeats) for key in ("found", "traced"))
        count = setting.copies * len(repeats)
        distances = np.concatenate([repeat[kind]["distances"] for repeat in repeats])
        kinds[kind] = {
            "copies": count,
            "found": found / count,
            "found_interval": compute_binomial_interval(found, count) if independent else None,
            "traced": traced / count,
            "median_distance": float(np.median(distances)),
            "largest_distance": float(distances.max()),
            "score": float(np.mean([repeat[kind]["score"] for repeat in repeats])),
        }
    return {
        **dataclasses.asdict(setting),
        "threshold": [repeat["threshold"] for repeat in repeats],
        "smallest_honest": min(repeat["smallest_honest"] for repeat in repeats),
        "false_alarms": {
            "honest": independent_count,
            "alarms": int(alarms.sum()),
            "share": float(alarms.sum() / independent_count),
            "expected": compute_copy_rank(setting.held_out) / (setting.held_out + 1),
            "interval_over_cubes": compute_binomial_interval(int(alarms.sum()), independent_count)
            if independent
            else None,
            "interval_over_repeats": compute_t_interval(alarms / setting.samples) if independent else None,
            "share_by_repeat": (alarms / setting.samples).tolist(),
        },
        "kinds": kinds,
    }


def print_table(name: str, result: dict[str, Any]) -> None:
    """Print the table of one data set."""
    alarms, kinds = result["false_alarms"], result["kinds"]
    repeats = format_count(result["repeats"], "repeat")
    print(f"\n{name}: {result['train']} training, {result['held_out']} held-out cubes, {repeats}")
    print(f"{'copy':16}{'found':>8}{'traced':>8}{'median':>8}{'largest':>9}{'score':>8}")
    for kind, figures in kinds.items():
        print(
            f"{kind:16}{figures['found']:8.1%}{figures['traced']:8.1%}{figures['median_distance']:8.3f}"
            f"{figures['largest_distance']:9.3f}{figures['score']:8.3f}"
        )
    share = f"{alarms['share']:.2%}; expected {alarms['expected']:.2%}"
    print(f"false alarms: {alarms['alarms']} of {alarms['honest']}, {share}")
    print(f"interval over cubes {alarms['interval_over_cubes']}, over repeats {alarms['interval_over_repeats']}")
    missed = [kind for kind in EXPECTED_TO_FIND if kinds[kind]["found"] < MIN_FOUND]
    print(f"kinds with fewer than {MIN_FOUND:.0%} found: {', '.join(missed) or 'none'}")


def main() -> None:
    """Plant, search, print and record; the records of data that were not requested are preserved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, help="number of repeats, if not that of the recorded result")
    arguments = parser.parse_args()
    path = RESULTS / "evidence" / "copies.json"
    results = json.loads(path.read_text())["data"] if path.exists() else {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name in arguments.data:
            setting = SETTINGS[name]
            setting = dataclasses.replace(setting, repeats=arguments.repeats or setting.repeats)
            repeats = [run_repeat(setting, repeat, pool) for repeat in range(setting.repeats)]
            results[name] = summarize(setting, repeats)
            print_table(name, results[name])
            record(
                "evidence/copies",
                {"planted": PLANTED, "bars": {"found": MIN_FOUND, "false_alarms": MAX_FALSE_ALARMS}, "data": results},
            )


if __name__ == "__main__":
    main()
