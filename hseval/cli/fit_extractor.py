"""``hseval fit-extractor REAL --out F.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hseval.utils.errors import HsevalError


@click.command("fit-extractor")
@click.argument("real")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="F", help="File for the weights.")
@click.option("--extractor", default="encoder", show_default=True, metavar="NAME", help="Extractor to fit.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything random in the fit.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the fit (docs/extractors.md).")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not state it.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), where files do not state them.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where available.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def fit_extractor(real: str, out: Path, extractor: str, assignments: tuple[str, ...], **params: Any) -> None:
    """Fit a feature extractor on real cubes, without labels.

    REAL should be the training set rather than the reference. Score with ``--extractor encoder --set
    encoder.weights=F`` afterwards.
    """
    from hseval.cli.progress import ProgressReporter
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.pipeline.open import open_set
    from hseval.utils.plural import format_count

    fitter = _build_fitter(extractor, parse_plugin_settings(extractor, assignments))
    _check_output(out, force=params["force"])
    data = open_set(real, layout=params["layout"], wavelengths=params["wavelengths"])
    for note in data.info.notes:
        click.echo(f"{real}: {note}", err=True)
    with ProgressReporter() as progress, get_plugins().wrap_errors("extractor", extractor):
        arguments = {"seed": params["seed"], "device": _resolve_device(params["device"]), "progress": progress.update}
        fitter.fit(data, out, **select_accepted_arguments(fitter.fit, **arguments))
    cubes = format_count(len(data), "cube")
    click.echo(f"{out}: {extractor} fitted on {cubes} of {real}; use it with --set {extractor}.weights={out}")


def _build_fitter(name: str, settings: Any) -> Any:
    """Return the object that fits an extractor.

    Raises:
        HsevalError: there is no such extractor, it needs no fitting, or an option is unknown.
    """
    from hseval.core.options import build_options
    from hseval.core.plugin_manager import get_plugins

    plugins = get_plugins()
    fitter = getattr(plugins.find("extractor", name), "Fitter", None)
    if fitter is None:
        names = [
            other for other in plugins.get_names("extractor") if hasattr(plugins.find("extractor", other), "Fitter")
        ]
        raise HsevalError(f"extractor {name!r} needs no fitting; those that do: {', '.join(names) or 'none'}")
    return fitter(build_options(fitter, settings, owner=f"fit-extractor {name}"))


def _check_output(out: Path, *, force: bool) -> None:
    from hseval.cli.train import check_parents
    from hseval.utils.atomic_files import check_writable

    check_parents(out)
    check_writable(out)
    if out.suffix != ".safetensors":
        raise HsevalError(f"--out {out}: expected a name ending in .safetensors")
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def _resolve_device(device: str | None) -> str:
    """Return a device that torch can compute on.

    Raises:
        HsevalError: there is no such device, or torch cannot compute on it.
    """
    from hseval.utils.device import resolve_device

    return resolve_device(device)
