"""Are planted copies found, and how often is an honest cube taken for one? By ``authenticity``, phantom and real data.

A twentieth of the samples are replaced by near-copies of training cubes (the ``copies`` degradations); the other ones
are real cubes that nobody saw. Found is a copy below the metric's threshold; traced, one whose nearest training cube is
the one it was made from. Whether a copy is found does not depend on the other samples, so every repeat plants more of
each kind than a twentieth, and the score is taken with a twentieth of them.

False alarms are honest samples below the threshold, which is the k-th smallest distance of n held-out cubes: k /
(n + 1) of honest samples are expected there, at most 1 % from 99 held-out cubes on. Every repeat draws training,
held-out and sample cubes afresh (of Indian Pines: deals the same patches anew), because one threshold errs for all of
its samples alike; the interval is t's over repeats for the phantom. The patches of Indian Pines are few: their repeats
share cubes and have no interval. Cut into 12 px they leave 24 held-out ones, whose minimum 1 honest patch in 25 passes;
cut into 8 px, 99.

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
from hseval.utils.random_streams import create_rng

PLANTED = 0.05  # of the samples whose score is taken
FOUND, ALARMS = 0.95, 0.01  # the bars
EXPECTED_TO_FIND = ("copy-exact", "copy-noise", "copy-shift", "copy-flip", "copy-gain")
COLUMNS = 72  # of Indian Pines: the part that may be looked at, cut into patches that share no pixel

Array = NDArray[Any]
Columns = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Setting:
    """How many cubes of each set, how many copies of each kind, and how many repeats.

    ``size`` is in pixels; ``scene``: patches of Indian Pines, not phantom eyes.
    """

    size: int
    train: int
    held_out: int
    samples: int
    copies: int
    repeats: int
    scene: bool = False

    def roles(self, repeat: int) -> tuple[list[int], list[int], list[int]]:
        """Return the indices of training, held-out and sample cubes."""
        total = self.train + self.held_out + self.samples
        places = np.arange(repeat * total, (repeat + 1) * total)
        if self.scene:
            places = create_rng(repeat, "copies deal").permutation(total)
        train, held, samples = np.split(places, [self.train, self.train + self.held_out])
        return train.tolist(), held.tolist(), samples.tolist()


SETTINGS = {
    "phantom-64": Setting(size=64, train=200, held_out=200, samples=200, copies=20, repeats=10),
    "phantom-224": Setting(size=224, train=100, held_out=100, samples=100, copies=20, repeats=2),
    "indian-pines": Setting(size=12, train=24, held_out=24, samples=24, copies=24, repeats=10, scene=True),
    "indian-pines-8": Setting(size=8, train=30, held_out=99, samples=33, copies=30, repeats=10, scene=True),
}


def cube_of(size: int, scene: bool, index: int) -> tuple[Cube, Array]:
    """Return a cube and its wavelengths."""
    if scene:
        cubes, wavelengths = patches(size)
        return cubes[index], wavelengths
    from hseval.generators.phantom import Phantom
    from hseval.generators.phantom.plugin import PhantomOptions

    phantom = Phantom(PhantomOptions(size=size))
    sample = phantom.draw_sample(7, index)
    masks = {name: np.asarray(mask, dtype=bool) for name, mask in sample.masks.items()}
    return Cube(sample.cube, masks), np.asarray(phantom.wavelengths, dtype=np.float64)


@cache
def patches(size: int) -> tuple[list[Cube], Array]:
    """Return the patches of Indian Pines' left half, 16 bands, and the wavelengths."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
    from indian_pines import every_nth_band, load_scene  # type: ignore[import-not-found,unused-ignore]

    scene, wavelengths, _ = load_scene()
    bands, centres = every_nth_band(scene[:, :, :COLUMNS], wavelengths)
    corners = [(y, x) for y in range(0, scene.shape[1] - size + 1, size) for x in range(0, COLUMNS, size)]
    return [Cube(np.ascontiguousarray(bands[:, y : y + size, x : x + size])) for y, x in corners], centres


def maps_of(cube: Cube, wavelengths: Array) -> Columns:
    """Describe a cube as the core does: cropped to its field. Columns by name."""
    ready = preprocess_cube(cube, (FOV,))
    if ready is None:
        raise RuntimeError("a cube has no valid pixel")
    masks = {name: mask[None] for name, mask in ready.masks.items()}
    found = LowresMaps()(ready.data[None], wavelengths=wavelengths, masks=masks)
    return {LOWRES_MAPS: found[""][0], MAP_EXTENTS: found["pixels"][0]}


def described(index: int, *, size: int, scene: bool, copies: bool) -> dict[str, Columns]:
    """Return the maps of a cube, under ``""``, and of its near-copies by kind where they are asked for."""
    cube, wavelengths = cube_of(size, scene, index)
    found = {"": maps_of(cube, wavelengths)}
    for each in list_degradations("copies") if copies else ():
        copy = cast("CopyDegradation", each).copy(cube, wavelengths=wavelengths, rng=create_rng(index, each.name))
        found[each.name] = maps_of(copy, wavelengths)
    return found


def rows_of(maps: Sequence[Columns], names: Sequence[int]) -> FeatureTable:
    """Return maps as the rows of a set."""
    ids = np.array([str(name) for name in names])
    columns = {name: np.stack([each[name] for each in maps]) for name in (LOWRES_MAPS, MAP_EXTENTS)}
    return FeatureTable(columns, ids, ids, ids, np.arange(1.0), structures=(FOV,))


