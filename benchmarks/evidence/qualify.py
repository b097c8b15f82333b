"""What every metric detects: ``hseval qualify`` on 200 phantom eyes of 64 px and on two parts of Indian Pines.

First the default metrics on the eyes, timed with an empty cache as a user would run them on two cores; then on each
data set all other metrics of hseval itself, and ``fid`` with four extractors on all degradations except planted copies;
on fewer eyes than the default metrics, so that everything takes half an hour. Results are stored in the folder, and an
interrupted run resumes from hseval's cache (except the timed one, which starts over). Then the curves are written to
``benchmarks/results/evidence/qualify_*.json``, the tables to ``docs/qualify.md`` and ``docs/metrics/``, and the
pictures to ``docs/images/``.

The encoder is fitted on other eyes than those qualified. For Indian Pines it is fitted on columns 0 to 72, so its
results on ``indian-pines`` are optimistic; those on ``indian-pines-held-back``, on which nothing was tuned, are not.

    python -m benchmarks.evidence.qualify [NAME ...] [--folder F] [--again] [--pages]
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
from benchmarks.helpers.machine import RESULTS, describe_machine
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import to_jsonable
from hseval.degradations import list_degradation_names
from hseval.qualification.report import QualifyReport, load_qualify
from hseval.scoring.metric_choice import DEFAULT_METRICS
from hseval.utils.atomic_files import write_text

ROOT = Path(__file__).resolve().parents[2]
TIMES = RESULTS / "evidence" / "qualify.json"
HSEVAL = [sys.executable, "-m", "hseval"]
EYES, SIZE, WORKERS = 200, 64, 2
EXTRACTORS = ("scattering", "encoder", "statistics", "torchvision")
FAULTS = ",".join(name for kind in ("spectral", "spatial", "set") for name in list_degradation_names(kind))
OTHERS = [
    name
    for name in get_plugins().get_names("metric")
    if get_plugins().get_origin("metric", name).startswith("hseval ") and name not in DEFAULT_METRICS
]


class Data(NamedTuple):
    """How a set is made, which set the encoder is fitted on, and options of the runs.

    Attributes:
        make: command that writes the set, without its path.
        fit: name of the set that the encoder is fitted on.
        others: options of the run with the other metrics.
        extractors: options of the run with four extractors.
    """

    make: Sequence[str]
    fit: str = ""
    others: Sequence[str] = ()
    extractors: Sequence[str] = ()


def _build_eyes_command(seed: int) -> list[str]:
    return [*HSEVAL, "sample", "phantom", "-n", str(EYES), "--set", f"size={SIZE}", "--seed", str(seed), "--out"]


PATCHES_COMMAND = [sys.executable, str(ROOT / "examples" / "indian_pines_patches.py")]
RANDOM_BACKBONE = [f"--set=torchvision.{option}" for option in ("backbone=resnet50", "random=0", "size=64")]
# Radiance counts: 1000 is black, 9000 white.
BACKBONE_FOR_COUNTS = [*RANDOM_BACKBONE, "--set=torchvision.low=1000", "--set=torchvision.high=9000"]
DATA = {
    "phantom": Data(_build_eyes_command(1), "phantom-to-fit-on", ("-n", "120"), ("-n", "80", *RANDOM_BACKBONE)),
    "indian-pines": Data(PATCHES_COMMAND, "indian-pines", (), BACKBONE_FOR_COUNTS),
    "indian-pines-held-back": Data([*PATCHES_COMMAND, "--held-back"], "indian-pines", (), BACKBONE_FOR_COUNTS),
    "phantom-to-fit-on": Data(_build_eyes_command(2)),
}
PARTS = ("default", "others", "extractors")
NAMES = ("phantom", "indian-pines", "indian-pines-held-back")


def make_set(name: str, folder: Path) -> Path:
    """Return the path of a set, written if it does not exist."""
    path = folder / f"{name}.h5"
    if not path.exists():
        subprocess.run([*DATA[name].make, str(path)], check=True)
    return path


def fit_encoder(name: str, folder: Path) -> Path:
    """Return the path of the encoder's weights, fitted with default options if they do not exist."""
    weights = folder / f"{name}-encoder.safetensors"
    if not weights.exists():
        subprocess.run([*HSEVAL, "fit-extractor", str(make_set(name, folder)), "--out", str(weights)], check=True)
    return weights


