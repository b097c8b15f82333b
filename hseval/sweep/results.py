"""What a sweep found: a row a run, as JSON and CSV, for tables and plots."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.report import Score, plain
from hseval.sweep.plan import Plan, Plot
from hseval.sweep.run_steps import TIMING, folder_of
from hseval.sweep.store import DONE, FAILED, read_record
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError, reason

if TYPE_CHECKING:
    from hseval.sweep.workers import Runs

FORMAT, VERSION = "hseval-sweep", 1
FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """One run's result.

    Attributes:
        label: what it is called.
        part: the table of the TOML file that it comes from.
        generator: name.
        varied: the options that tell it from the others.
        folder: of its report and samples, relative to the sweep's.
        timing: what :func:`hseval.sweep.sample.seconds_per_sample` returned; None: not timed.
        fit_seconds: what its fit took, without the stages that it shares; None: nothing was fitted.
        scores: by name, without most details; none where it failed.
        error: the step and what went wrong; None: it is done, or waits.
    """

    label: str
    part: str
    generator: str
    varied: Mapping[str, Any]
    folder: str
    timing: Mapping[str, Any] | None = None
    fit_seconds: float | None = None
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Results:
    """All rows, and the plot that is asked for."""

    name: str
    rows: tuple[Row, ...]
    plot: Plot

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of runs that failed."""
        return tuple(row for row in self.rows if row.error is not None)

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the options that vary, in the order in which they come up."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.varied))

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.scores))

    def save(self, folder: Path) -> None:
        """Write ``results.json`` and ``results.csv``, each whole or not at all."""
        record = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_text(folder / FILE, json.dumps(plain(record), indent=1) + "\n")
        write_text(folder / "results.csv", self.as_csv())

    def as_csv(self) -> str:
        """Return a line a run: options, seconds a sample, and value, interval and floor of each score."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        scores = [f"{name}{part}" for name in self.score_names for part in ("", " low", " high", " floor")]
        writer.writerow(["run", "generator", *self.varied, "seconds", "device", *scores, "error"])
        for row in self.rows:
            timing = row.timing or {}
            cells = [cell for name in self.score_names for cell in _cells(row.scores.get(name))]
            varied = [row.varied.get(name, "") for name in self.varied]
            told = [timing.get("seconds", ""), timing.get("device", "")]
            writer.writerow([row.label, row.generator, *varied, *told, *cells, row.error or ""])
        return stream.getvalue()


def _cells(score: Score | None) -> list[Any]:
    if score is None or score.value is None:
        return [""] * 4
    low, high = score.interval or ("", "")
    return [score.value, low, high, "" if score.floor is None else score.floor]


def gathered(plan: Plan, runs: Runs) -> Results:
    """Return what the folder of a sweep holds of the plan's runs."""
    return Results(plan.name, tuple(_row(plan, run, keys) for run, keys in runs.values()), plan.plot)


def _row(plan: Plan, run: Any, keys: Any) -> Row:
    folder = folder_of(plan, keys)
    row = Row(run.label, run.part, run.generator, run.varied, folder.relative_to(plan.out).as_posix())
    failed, done = read_record(folder / FAILED), read_record(folder / DONE)
    fit = read_record(plan.out / "fits" / keys.fit.key / DONE) if keys.fit else None
    seconds = None if fit is None else fit["seconds"]
    row = dataclasses.replace(row, timing=read_record(folder / TIMING), fit_seconds=seconds)
    if failed is not None:
        return dataclasses.replace(row, error=f"{failed['step']}: {failed['error']}")
    if done is None or done["scores_key"] != keys.scores.key:
        return row
    return dataclasses.replace(row, scores=_scores(done["scores"]))


def load_results(path: Path) -> Results:
    """Read the results of a sweep: ``results.json``, or the folder that holds it.

    Raises:
        HsevalError: it is missing, or no results of this version.
    """
    path = path / FILE if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as results of a sweep: {reason(error)}") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
        raise HsevalError(f'{path}: no results of a sweep (expected "format": "{FORMAT}", "version": {VERSION})')
    try:
        rows = tuple(Row(**{**each, "scores": _scores(each["scores"])}) for each in found["rows"])
        return Results(found["name"], rows, Plot(**{**found["plot"], "y": tuple(found["plot"]["y"])}))
    except (KeyError, TypeError, AttributeError) as error:
        raise HsevalError(f"{path}: results with parts missing or of another form ({error})") from error


def _scores(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Score]:
    return {name: Score(**{**each, "interval": _pair(each["interval"])}) for name, each in found.items()}


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])
