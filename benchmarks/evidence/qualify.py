"""What every metric sees: ``hseval qualify`` on 200 phantom eyes of 64 px and on two parts of Indian Pines.

On the eyes first the default metrics, timed on an empty cache as a user would run them on two cores; then on each kind
of data all other metrics of hseval itself, and ``fid`` by four extractors on all faults but planted copies; on fewer
eyes than the default metrics, so that all of it takes half an hour. What the runs wrote is kept in the folder, and a
run that was cut off goes on from hseval's cache (but the timed one starts anew), so the command can be stopped and
started again. Then the curves are written to ``benchmarks/results/qualify_*.json``, the tables to ``docs/qualify.md``
and ``docs/metrics/``, and the pictures to ``docs/images/``.

The encoder is fitted on other eyes than are qualified. Of Indian Pines there are no others: it is fitted on columns 0
to 72, which flatters it there and not on ``indian-pines-held-back``, on which nothing was tuned at all.

    python -m benchmarks.evidence.qualify [phantom] [indian-pines] [indian-pines-held-back] [--folder F] [--again] [--pages]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.evidence import qualify_pages
from benchmarks.helpers.machine import RESULTS, describe
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import to_jsonable
from hseval.degradations import list_degradation_names
from hseval.qualification.report import QualifyReport, load_qualify
from hseval.scoring.score import DEFAULT_METRICS
from hseval.utils.atomic_files import write_text

ROOT = Path(__file__).resolve().parents[2]
TIMES = RESULTS / "evidence" / "qualify.json"
HSEVAL = [sys.executable, "-m", "hseval"]
EYES, SIZE, WORKERS = 200, 64, 2
EXTRACTORS = ("scattering", "encoder", "statistics", "torchvision")
FAULTS = ",".join(name for kind in ("spectral", "spatial", "set") for name in list_degradation_names(kind))
OTHERS = [
    each
    for each in get_plugins().get_names("metric")
    if get_plugins().get_origin("metric", each).startswith("hseval ") and each not in DEFAULT_METRICS
]


class Data(NamedTuple):
    """How a set is made, on which other the encoder is fitted, and what the runs are asked for.

    Attributes:
        make: command that writes the set, but for its path.
        fit: name of the set that the encoder is fitted on.
        others: options of the run by the metrics that are not default.
        extractors: options of the run by four extractors.
    """

    make: Sequence[str]
    fit: str = ""
    others: Sequence[str] = ()
    extractors: Sequence[str] = ()


def _eyes(seed: int) -> list[str]:
    return [*HSEVAL, "sample", "phantom", "-n", str(EYES), "--set", f"size={SIZE}", "--seed", str(seed), "--out"]


PATCHES = [sys.executable, str(ROOT / "examples" / "indian_pines_patches.py")]
RANDOM = [f"--set=torchvision.{each}" for each in ("backbone=resnet50", "random=0", "size=64")]
COUNTS = [*RANDOM, "--set=torchvision.low=1000", "--set=torchvision.high=9000"]  # what is shown black and white
DATA = {
    "phantom": Data(_eyes(1), "phantom-to-fit-on", ("-n", "120"), ("-n", "80", *RANDOM)),
    "indian-pines": Data(PATCHES, "indian-pines", (), COUNTS),
    "indian-pines-held-back": Data([*PATCHES, "--held-back"], "indian-pines", (), COUNTS),
    "phantom-to-fit-on": Data(_eyes(2)),
}
PARTS = ("default", "others", "extractors")
NAMES = ("phantom", "indian-pines", "indian-pines-held-back")


def made(name: str, folder: Path) -> Path:
    """Return the set of a name, written if it is not there."""
    path = folder / f"{name}.h5"
    if not path.exists():
        subprocess.run([*DATA[name].make, str(path)], check=True)
    return path


def fitted(name: str, folder: Path) -> Path:
    """Return the encoder's weights, fitted with default options if they are not there."""
    weights = folder / f"{name}-encoder.safetensors"
    if not weights.exists():
        subprocess.run([*HSEVAL, "fit-extractor", str(made(name, folder)), "--out", str(weights)], check=True)
    return weights


def qualified(real: Path, out: Path, *asked: str) -> QualifyReport:
    """Return what the command as typed finds, from ``out`` if it is there."""
    if not out.exists():
        command = [*HSEVAL, "qualify", str(real), "--json", str(out), "--workers", str(WORKERS), *asked]
        ran = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if ran.returncode not in (0, 1):  # 1: some metric of all can't be computed here, and the table says why
            raise SystemExit(f"{' '.join(command)} failed with status {ran.returncode}")
    return load_qualify(out)


def default(name: str, folder: Path) -> QualifyReport:
    """Return what the default metrics see; on the eyes, record what it takes on an empty cache."""
    real, out = made(name, folder), folder / f"{name}-default.json"
    if name != "phantom" or out.exists():
        return qualified(real, out)
    subprocess.run([*HSEVAL, "cache", "clear"], check=True, stdout=subprocess.DEVNULL)
    started, before = time.perf_counter(), _cpu()
    report = qualified(real, out)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": _cpu() - before}
    told = {name: {**spent, "workers": WORKERS, "load": os.getloadavg()[1], "machine": describe()}}
    write_text(TIMES, json.dumps(to_jsonable(told), indent=1) + "\n")
    print(f"{name}: default metrics in {spent['seconds']:.0f} s, {spent['cpu_seconds']:.0f} s of CPU", flush=True)
    return report


def run(name: str, folder: Path) -> None:
    """Do what is still to be done for one kind of data, and keep its curves."""
    os.environ["HSEVAL_CACHE"] = str(folder / f"{name}-cache")
    real, data = made(name, folder), DATA[name]
    qualify_pages.keep(default(name, folder), _results(name, "default"))
    others = qualified(real, folder / f"{name}-others.json", "--metrics", ",".join(OTHERS), *data.others)
    qualify_pages.keep(others, _results(name, "others"))
    asked = ("--metrics", "fid", "--extractors", ",".join(EXTRACTORS), "--degradations", FAULTS)
    weights = f"--set=encoder.weights={fitted(data.fit, folder)}"
    by_extractor = qualified(real, folder / f"{name}-extractors.json", *asked, weights, *data.extractors)
    qualify_pages.keep(by_extractor, _results(name, "extractors"))


def publish(folder: Path) -> None:
    """Write pages and pictures from the curves that are kept."""
    reports = {}
    for name in NAMES:
        kept = {part: load_qualify(path) for part in PARTS if (path := _results(name, part)).exists()}
        if "default" in kept:
            reports[name] = qualify_pages.joined([kept[part] for part in ("default", "others") if part in kept])
            qualify_pages.of_set(name, reports[name], kept.get("extractors"), folder)
    qualify_pages.of_metrics(reports)


def _results(name: str, part: str) -> Path:
    return RESULTS / "evidence" / f"qualify_{name.replace('-', '_')}_{part}.json"


def _cpu() -> float:
    """Return the seconds of CPU that ended processes of this one have used, their own children's included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / "qualify")
    parser.add_argument("--again", action="store_true", help="forget what earlier runs left in the folder")
    parser.add_argument("--pages", action="store_true", help="run nothing: write the pages from the recorded curves")
    given = parser.parse_args()
    for name in given.names:
        if name not in NAMES:
            parser.error(f"{name!r}: expected {', '.join(NAMES)}")
    return given


if __name__ == "__main__":
    given = _parsed()
    if given.again:
        shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in () if given.pages else given.names or NAMES:
        run(name, given.folder)
    publish(given.folder)
