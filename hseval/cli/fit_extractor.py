"""``hseval fit-extractor REAL --out F.safetensors``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_new_file
from hseval.utils.errors import HsevalError


@click.command("fit-extractor")
@click.argument("real", type=click.Path())
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="F", help="File for the weights.")
@click.option("--extractor", default="encoder", show_default=True, metavar="NAME", help="Extractor to fit.")
@shared.seed_option("Seed of everything random.")
@shared.set_option("An option of the fit (docs/extractors.md).")
@shared.layout_option
@shared.wavelengths_option
@shared.device_option
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@shared.quiet_option()
def fit_extractor(real: str, out: Path, extractor: str, assignments: tuple[str, ...], **params: Any) -> None:
    """Fit a feature extractor on real cubes, without labels.

    REAL should be the training set rather than the reference. Score with --extractor encoder --set encoder.weights=F
    afterwards.
    """
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.pipeline.open import open_set
    from hseval.utils.device import resolve_device
    from hseval.utils.plural import format_count
    from hseval.utils.progress import ProgressReporter

    fitter = _build_fitter(extractor, parse_plugin_settings(extractor, assignments))
    _check_output(out, force=params["force"])
    data = open_set(real, layout=params["layout"], wavelengths=params["wavelengths"])
    for note in data.info.notes:
        print(f"{real}: {note}", file=sys.stderr)
    with ProgressReporter() as progress, get_plugins().wrap_errors("extractor", extractor):
        arguments = {"seed": params["seed"], "device": resolve_device(params["device"]), "progress": progress.update}
        fitter.fit(data, out, **select_accepted_arguments(fitter.fit, **arguments))
    cubes = format_count(len(data), "cube")
    print(f"{out}: {extractor} fitted on {cubes} of {real}; use it with --set {extractor}.weights={out}")


def _build_fitter(name: str, settings: Any) -> Any:
    """Return the object that fits an extractor.

    Raises:
        HsevalError: there is no such extractor, it needs no fitting, or an option is unknown.
    """
    from hseval.core.capabilities import HasFitter
    from hseval.core.options import build_options
    from hseval.core.plugin_manager import get_plugins

    plugins = get_plugins()
    extractor = plugins.find("extractor", name)
    if not isinstance(extractor, HasFitter):
        names = [
            other for other in plugins.get_names("extractor") if isinstance(plugins.find("extractor", other), HasFitter)
        ]
        raise HsevalError(f"extractor {name!r} needs no fitting; those that do: {', '.join(names) or 'none'}")
    fitter: Any = extractor.Fitter
    return fitter(build_options(fitter, settings, owner=f"fit-extractor {name}"))


def _check_output(out: Path, *, force: bool) -> None:
    if out.suffix != ".safetensors":
        raise HsevalError(f"--out {out}: expected a name ending in .safetensors")
    check_new_file(out, force=force)