def run_qualify(real: Path, out: Path, *options: str) -> QualifyReport:
    """Return the report of ``hseval qualify``, read from ``out`` if it exists."""
    if not out.exists():
        command = [*HSEVAL, "qualify", str(real), "--json", str(out), "--workers", str(WORKERS), *options]
        process = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if process.returncode not in (0, 1):  # 1: a metric can't be computed on these data; the table has the reason
            raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return load_qualify(out)


def qualify_defaults(name: str, folder: Path) -> QualifyReport:
    """Return the report on the default metrics; on the eyes, record the time with an empty cache."""
    real, out = make_set(name, folder), folder / f"{name}-default.json"
    if name != "phantom" or out.exists():
        return run_qualify(real, out)
    subprocess.run([*HSEVAL, "cache", "clear"], check=True, stdout=subprocess.DEVNULL)
    started, before = time.perf_counter(), _get_cpu_seconds()
    report = run_qualify(real, out)
    times = {"seconds": time.perf_counter() - started, "cpu_seconds": _get_cpu_seconds() - before}
    result = {name: {**times, "workers": WORKERS, "load": os.getloadavg()[1], "machine": describe_machine()}}
    write_text(TIMES, json.dumps(to_jsonable(result), indent=1) + "\n")
    print(f"{name}: default metrics in {times['seconds']:.0f} s, {times['cpu_seconds']:.0f} s of CPU", flush=True)
    return report


def qualify_data(name: str, folder: Path) -> None:
    """Run what is unfinished for one data set, and record its curves."""
    os.environ["HSEVAL_CACHE"] = str(folder / f"{name}-cache")
    real, data = make_set(name, folder), DATA[name]
    qualify_pages.save_compact(qualify_defaults(name, folder), _get_result_path(name, "default"))
    others = run_qualify(real, folder / f"{name}-others.json", "--metrics", ",".join(OTHERS), *data.others)
    qualify_pages.save_compact(others, _get_result_path(name, "others"))
    options = ("--metrics", "fid", "--extractors", ",".join(EXTRACTORS), "--degradations", FAULTS)
    weights = f"--set=encoder.weights={fit_encoder(data.fit, folder)}"
    by_extractor = run_qualify(real, folder / f"{name}-extractors.json", *options, weights, *data.extractors)
    qualify_pages.save_compact(by_extractor, _get_result_path(name, "extractors"))


def publish(folder: Path) -> None:
    """Write pages and pictures from the recorded curves."""
    reports = {}
    for name in NAMES:
        parts = {part: load_qualify(path) for part in PARTS if (path := _get_result_path(name, part)).exists()}
        if "default" in parts:
            reports[name] = qualify_pages.join_reports([parts[part] for part in ("default", "others") if part in parts])
            qualify_pages.write_set_tables(name, reports[name], parts.get("extractors"), folder)
    qualify_pages.write_metric_pages(reports)


def _get_result_path(name: str, part: str) -> Path:
    return RESULTS / "evidence" / f"qualify_{name.replace('-', '_')}_{part}.json"


def _get_cpu_seconds() -> float:
    """Return the CPU seconds of ended child processes and their descendants."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _parse_arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / "qualify")
    parser.add_argument("--again", action="store_true", help="delete the folder first")
    parser.add_argument("--pages", action="store_true", help="only write the pages, from the recorded curves")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"{name!r}: expected {', '.join(NAMES)}")
    return arguments


if __name__ == "__main__":
    arguments = _parse_arguments()
    if arguments.again:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in () if arguments.pages else arguments.names or NAMES:
        qualify_data(name, arguments.folder)
    publish(arguments.folder)
