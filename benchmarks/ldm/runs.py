"""What the benchmarks of the bundled generator share: commands as typed, results that are not redone, tables."""

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

from benchmarks.helpers.machine import describe, record
from benchmarks.ldm.eye_measures import (
    DEPTHS,
    DISC,
    FIELD,
    Array,
    Masks,
    bright_discs,
    dark_share,
    one_disc,
    vessel_share,
)
from hseval.core.cubes import ArraySet, CubeSet
from hseval.core.hookspecs import Sample
from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text

TRAINING_SEED, REFERENCE_SEED = 1, 2  # of the phantom eyes

Columns = Mapping[str, tuple[str, str]]


class Eyes(NamedTuple):
    """A set in memory: ``(n, band, y, x)``, bool ``(n, y, x)`` by structure, ``(band,)``."""

    cubes: Array
    masks: Masks
    nm: Array


def begin(out: Path) -> None:
    """Make the folder for all that a benchmark leaves, hseval's cache included."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["HSEVAL_CACHE"] = str((out / "cache").resolve())


def command(*arguments: object) -> None:
    """Run ``hseval ARGUMENTS`` as a user types it; what it prints is shown.

    Raises:
        SystemExit: it failed.
    """
    typed = [str(each) for each in arguments]
    print(f"$ hseval {' '.join(typed)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", "hseval", *typed]) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it heard Ctrl-C as well, and may be writing a checkpoint
            raise
    if status:
        raise SystemExit(f"hseval {' '.join(typed)}: failed with status {status}")


def draw_eyes(path: Path, count: int, *, seed: int, size: int, oversampling: int, again: bool = False) -> Path:
    """Draw phantom eyes into a set; one that is there is kept, unless ``again``."""
    if again or not path.exists():
        options = ("--set", f"size={size}", "--set", f"oversampling={oversampling}")
        command("sample", "phantom", "-n", count, "--seed", seed, *options, "--out", path, "--force")
    return path


@contextlib.contextmanager
def counted(path: Path, name: str, *, anew: bool = False) -> Iterator[None]:
    """Add the seconds spent inside, however it ends, to those that the JSON file ``path`` holds under ``name``.

    Args:
        path: the file; made if it is missing.
        name: of what is timed.
        anew: forget what was counted under this name before.
    """
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds, before = time.perf_counter() - start, spent(path)
        write_text(path, json.dumps(before | {name: seconds + (0.0 if anew else before.get(name, 0.0))}) + "\n")


def spent(path: Path) -> dict[str, float]:
    """Return what :func:`counted` has counted."""
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def once(path: Path, settings: Mapping[str, Any], measured: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result that ``path`` holds for these settings; measure and keep it if there is none."""
    wanted = as_json(settings)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("settings") != wanted:
        kept = {"settings": wanted, "result": as_json(measured())}
        write_text(path, json.dumps(kept, indent=1) + "\n")
    result: dict[str, Any] = kept["result"]
    return result


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the values back from a file gives: lists for tuples, None for what is not finite."""
    found: dict[str, Any] = json.loads(json.dumps(to_jsonable(values)))
    return found


def keep(name: str, result: Mapping[str, Any], out: Path, *, recorded: bool) -> None:
    """Write a benchmark's result to its folder and, if it is to be ``recorded``, among the project's."""
    path = out / f"{name}.json"
    write_text(path, json.dumps(to_jsonable({**result, "machine": describe()}), indent=1) + "\n")
    print(f"recorded in {record(name, result) if recorded else path}")


def markdown(rows: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """Return a table in Markdown; a figure that a row lacks, or that is not finite, is a dash.

    Args:
        rows: by column.
        columns: name in the rows -> title and format.
    """
    titles = [title for title, _ in columns.values()]
    lines = [titles, ["---"] * len(titles)]
    lines += [[_cell(row.get(name), form) for name, (_, form) in columns.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_memory(cubes: CubeSet) -> Eyes:
    """Return a set of eyes with masks, as :mod:`eyes` takes it."""
    read = list(cubes)
    masks = {name: np.stack([cube.masks[name] for cube in read]) for name in cubes.structures}
    return Eyes(np.stack([cube.data for cube in read]), masks, cubes.wavelengths)


def as_set(samples: Iterable[Sample], nm: Array | None) -> ArraySet:
    """Return what a generator yields as a set in memory."""
    drawn = list(samples)
    masks = {name: np.stack([sample.masks[name] for sample in drawn]) for name in drawn[0].masks}
    ids = [sample.id for sample in drawn]
    return ArraySet(np.stack([sample.cube for sample in drawn]), wavelengths=nm, masks=masks, ids=ids)


def anatomy(eyes: Eyes) -> dict[str, float]:
    """Return the mean vessel area and the share of eyes with one disc, by the masks and by the cubes alone."""
    field = eyes.masks[FIELD]
    dark = {
        f"dark_share_{depth:g}": float(np.nanmean(dark_share(eyes.cubes, field, eyes.nm, depth=depth)))
        for depth in DEPTHS
    }
    return {
        "vessel_share": float(np.nanmean(vessel_share(eyes.masks))),
        **dark,
        "one_disc": one_disc(eyes.masks[DISC]),
        "one_bright_disc": one_disc(bright_discs(eyes.cubes, field, eyes.nm)),
    }


def _cell(value: Any, form: str) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return format(value, form)
