"""``hseval score``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.hookspecs import Renderer
    from hseval.core.report import Report


@click.command()
@click.argument("samples")
@click.option(
    "--ref", "reference", required=True, metavar="REAL", help="Real cubes that the generator was not trained on."
)
@click.option("--train", metavar="TRAIN", help="Real cubes that the generator was trained on.")
@click.option("--metrics", metavar="A,B", help="By name, or all; default: fid, spectral-kl, ms-ssim, authenticity.")
@click.option("--extractor", metavar="NAME", help="Feature extractor, instead of each metric's default.")
@click.option(
    "--segmenter", metavar="NAME", help="Segmenter that finds structures; 'none' uses the masks in the files."
)
@click.option("--json", "json_path", metavar="F", help="Write the report as JSON; -: print it instead of tables.")
@click.option("--html", "html_path", metavar="F", help="Write an HTML page: verdict, tables, images, plots.")
@click.option(
    "--qualify", "qualify_path", metavar="Q", help="With --html: JSON of hseval qualify; scores as severities."
)
@click.option("--sweep", "sweep_path", metavar="S", help="With --html: results of hseval sweep; its Pareto plot.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of splits and pairs.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where available.")
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes; 0: this one; default: all cores where worthwhile."
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Cubes per call of an extractor.")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not state it.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), overrides the files.")
@click.option("--resample", is_flag=True, help="Interpolate to the reference's wavelengths.")
@click.option(
    "--set", "assignments", multiple=True, metavar="K=V", help="An option, such as fid.extractor=torchvision."
)
@click.option("--config", metavar="F", help="TOML file of options, one table per metric or extractor.")
@click.option("--quick", is_flag=True, help="Score 64 cubes of each set, drawn at random (all are read once).")
@click.option("--verify", is_flag=True, help="Hash every cube again instead of trusting timestamps.")
@click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache.")
def score(samples: str, reference: str, train: str | None, **params: Any) -> int:
    """Score the generated cubes SAMPLES against real cubes.

    Every score comes with its floor: what two sets of real cubes of that size score against each other.
    """
    from hseval.cli.progress import ProgressReporter
    from hseval.cli.settings import merge_settings
    from hseval.scoring.score import score as evaluate
    from hseval.utils.distributed import connect

    _check_outputs(params, (samples, reference, train))
    options = merge_settings(params["assignments"], params["config"])
    is_first_rank = connect().rank == 0
    with ProgressReporter(enabled=is_first_rank, hint="; --quick scores 64") as progress:
        report = evaluate(
            samples,
            ref=reference,
            train=train,
            metrics=_split_names(params["metrics"]),
            extractor=params["extractor"],
            segmenter=params["segmenter"],
            seed=params["seed"],
            device=params["device"],
            options=options,
            layout=params["layout"],
            wavelengths=params["wavelengths"],
            resample=params["resample"],
            workers=params["workers"],
            batch_size=params["batch_size"],
            quick=params["quick"],
            cache=not params["no_cache"],
            verify=params["verify"],
            progress=progress.update,
            ranks=True,
            exhibits=params["html_path"] is not None,
        )
    if is_first_rank:
        _show(report, params)
    return _get_exit_status(report, requested=_split_names(params["metrics"]) or [])


def _check_outputs(params: dict[str, Any], inputs: tuple[str | None, ...]) -> None:
    """Refuse, before any work, output files that can't be written or would overwrite each other or an input."""
    from hseval.cli.html import check_output, check_page_inputs

    json_path, html_path, qualify_path = (params[name] for name in ("json_path", "html_path", "qualify_path"))
    if json_path not in (None, "-"):
        check_output("--json", json_path, (*inputs, qualify_path))
    if html_path is not None:
        check_output("--html", html_path, (*inputs, qualify_path))
        if json_path not in (None, "-") and Path(html_path).resolve() == Path(json_path).resolve():
            raise HsevalError(f"--html {html_path}: is what --json writes; name another file")
    check_page_inputs(html_path, qualify_path, params["sweep_path"])


def _split_names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _show(report: Report, params: dict[str, Any]) -> None:
    from hseval.cli.html import save_html
    from hseval.core.plugin_manager import get_plugins

    json_path = params["json_path"]
    if json_path not in (None, "-"):
        report.save(Path(json_path))  # first: a closed pipe must not cost the file
    if params["html_path"] is not None:
        save_html(report, params["html_path"], qualify=params["qualify_path"], sweep=params["sweep_path"])
    renderer: Renderer = get_plugins().build("renderer", "json" if json_path == "-" else "terminal")
    renderer.render(report, sys.stdout)


def _get_exit_status(report: Report, *, requested: list[str]) -> int:
    """Return 1 if a metric requested by name, or every metric, has no value; else 0."""
    missing = {score.name for score in report.scores if score.value is None}
    return int(bool(missing.intersection(requested)) or len(missing) == len(report.scores))
