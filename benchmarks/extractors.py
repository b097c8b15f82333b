"""Which extractor sees what? ``fid`` by each of them, on degraded real cubes, ranked by the smallest dose that is told.

Every degradation of ``hseval qualify`` but planted copies, which is not what ``fid`` is for, on phantom eyes of 64 px
and on patches of Indian Pines (AVIRIS), columns 0 to 71; columns from 75 on are held back from all tuning. The encoder
is fitted on other eyes than are degraded, and, as there are no others to be had, on the very patches that are: its rank
there flatters it. The backbone has random weights: none are fetched.

The rule: on each degradation the extractors are ranked by the smallest dose from which on all are told from the floor
(blind: last; equal doses share the mean of their ranks); what counts is the mean rank over degradations. Monotone is a
curve whose Spearman correlation with the dose is at least 0.95.

    python benchmarks/extractors.py [--data phantom-64 indian-pines] [--out FOLDER] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, record
from numpy.typing import NDArray
from scipy.stats import rankdata

from hseval.cubes import FIELD
from hseval.degradations import all_of
from hseval.degradations.base import Kind
from hseval.open import open_set
from hseval.plugins import plugins
from hseval.prepare import Prepared, prepare
from hseval.qualifying.report import QualifyReport
from hseval.qualifying.run import qualify
from hseval.writer import SetWriter, write_set

EXTRACTORS = ("scattering", "encoder", "torchvision", "statistics")
EYES, SIZE = 200, 64
PATCH, COLUMNS, BANDS = 12, 72, 16  # of Indian Pines; the held-back part starts at column 75
MONOTONE = 0.95
KINDS: tuple[Kind, ...] = ("spectral", "spatial", "set")
SEED = 0

Sets = tuple[Path, Path]


def eyes(folder: Path) -> Sets:
    """Write phantom eyes to be degraded, and others to fit on."""
    found = []
    for name, seed in (("eyes", 1), ("eyes-to-fit-on", 2)):
        path = folder / f"{name}.h5"
        found.append(path)
        if path.exists():
            continue
        phantom = plugins().build("generator", "phantom", {"size": SIZE})
        phantom.load(None)
        with SetWriter(path, wavelengths=phantom.wavelengths, units=phantom.units) as writer:
            for sample in phantom.sample(EYES, seed=seed):
                writer.add(*sample)
    return found[0], found[1]


def patches(folder: Path) -> Sets:
    """Write the patches of Indian Pines that may be looked at; the encoder is fitted on the same."""
    from tensorly.datasets import load_indian_pines

    scene = load_indian_pines()
    wavelengths = np.asarray(scene["ticks"][1], dtype=np.float64)
    places = np.argsort(wavelengths, kind="stable")[np.linspace(5, len(wavelengths) - 6, BANDS).round().astype(int)]
    cube = np.moveaxis(scene["tensor"], -1, 0)[places, :, :COLUMNS].astype(np.float32)
    corners = [(y, x) for y in range(0, cube.shape[1] - PATCH + 1, PATCH) for x in range(0, COLUMNS, PATCH)]
    path = folder / "indian-pines.h5"
    write_set(
        path,
        np.stack([cube[:, y : y + PATCH, x : x + PATCH] for y, x in corners]),
        wavelengths=wavelengths[places],
        ids=[f"patch-{y:03d}-{x:03d}" for y, x in corners],
        units="AVIRIS radiance counts",
    )
    return path, path


DATA: dict[str, tuple[Callable[[Path], Sets], dict[str, Any]]] = {
    "phantom-64": (eyes, {"backbone": "resnet50", "random": 0, "size": 64}),
    # The range is what is shown black and white; 12 px are shown at 64.
    "indian-pines": (patches, {"backbone": "resnet50", "random": 0, "size": 64, "low": 1000.0, "high": 9000.0}),
}


def fitted(real: Path, folder: Path) -> tuple[Path, float]:
    """Fit the encoder with its default options, and return the file and the seconds of CPU that it took."""
    out = folder / f"{real.stem}.safetensors"
    start = time.process_time()
    plugins().find("extractor", "encoder").Fitter().fit(open_set(real), out, seed=SEED)
    return out, time.process_time() - start


def costs(real: Path, options: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return by extractor the milliseconds of CPU that a cube takes, one at a time."""
    data = open_set(real)
    cubes = [ready for i in range(8) if (ready := prepare(data[i], (FIELD,)))]
    found: dict[str, float] = {}
    for name in EXTRACTORS:
        extractor = plugins().build("extractor", name, options.get(name, {}))

        def describe(each: Prepared, extractor: Any = extractor) -> None:
            extractor(each.data[None], wavelengths=data.wavelengths, masks={FIELD: each.masks[FIELD][None]})

        describe(cubes[0])  # pays for imports and weights
        start = time.process_time()
        for each in cubes:
            describe(each)
        found[name] = 1000 * (time.process_time() - start) / len(cubes)
    return found


