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
@click.option(
    "--metrics", metavar="A,B", help="Metrics by name, or all; default: those of --report, else the four defaults."
)
@click.option("--extractors", metavar="A,B", help="Run every metric that takes a feature extractor with each.")
@click.option("--degradations", metavar="A,B", help="Degradations by name; default: all that fit the cubes.")
@click.option("-n", "--cubes", type=click.IntRange(min=1), help="Draw about this many cubes, whole groups.")
@click.option("--both-ways", is_flag=True, help="Degrade each half in turn and average: twice the work, less noise.")
@click.option(
    "--report",
    "score_report_path",
    metavar="F",
    help="A report of hseval score, whose scores are also given as severities.",
)
@click.option("--load", "load_path", metavar="F", help="Show a file written by --json, instead of REAL.")
@click.option("--json", "json_path", metavar="F", help="Write the curves as JSON; -: print it instead of the table.")
@click.option("--plots", metavar="FOLDER", help="Plot the curves of each metric and a map of detections, as PNG.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of halves and degradations."
)
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where available.")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes; 0: this one; default: all cores where worthwhile."
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Cubes per call of an extractor.")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not state it.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), overrides the files.")
@click.option(
    "--set", "assignments", multiple=True, metavar="K=V", help="An option, such as fid.extractor=torchvision."
)
@click.option("--config", metavar="F", help="TOML file of options, one table per metric or extractor.")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache.")
def qualify(real: str | None, **params: Any) -> int:
    """Measure what scores are sensitive to, on the cubes REAL.

    Half of the cubes are degraded with increasing severity, in some twenty ways, and compared with the other half: how
    does every metric respond, and from which severity on does it detect the degradation?
    """
    from hseval.core.report import load_report
    from hseval.utils.atomic_files import check_writable

    if (real is None) == (params["load_path"] is None):
        raise click.UsageError("expected either the real cubes, or --load with a file that --json wrote")
    if params["json_path"] not in (None, "-"):
        check_writable(params["json_path"])
        _check_not_input(params["json_path"], (real, params["load_path"], params["score_report_path"]))
    if params["plots"] is not None:
        _make_folder(params["plots"])
    score_report = None if params["score_report_path"] is None else load_report(params["score_report_path"])
    report = _compute_report(real, params, score_report) if real is not None else _load_report(params)
    _show(report, score_report, params)
    return _get_exit_status(report, is_explicit=params["metrics"] is not None)


def _compute_report(real: str, params: dict[str, Any], score_report: Report | None) -> QualifyReport:
    from hseval.cli.progress import ProgressReporter
    from hseval.cli.settings import merge_settings
    from hseval.qualification.qualify import qualify as run_qualify

    metrics, extractors = _split_names(params["metrics"]), _split_names(params["extractors"])
    options = merge_settings(params["assignments"], params["config"])
    if score_report is not None and metrics is None:
        from hseval.qualification.equivalent_severity import merge_report_options

        metrics, options = merge_report_options(score_report, options, keep_extractors=extractors is None)
    with ProgressReporter(hint="; -n uses fewer cubes") as progress:
        return run_qualify(
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

    compute_options = (
        "metrics",
        "extractors",
        "degradations",
        "cubes",
        "both_ways",
        "device",
        "layout",
        "wavelengths",
        "config",
    )
    for name in compute_options:
        if params[name] not in (None, False):
            option, load_path = f"--{name.replace('_', '-')}", params["load_path"]
            raise HsevalError(f"{option}: decides how curves are computed, but --load {load_path} only shows them")
    return load_qualify(params["load_path"])


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
    for source in inputs:
        if source is not None and Path(source).exists() and Path(json_path).resolve() == Path(source).resolve():
            raise HsevalError(f"--json {json_path}: is an input of this command; name another file")


def _make_folder(plots: str) -> None:
    try:
        Path(plots).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HsevalError(f"--plots {plots}: this folder can't be created: {error.strerror}") from error


def _split_names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _get_exit_status(report: QualifyReport, *, is_explicit: bool) -> int:
    """Return 1 if a metric requested by name, or every metric, has no value; else 0."""
    missing = [
        all(point.value is None for curve in report.curves if curve.metric == column.label for point in curve.points)
        for column in report.columns
    ]
    return int(any(missing) if is_explicit else all(missing))