def one_repeat(setting: Setting, repeat: int, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Draw the sets, plant copies of every kind, and search."""
    train, held, samples = setting.roles(repeat)
    originals = train[: setting.copies]
    describe = partial(described, size=setting.size, scene=setting.scene)
    plain = pool.map(partial(describe, copies=False), [*train, *held, *samples], chunksize=8)
    maps = dict(zip([*train, *held, *samples], (found[""] for found in plain), strict=True))
    planted = list(pool.map(partial(describe, copies=True), originals, chunksize=2))
    kinds = [each.name for each in list_degradations("copies")]
    shown = [maps[i] for i in samples] + [copies[kind] for kind in kinds for copies in planted]
    metric = Authenticity()
    real, generated, base = metric.relate(
        real=rows_of([maps[i] for i in held], held),
        generated=rows_of(shown, samples + originals * len(kinds)),
        train=rows_of([maps[i] for i in train], train),
    )
    threshold, honest = compute_copy_threshold(real[DISTANCE]), len(samples)
    result: dict[str, Any] = {
        "threshold": threshold,
        "false_alarms": int((generated[DISTANCE][:honest] < threshold).sum()),
        "smallest_honest": float(generated[DISTANCE][:honest].min()),
    }
    for place, kind in enumerate(kinds):
        here = honest + place * len(originals) + np.arange(len(originals))
        few = max(round(PLANTED * honest), 1)
        score = metric.compare(
            real=real,
            generated=generated.select(np.r_[few:honest, here[:few]]),
            train=base,
            rng=create_rng(repeat, "copies score"),
        )
        result[kind] = {
            "found": int((generated[DISTANCE][here] < threshold).sum()),
            "traced": int((generated[NEAREST_ID][here] == generated.ids[here]).sum()),
            "distances": generated[DISTANCE][here].tolist(),
            "score": score.value,
        }
    return result


def binomial_interval(hits: int, count: int) -> tuple[float, float]:
    """Return Clopper and Pearson's 95 % interval of a share."""
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def t_interval(shares: Array) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of repeats that share no cube, or None where there are fewer than 3."""
    if len(shares) < 3:
        return None
    reach = float(t.ppf(0.975, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares)))
    return float(shares.mean()) - reach, float(shares.mean()) + reach


def summary(setting: Setting, repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is recorded of one kind of data."""
    alarms = np.array([each["false_alarms"] for each in repeats])
    honest = setting.samples * len(repeats)
    fresh = not setting.scene
    kinds = {}
    for kind in (each.name for each in list_degradations("copies")):
        found, traced = (sum(each[kind][word] for each in repeats) for word in ("found", "traced"))
        count = setting.copies * len(repeats)
        distances = np.concatenate([each[kind]["distances"] for each in repeats])
        kinds[kind] = {
            "copies": count,
            "found": found / count,
            "found_interval": binomial_interval(found, count) if fresh else None,
            "traced": traced / count,
            "median_distance": float(np.median(distances)),
            "largest_distance": float(distances.max()),
            "score": float(np.mean([each[kind]["score"] for each in repeats])),
        }
    return {
        **dataclasses.asdict(setting),
        "threshold": [each["threshold"] for each in repeats],
        "smallest_honest": min(each["smallest_honest"] for each in repeats),
        "false_alarms": {
            "honest": honest,
            "alarms": int(alarms.sum()),
            "share": float(alarms.sum() / honest),
            "expected": compute_copy_rank(setting.held_out) / (setting.held_out + 1),
            "interval_over_cubes": binomial_interval(int(alarms.sum()), honest) if fresh else None,
            "interval_over_repeats": t_interval(alarms / setting.samples) if fresh else None,
            "share_by_repeat": (alarms / setting.samples).tolist(),
        },
        "kinds": kinds,
    }


def show(name: str, result: dict[str, Any]) -> None:
    """Print one kind of data's table."""
    alarms, found = result["false_alarms"], result["kinds"]
    print(f"\n{name}: {result['train']} training, {result['held_out']} held-out cubes, {result['repeats']} repeats")
    print(f"{'copy':16}{'found':>8}{'traced':>8}{'median':>8}{'largest':>9}{'score':>8}")
    for kind, at in found.items():
        print(
            f"{kind:16}{at['found']:8.1%}{at['traced']:8.1%}{at['median_distance']:8.3f}"
            f"{at['largest_distance']:9.3f}{at['score']:8.3f}"
        )
    share = f"{alarms['share']:.2%}; expected {alarms['expected']:.2%}"
    print(f"false alarms: {alarms['alarms']} of {alarms['honest']}, {share}")
    print(f"their interval over cubes {alarms['interval_over_cubes']}, over repeats {alarms['interval_over_repeats']}")
    missed = [kind for kind in EXPECTED_TO_FIND if found[kind]["found"] < FOUND]
    print(f"found less than {FOUND:.0%} of: {', '.join(missed) or 'none'}")


def main() -> None:
    """Plant, search, print and record; data that are not asked for keep what was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, help="fewer repeats than are recorded")
    given = parser.parse_args()
    path = RESULTS / "evidence" / "copies.json"
    results = json.loads(path.read_text())["data"] if path.exists() else {}
    with ProcessPoolExecutor(given.workers) as pool:
        for name in given.data:
            setting = SETTINGS[name]
            setting = dataclasses.replace(setting, repeats=given.repeats or setting.repeats)
            repeats = [one_repeat(setting, repeat, pool) for repeat in range(setting.repeats)]
            results[name] = summary(setting, repeats)
            show(name, results[name])
            record(
                "evidence/copies",
                {"planted": PLANTED, "bars": {"found": FOUND, "false_alarms": ALARMS}, "data": results},
            )


if __name__ == "__main__":
    main()
