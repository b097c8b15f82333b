"""``hseval qualify``."""

from __future__ import annotations

import contextlib
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
def qualify(
    real: str | None,
    *,
    score_report_path: str | None,
    load_path: str | None,
    json_path: str | None,
    plots: str | None,
    assignments: tuple[str, ...],
    config: str | None,
    no_cache: bool,
    **settings: Any,
) -> int:
    """Measure what scores are sensitive to, on the cubes REAL.

    Half of the cubes are degraded, in some twenty ways, and compared with the other half: how does every metric
    respond, and from which severity on does it detect the degradation?
    """
    from hseval.cli.settings import merge_settings
    from hseval.core.report_file import load_report

    if (real is None) == (load_path is None):
        raise click.UsageError("expected either the real cubes, or --load with a file that --json wrote")
    if json_path is not None and json_path != "-":
        check_output("--json", json_path, (real, load_path, score_report_path))
    if plots is not None:
        _make_folder(plots)
        check_output("--plots", Path(plots) / "sees.png", ())
    score_report = None if score_report_path is None else load_report(score_report_path)
    if load_path is not None:
        report = _load_report(load_path, {**settings, "config": config})
    else:
        settings |= {"options": merge_settings(assignments, config), "cache": not no_cache}
        report = _compute_report(real, settings, score_report)
    with contextlib.ExitStack() as outputs:  # the last one first, and one that fails costs no other
        if json_path == "-":
            outputs.callback(sys.stdout.write, report.to_json())
        else:
            outputs.callback(_print_tables, report, score_report)
        if plots is not None:
            from hseval.qualification.plots import save_plots

            outputs.callback(save_plots, report, Path(plots))
        if json_path is not None and json_path != "-":
            outputs.callback(report.save, Path(json_path))
    return _get_exit_status(report, is_explicit=settings["metrics"] is not None)


def _compute_report(real: str | None, settings: dict[str, Any], score_report: Report | None) -> QualifyReport:
    from hseval.qualification.qualify import qualify as run_qualify
    from hseval.utils.progress import ProgressReporter

    if score_report is not None and settings["metrics"] is None:
        from hseval.qualification.equivalent_severity import merge_report_options

        metrics, options = merge_report_options(
            score_report, settings["options"], keep_extractors=settings["extractors"] is None
        )
        settings = {**settings, "metrics": metrics, "options": options}
    with ProgressReporter(hint="; -n uses fewer cubes") as progress:
        return run_qualify(real, **settings, progress=progress.update)


def _load_report(load_path: str, settings: dict[str, Any]) -> QualifyReport:
    from hseval.qualification.report import load_qualify

    for name, value in settings.items():
        if value not in (None, False, 0):
            option = f"--{name.replace('_', '-')}"
            raise HsevalError(f"{option}: decides how curves are computed, but --load {load_path} only shows them")
    return load_qualify(load_path)


def _print_tables(report: QualifyReport, score_report: Report | None) -> None:
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