def qualified(name: str, folder: Path, workers: int) -> tuple[QualifyReport, dict[str, Any]]:
    """Return what ``fid`` sees by each extractor, and what fit and extractors cost."""
    make, backbone = DATA[name]
    real, to_fit_on = make(folder)
    weights, seconds = fitted(to_fit_on, folder)
    options = {"encoder": {"weights": str(weights)}, "torchvision": backbone}
    report = qualify(
        real,
        metrics=["fid"],
        extractors=list(EXTRACTORS),
        degradations=[each.name for kind in KINDS for each in all_of(kind)],
        options=options,
        seed=SEED,
        device="cpu",
        workers=workers,
        progress=_told,
    )
    report.save(folder / f"{name}.json")
    return report, {"fit_cpu_seconds": seconds, "cpu_milliseconds_a_cube": costs(real, options)}


def ranking(report: QualifyReport) -> dict[str, Any]:
    """Return, by degradation and extractor, the smallest dose told and Spearman's correlation, and the mean ranks."""
    label = {column.extractor: column.label for column in report.columns}
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    ranks = []
    for row in report.rows:
        curves = {each: report.curve(label[each], row.name) for each in EXTRACTORS}
        if all(curve.floor is None for curve in curves.values()):
            continue
        table[row.name] = {
            name: {"told_from": curve.told_from, "spearman": curve.spearman} for name, curve in curves.items()
        }
        ranks.append(rankdata([_or_infinite(curve.told_from) for curve in curves.values()]))
    mean: NDArray[np.float64] = np.mean(ranks, axis=0)
    return {
        "cubes": sum(report.curves[0].sizes),
        "units": {row.name: row.unit for row in report.rows},
        "mean_rank": dict(zip(EXTRACTORS, mean.tolist(), strict=True)),
        "blind_to": {name: [row for row in table if table[row][name]["told_from"] is None] for name in EXTRACTORS},
        "not_monotone": {
            name: [row for row in table if not (table[row][name]["spearman"] or 0) >= MONOTONE] for name in EXTRACTORS
        },
        "table": table,
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print the smallest dose told and Spearman's correlation of every extractor."""
    print(f"\n{name}: smallest dose told, and Spearman's correlation with the dose; {found['cubes']} cubes")
    print(f"{'':24}" + "".join(f"{each:>20}" for each in EXTRACTORS))
    for row, cells in found["table"].items():
        shown = [f"{_text(cells[each]['told_from'])} {_text(cells[each]['spearman']):>6}" for each in EXTRACTORS]
        print(f"{row + ', ' + found['units'][row]:24.24}" + "".join(f"{each:>20}" for each in shown))
    print(f"{'mean rank':24}" + "".join(f"{found['mean_rank'][each]:>20.2f}" for each in EXTRACTORS))


def main(arguments: Sequence[str] | None = None) -> None:
    """Qualify, print and record; a kind of data that is left out keeps what was recorded for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--out", type=Path, default=Path("demo/extractors"))
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    known = RESULTS / "extractors.json"
    results = json.loads(known.read_text())["data"] if known.exists() else {}
    for name in given.data:
        report, cost = qualified(name, given.out, given.workers)
        results[name] = {**ranking(report), **cost}
        show(name, results[name])
        record("extractors", {"extractors": EXTRACTORS, "monotone": MONOTONE, "seed": SEED, "data": results})


def _or_infinite(dose: float | None) -> float:
    return math.inf if dose is None else dose


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _told(what: str, done: int, total: int) -> None:
    if done == total or done % 20 == 0:
        print(f"{what}: {done} of {total}", flush=True)


if __name__ == "__main__":
    main()
