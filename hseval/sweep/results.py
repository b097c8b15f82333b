"""Results of a sweep: one row for each run, as JSON and CSV, for tables and plots."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.report import Score, to_jsonable
from hseval.sweep.plan import PlotConfig, SweepPlan
from hseval.sweep.run_steps import TIMING_FILE, RunRecord, Timing, get_run_folder
from hseval.sweep.store import DONE_FILE, FAILED_FILE, FailureRecord, FitRecord, read_record
from hseval.utils.atomic_files import write_text
from hseval.utils.structured_files import convert_record, read_json

if TYPE_CHECKING:
    from hseval.sweep.workers import RunsByKey

FORMAT, VERSION = "hseval-sweep", 3
RESULTS_FILE = "results.json"

OptionValue = bool | int | float | str | None


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One run's result.

    Attributes:
        label: its name.
        table_label: label of the ``[[generator]]`` table that it comes from.
        generator: name.
        varied_options: the options in which it differs from the others.
        folder: of its report and samples, relative to the sweep's.
        timing: the speed of its sampling; None: not timed.
        fit_seconds: duration of its fit, without shared stages; None: nothing was fitted.
        scores: by name, without most details; empty if it failed or waits.
        error: the step and the error; None: it is done, or waits.
    """

    label: str
    table_label: str
    generator: str
    varied_options: Mapping[str, OptionValue | list[OptionValue]]
    folder: str
    timing: Timing | None = None
    fit_seconds: float | None = None
    scores: Mapping[str, Score] = dataclasses.field(default_factory=dict)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class SweepResults:
    """All rows, and the requested plot."""

    name: str
    rows: tuple[RunResult, ...]
    plot: PlotConfig

    @property
    def failed_rows(self) -> tuple[RunResult, ...]:
        """The rows of runs that failed."""
        return tuple(row for row in self.rows if row.error is not None)

    @property
    def varied_option_names(self) -> tuple[str, ...]:
        """Names of the options that vary, in the order of their first use."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.varied_options))

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.scores))

    def save(self, folder: Path) -> None:
        """Write ``results.json`` and ``results.csv``, each atomically."""
        record = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_text(folder / RESULTS_FILE, json.dumps(to_jsonable(record), indent=1) + "\n")
        write_text(folder / "results.csv", self.to_csv())

    def to_csv(self) -> str:
        """Return one line for each run: options, seconds per sample, and value, interval and floor of each score."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        scores = [f"{name}{suffix}" for name in self.score_names for suffix in ("", " low", " high", " floor")]
        writer.writerow(["run", "generator", *self.varied_option_names, "seconds", "device", *scores, "error"])
        for row in self.rows:
            cells = [cell for name in self.score_names for cell in _build_score_cells(row.scores.get(name))]
            varied = [row.varied_options.get(name, "") for name in self.varied_option_names]
            speed = [row.timing.seconds, row.timing.device] if row.timing else ["", ""]
            writer.writerow([row.label, row.generator, *varied, *speed, *cells, row.error or ""])
        return stream.getvalue()


def _build_score_cells(score: Score | None) -> list[Any]:
    if score is None or score.value is None:
        return [""] * 4
    low, high = score.interval or ("", "")
    return [score.value, low, high, "" if score.floor is None else score.floor]


def collect_results(plan: SweepPlan, runs: RunsByKey) -> SweepResults:
    """Return the results of the plan's runs that are in the sweep's folder."""
    return SweepResults(plan.name, tuple(_build_result(plan, run, keys) for run, keys in runs.values()), plan.plot)


def _build_result(plan: SweepPlan, run: Any, keys: Any) -> RunResult:
    folder = get_run_folder(plan, keys)
    failed, done = read_record(folder / FAILED_FILE, FailureRecord), read_record(folder / DONE_FILE, RunRecord)
    fit = read_record(plan.out / "fits" / keys.fit.digest / DONE_FILE, FitRecord) if keys.fit else None
    is_scored = failed is None and done is not None and done["scores_key"] == keys.scores.digest
    return RunResult(
        run.label,
        run.table_label,
        run.generator,
        run.varied_options,
        folder.relative_to(plan.out).as_posix(),
        timing=read_record(folder / TIMING_FILE, Timing),
        fit_seconds=None if fit is None else fit["seconds"],
        scores=done["scores"] if done is not None and is_scored else {},
        error=None if failed is None else f"{failed['step']}: {failed['error']}",
    )


def load_results(path: Path) -> SweepResults:
    """Read the results of a sweep: ``results.json``, or the folder that holds it.

    Raises:
        HsevalError: the file is missing, or is not the results of a sweep in this version.
    """
    path = path / RESULTS_FILE if path.is_dir() else path
    data = read_json(path, "the results of a sweep", format=FORMAT, version=VERSION, hint="run hseval sweep again")
    return convert_record(data, SweepResults, path)
