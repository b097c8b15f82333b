"""Shared by the benchmarks of the bundled generator: commands, results that are computed once, tables."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.helpers.machine import describe_machine, record
from benchmarks.ldm.eye_measures import (
    DEPTHS,
    DISC,
    FIELD,
    Array,
    Masks,
    compute_dark_share,
    compute_one_disc_share,
    compute_vessel_share,
    find_bright_discs,
)
from hseval.core.cubes import ArraySet, CubeSet
from hseval.core.protocols import Sample
from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text

TRAINING_SEED, REFERENCE_SEED = 1, 2  # of the phantom eyes

Columns = Mapping[str, tuple[str, str]]


class Eyes(NamedTuple):
    """A set in memory: cubes ``(n, band, y, x)``, masks bool ``(n, y, x)`` by structure, wavelengths ``(band,)``."""

    cubes: Array
    masks: Masks
    nm: Array


def prepare_folder(out: Path) -> None:
    """Make the folder for a benchmark's files, and put hseval's cache into it."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["HSEVAL_CACHE"] = str((out / "cache").resolve())


def run_command(*arguments: object) -> None:
    """Run ``hseval ARGUMENTS`` as a user types it, with its output on the terminal.

    Raises:
        SystemExit: it failed.
    """
    words = [str(argument) for argument in arguments]
    print(f"$ hseval {' '.join(words)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", "hseval", *words]) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it received Ctrl-C as well, and may be writing a checkpoint
            raise
    if status:
        raise SystemExit(f"hseval {' '.join(words)}: failed with status {status}")


def draw_eyes(path: Path, count: int, *, seed: int, size: int, oversampling: int, again: bool = False) -> Path:
    """Draw phantom eyes into a set; an existing one is reused, unless ``again``."""
    if again or not path.exists():
        options = ("--set", f"size={size}", "--set", f"oversampling={oversampling}")
        run_command("sample", "phantom", "-n", count, "--seed", seed, *options, "--out", path, "--force")
    return path


@contextlib.contextmanager
def add_seconds(path: Path, name: str, *, anew: bool = False) -> Iterator[None]:
    """Add the seconds spent in the block, even if it fails, to those stored under ``name`` in a JSON file.

    Args:
        path: the file; made if it is missing.
        name: of what is timed.
        anew: replace the stored seconds instead of adding to them.
    """
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds, before = time.perf_counter() - start, read_seconds(path)
        write_text(path, json.dumps(before | {name: seconds + (0.0 if anew else before.get(name, 0.0))}) + "\n")


def read_seconds(path: Path) -> dict[str, float]:
    """Return the seconds that :func:`add_seconds` has stored."""
    seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return seconds


def load_or_measure(
    path: Path, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the result stored in ``path`` for these settings; measure and store it if there is none."""
    expected = round_trip_json(settings)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if stored.get("settings") != expected:
        stored = {"settings": expected, "result": round_trip_json(measure())}
        write_text(path, json.dumps(stored, indent=1) + "\n")
    result: dict[str, Any] = stored["result"]
    return result


def round_trip_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as read back from a file: lists for tuples, None for what is not finite."""
    plain: dict[str, Any] = json.loads(json.dumps(to_jsonable(values)))
    return plain


def save_result(name: str, result: Mapping[str, Any], out: Path, *, recorded: bool) -> None:
    """Write a benchmark's result to its folder and, if ``recorded``, to ``benchmarks/results/ldm/``."""
    path = out / f"{name}.json"
    write_text(path, json.dumps(to_jsonable({**result, "machine": describe_machine()}), indent=1) + "\n")
    print(f"recorded in {record(f'ldm/{name}', result) if recorded else path}")


def format_markdown(rows: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """Return a table in Markdown; a value that is missing or not finite is a dash.

    Args:
        rows: values by column.
        columns: name in the rows -> title and format.
    """
    titles = [title for title, _ in columns.values()]
    lines = [titles, ["---"] * len(titles)]
    lines += [[_format_cell(row.get(name), form) for name, (_, form) in columns.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def load_eyes(cubes: CubeSet) -> Eyes:
    """Return a set of eyes with masks, as :mod:`benchmarks.ldm.eye_measures` takes it."""
    loaded = list(cubes)
    masks = {name: np.stack([cube.masks[name] for cube in loaded]) for name in cubes.structures}
    return Eyes(np.stack([cube.data for cube in loaded]), masks, cubes.wavelengths)


def build_set(samples: Iterable[Sample], nm: Array | None) -> ArraySet:
    """Return a generator's samples as a set in memory."""
    cubes, masks, ids = zip(*samples, strict=True)
    stacked = {name: np.stack([cube_masks[name] for cube_masks in masks]) for name in masks[0]}
    return ArraySet(np.stack(cubes), wavelengths=nm, masks=stacked, ids=list(ids))


def measure_anatomy(eyes: Eyes) -> dict[str, float]:
    """Return the mean vessel area and the share of eyes with one disc, from the masks and from the cubes alone."""
    field = eyes.masks[FIELD]
    dark = {
        f"dark_share_{depth:g}": float(np.nanmean(compute_dark_share(eyes.cubes, field, eyes.nm, depth=depth)))
        for depth in DEPTHS
    }
    return {
        "vessel_share": float(np.nanmean(compute_vessel_share(eyes.masks))),
        **dark,
        "one_disc": compute_one_disc_share(eyes.masks[DISC]),
        "one_bright_disc": compute_one_disc_share(find_bright_discs(eyes.cubes, field, eyes.nm)),
    }


def _format_cell(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return format(value, form)
