"""``hseval qualify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.report import Report
    from hseval.qualification.report import QualifyReport


@click.command()
@click.argument("real", required=False)
@click.option("--metrics", metavar="A,B", help="Metrics by name, or all; default: those of --report, else the four.")
@click.option("--extractors", metavar="A,B", help="Run every metric that has a choice of feature extractor with each.")
@click.option("--degradations", metavar="A,B", help="Degradations by name; default: all that fit the cubes.")
@click.option("-n", "--cubes", type=click.IntRange(min=1), help="Draw about this many cubes by content, whole groups.")
@click.option("--both-ways", is_flag=True, help="Spoil each half in turn and take the mean: twice the work, less luck.")
@click.option(
    "--report", "scored", metavar="F", help="A report of hseval score: its scores are told as severities, too."
)
@click.option("--load", "loaded", metavar="F", help="Show what an earlier --json wrote, in place of REAL.")
@click.option("--json", "json_path", metavar="F", help="Write the curves as JSON; -: print it instead of the table.")
@click.option("--plots", metavar="FOLDER", help="Draw the curves of each metric and a map of what they see, as PNG.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of halves and faults.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where there is one.")
@click.option("--workers", type=click.IntRange(min=0), help="Processes; 0: this one; default: all cores once it pays.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cubes an extractor gets at a time.")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not say.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), in place of what files say.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option, as fid.extractor=torchvision.")
@click.option("--config", metavar="F", help="TOML file of options: a table for each metric or extractor.")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache.")
def qualify(real: str | None, **params: Any) -> int:
    """Find out what scores see on the cubes REAL.

    Half of them is spoiled by degrees, in some twenty ways, and compared with the other half: how does every metric
    react, and from which severity on is it told from the floor?
    """
    from hseval.core.report import load_report
    from hseval.utils.atomic_files import check_writable

    if (real is None) == (params["loaded"] is None):
        raise click.UsageError("give the real cubes, or --load a file that --json wrote: one of the two")
    if params["json_path"] not in (None, "-"):
        check_writable(params["json_path"])
        _check_not_input(params["json_path"], (real, params["loaded"], params["scored"]))
    if params["plots"] is not None:
        _make_folder(params["plots"])
    scored = None if params["scored"] is None else load_report(params["scored"])
    report = _compute_report(real, params, scored) if real is not None else _load_report(params)
    _show(report, scored, params)
    return _get_exit_status(report, is_explicit=params["metrics"] is not None)


def _compute_report(real: str, params: dict[str, Any], score_report: Report | None) -> QualifyReport:
    from hseval.cli.progress import ProgressReporter
    from hseval.cli.settings import merge_settings
    from hseval.qualification.qualify import qualify as run

    metrics, extractors = _split_names(params["metrics"]), _split_names(params["extractors"])
    options = merge_settings(params["assignments"], params["config"])
    if score_report is not None and metrics is None:
        from hseval.qualification.equivalent_severity import merge_report_options

        metrics, options = merge_report_options(score_report, options, keep_extractors=extractors is None)
    with ProgressReporter(hint="; -n draws fewer cubes") as progress:
        return run(
            real,
            metrics=metrics,
            extractors=extractors,
            degradations=_split_names(params["degradations"]),
            cubes=params["cubes"],
            both_ways=params["both_ways"],
            seed=params["seed"],
            device=params["device"],
            options=options,
            layout=params["layout"],
            wavelengths=params["wavelengths"],
            workers=params["workers"],
            batch_size=params["batch_size"],
            cache=not params["no_cache"],
            progress=progress.update,
        )


def _load_report(params: dict[str, Any]) -> QualifyReport:
    from hseval.qualification.report import load_qualify

    idle = ("metrics", "extractors", "degradations", "cubes", "both_ways", "device", "layout", "wavelengths", "config")
    for name in idle:
        if params[name] not in (None, False):
            option, loaded = f"--{name.replace('_', '-')}", params["loaded"]
            raise HsevalError(f"{option}: says how curves are computed, but --load {loaded} only shows them")
    return load_qualify(params["loaded"])


def _show(report: QualifyReport, score_report: Report | None, params: dict[str, Any]) -> None:
    json_path = params["json_path"]
    if json_path not in (None, "-"):
        report.save(Path(json_path))  # first: a closed pipe must not cost the file
    if params["plots"] is not None:
        from hseval.qualification.plots import save_plots

        save_plots(report, Path(params["plots"]))
    if json_path == "-":
        sys.stdout.write(report.to_json())
        return
    from hseval.qualification.equivalent_severity import compute_equivalents
    from hseval.qualification.tables import print_report

    print_report(report, sys.stdout, [] if score_report is None else compute_equivalents(score_report, report))


def _check_not_input(json_path: str, inputs: tuple[str | None, ...]) -> None:
    for given in inputs:
        if given is not None and Path(given).exists() and Path(json_path).resolve() == Path(given).resolve():
            raise HsevalError(f"--json {json_path}: is an input of this command; name another file")


def _make_folder(plots: str) -> None:
    try:
        Path(plots).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HsevalError(f"--plots {plots}: no folder can be made there: {error.strerror}") from error


def _split_names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _get_exit_status(report: QualifyReport, *, is_explicit: bool) -> int:
    """Return 1 where a metric asked for by name, or every one, has no value; else 0."""
    missing = [
        all(point.value is None for curve in report.curves if curve.metric == column.label for point in curve.points)
        for column in report.columns
    ]
    return int(any(missing) if is_explicit else all(missing))
