"""``hseval score``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.html import qualify_option, sweep_option
from hseval.cli.output_files import check_output
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.report import Report


@click.command()
@click.argument("samples", type=click.Path())
@click.option(
    "--ref", required=True, type=click.Path(), metavar="REAL", help="Real cubes that the generator has not seen."
)
@click.option("--train", type=click.Path(), metavar="TRAIN", help="Real cubes that the generator was trained on.")
@shared.names_option("--metrics", kind="metric", help="Metrics by name, or all; may be repeated.")
@click.option(
    "--extractor", metavar="NAME", shell_complete=shared.complete_names("extractor"), help="Extractor of all features."
)
@click.option(
    "--segmenter",
    metavar="NAME",
    shell_complete=shared.complete_names("segmenter"),
    help="Finds structures; 'none' uses the masks in the files.",
)
@click.option("--details", is_flag=True, help="Also show values, intervals, floors and remarks.")
@shared.quiet_option("Print the summary alone, and no progress.", expose_value=True)
@click.option("--anonymous", is_flag=True, help="No ids, paths or images in the report.")
@click.option("--json", "json_path", type=click.Path(), metavar="F", help="Write the report as JSON; -: print it.")
@click.option("--html", "html_path", type=click.Path(), metavar="F", help="Write a page: scores, images, plots.")
@qualify_option
@sweep_option
@shared.seed_option("Seed of splits and pairs.")
@shared.device_option
@shared.workers_option
@shared.batch_size_option
@shared.layout_option
@shared.wavelengths_option
@click.option("--resample", is_flag=True, help="Interpolate to the reference's wavelengths.")
@shared.set_option("An option, such as fid.extractor=torchvision.")
@shared.config_option
@click.option("--quick", is_flag=True, help="Score 64 cubes of each set, drawn at random.")
@click.option("--verify", is_flag=True, help="Hash all cubes again instead of trusting timestamps.")
@shared.no_cache_option
def score(
    samples: str,
    *,
    details: bool,
    quiet: bool,
    json_path: str | None,
    html_path: str | None,
    qualify_path: str | None,
    sweep_path: str | None,
    assignments: tuple[str, ...],
    config: str | None,
    no_cache: bool,
    **settings: Any,
) -> int:
    """Score the generated cubes SAMPLES against real cubes.

    Every score comes with its floor: what two sets of real cubes of that size score against each other. Scores by
    default: fid, spectral-kl, ms-ssim, authenticity.
    """
    from hseval.cli.html import check_page_inputs, save_html
    from hseval.cli.settings import merge_settings
    from hseval.scoring.score import score as evaluate
    from hseval.utils.distributed import Ranks
    from hseval.utils.progress import ProgressReporter

    if details and (quiet or json_path == "-"):
        raise click.UsageError(f"--details has no effect with {'-q' if quiet else '--json -'}")
    if settings["anonymous"] and (qualify_path is not None or sweep_path is not None):
        raise click.UsageError("--anonymous: a page with --qualify or --sweep shows their paths; leave them out")
    inputs = (samples, settings["ref"], settings["train"], qualify_path)
    _check_outputs(json_path, html_path, inputs)
    check_page_inputs(html_path, qualify_path, sweep_path)
    options = merge_settings(assignments, config)
    is_first_rank = Ranks.join("cpu").is_main
    with ProgressReporter(enabled=is_first_rank, hint="; --quick scores 64") as progress:
        report = evaluate(
            samples,
            **settings,
            options=options,
            cache=not no_cache,
            progress=progress.update,
            ranks=True,
            exhibits=html_path is not None,
        )
    if is_first_rank:
        with contextlib.ExitStack() as outputs:  # the last one first, and one that fails costs no other
            outputs.callback(_print_report, report, as_json=json_path == "-", details=details, quiet=quiet)
            if html_path is not None:
                outputs.callback(save_html, report, html_path, qualify=qualify_path, sweep=sweep_path)
            if json_path is not None and json_path != "-":
                outputs.callback(report.save, json_path)
    return _get_exit_status(report, requested=settings["metrics"] or [])


def _check_outputs(json_path: str | None, html_path: str | None, inputs: tuple[str | None, ...]) -> None:
    """Refuse, before any work, output files that can't be written or would overwrite each other or an input."""
    if json_path is not None and json_path != "-":
        check_output("--json", json_path, inputs)
    if html_path is not None:
        check_output("--html", html_path, inputs)
        if json_path is not None and json_path != "-" and Path(html_path).resolve() == Path(json_path).resolve():
            raise HsevalError(f"--html {html_path}: is what --json writes; name another file")


def _print_report(report: Report, *, as_json: bool, details: bool, quiet: bool) -> None:
    from hseval.core.plugin_manager import get_plugins
    from hseval.reporting.summary import summarize_verdicts

    if as_json:
        get_plugins().build("renderer", "json").render(report, sys.stdout)
    elif quiet:
        print(summarize_verdicts(report))
    else:
        get_plugins().build("renderer", "terminal", {"details": details}).render(report, sys.stdout)


def _get_exit_status(report: Report, *, requested: list[str]) -> int:
    """Return 1 if a metric requested by name, or every metric, has no value; else 0."""
    missing = {score.name for score in report.scores if score.value is None}
    return int(bool(missing.intersection(requested)) or len(missing) == len(report.scores))
