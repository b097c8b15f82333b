"""``hseval qualify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_output
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.report import Report
    from hseval.qualification.report import QualifyReport


@click.command()
@click.argument("real", required=False, type=click.Path())
@shared.names_option("--metrics", kind="metric", help="By name, or all; default: as --report, else four.")
@shared.names_option("--extractors", kind="extractor", help="Run metrics that take an extractor with each.")
@shared.names_option("--degradations", help="By name; default: all that fit the cubes.")
@click.option("-n", "--cubes", type=click.IntRange(min=1), metavar="N", help="Draw about this many, whole groups.")
@click.option("--both-ways", is_flag=True, help="Degrade each half in turn: twice the work, less noise.")
@click.option(
    "--report",
    "score_report_path",
    type=click.Path(),
    metavar="F",
    help="Give its scores as severities, too.",
)
@click.option("--load", "load_path", type=click.Path(), metavar="F", help="Show a file of --json, instead of REAL.")
@click.option("--json", "json_path", type=click.Path(), metavar="F", help="Write the curves as JSON; -: print them.")
@click.option("--plots", type=click.Path(), metavar="FOLDER", help="Plot curves and a map of detections as PNG.")
@shared.seed_option("Seed of halves and degradations.")
@shared.device_option
@shared.workers_option
@shared.batch_size_option
@shared.layout_option
@shared.wavelengths_option
@shared.set_option("An option, such as fid.extractor=torchvision.")
@shared.config_option
@shared.no_cache_option
@shared.quiet_option()
def qualify(real: str | None, **params: Any) -> int:
    """Measure what scores are sensitive to, on the cubes REAL.

    Half of the cubes are degraded, in some twenty ways, and compared with the other half: how does every metric
    respond, and from which severity on does it detect the degradation?
    """
    from hseval.core.report_file import load_report

    if (real is None) == (params["load_path"] is None):
        raise click.UsageError("expected either the real cubes, or --load with a file that --json wrote")
    if params["json_path"] not in (None, "-"):
        check_output("--json", params["json_path"], (real, params["load_path"], params["score_report_path"]))
    if params["plots"] is not None:
        _make_folder(params["plots"])
    score_report = None if params["score_report_path"] is None else load_report(params["score_report_path"])
    report = _compute_report(real, params, score_report) if real is not None else _load_report(params)
    _show(report, score_report, params)
    return _get_exit_status(report, is_explicit=params["metrics"] is not None)


def _compute_report(real: str, params: dict[str, Any], score_report: Report | None) -> QualifyReport:
    from hseval.cli.settings import merge_settings
    from hseval.qualification.qualify import qualify as run_qualify
    from hseval.utils.progress import ProgressReporter

    metrics, extractors = params["metrics"], params["extractors"]
    options = merge_settings(params["assignments"], params["config"])
    if score_report is not None and metrics is None:
        from hseval.qualification.equivalent_severity import merge_report_options

        metrics, options = merge_report_options(score_report, options, keep_extractors=extractors is None)
    with ProgressReporter(hint="; -n uses fewer cubes") as progress:
        return run_qualify(
            real,
            metrics=metrics,
            extractors=extractors,
            degradations=params["degradations"],
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


def _make_folder(plots: str) -> None:
    try:
        Path(plots).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HsevalError(f"--plots {plots}: this folder can't be created: {error.strerror}") from error


def _get_exit_status(report: QualifyReport, *, is_explicit: bool) -> int:
    """Return 1 if a metric requested by name, or every metric, has no value; else 0."""
    missing = [
        all(point.value is None for curve in report.curves if curve.metric == column.label for point in curve.points)
        for column in report.columns
    ]
    return int(any(missing) if is_explicit else all(missing))
