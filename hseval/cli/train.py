"""``hseval train GENERATOR DATA --out RUN``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_parents
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count


@click.command()
@click.argument("generator", shell_complete=shared.complete_names("generator"))
@click.argument("data", type=click.Path())
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder for the checkpoint.")
@shared.seed_option("Seed of everything random.")
@shared.set_option("An option of the generator.")
@shared.layout_option
@shared.wavelengths_option
@shared.device_option
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
@shared.quiet_option()
def train(generator: str, data: str, out: Path, **params: Any) -> None:
    """Train a generator on real cubes.

    Options: hseval plugins GENERATOR.
    """
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.capabilities import SupportsFit
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.pipeline.open import open_set

    built = get_plugins().build("generator", generator, parse_plugin_settings(generator, params["assignments"]))
    if not isinstance(built, SupportsFit):
        raise HsevalError(f"generator {generator!r} needs no training: hseval sample {generator} -n 64 --out SET")
    requested = {"seed": params["seed"]} | ({} if params["device"] is None else {"device": params["device"]})
    with get_plugins().wrap_errors("generator", generator):
        supported = select_accepted_arguments(built.fit, **requested)
    _check_ignored_options(generator, requested, supported)
    with _prepare_run_folder(out, force=params["force"]):
        cubes = open_set(data, layout=params["layout"], wavelengths=params["wavelengths"])
        for note in cubes.info.notes if _is_first_rank() else ():
            print(f"{data}: {note}", file=sys.stderr)
        with get_plugins().wrap_errors("generator", generator):
            built.fit(cubes, out, **supported)
    if _is_first_rank():
        print(f"{out}: {generator} fitted on {format_count(len(cubes), 'cube')} of {data}")


def _check_ignored_options(generator: str, requested: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Refuse a device that ``fit`` does not take; print a note for a seed that it does not take.

    An ignored device would make the fit run elsewhere than requested; an ignored seed changes nothing.
    """
    if "device" in requested and "device" not in supported:
        raise HsevalError(
            f"--device {requested['device']}: generator {generator!r} does not choose a device to train on"
        )
    is_seed_typed = click.get_current_context().get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE
    if is_seed_typed and "seed" not in supported:
        print(f"--seed {requested['seed']}: generator {generator!r} takes no seed for training", file=sys.stderr)


@contextlib.contextmanager
def _prepare_run_folder(out: Path, *, force: bool) -> Iterator[None]:
    """Create the folder, check before the work that it is writable, and leave no empty folder behind."""
    from hseval.utils.atomic_files import check_writable, create_folder

    check_parents(out)
    if out.exists() and not out.is_dir():
        raise HsevalError(f"{out}: is a file; --out takes the folder for the checkpoint")
    if not _is_first_rank():
        out.mkdir(exist_ok=True)  # the first rank, which may have filled it by now, checks it for all
        yield
        return
    if out.is_dir() and not force and any(out.iterdir()):
        raise HsevalError(f"{out}: is not empty; name another folder, or write into this one with --force")
    is_new = create_folder(out)
    try:
        check_writable(out / "checkpoint")
        yield
    finally:
        if is_new and not any(out.iterdir()):
            out.rmdir()


def _is_first_rank() -> bool:
    """Return whether this process, of those that torchrun started, is the one that prints."""
    return int(os.environ.get("RANK", "0")) == 0 or int(os.environ.get("WORLD_SIZE", "1")) == 1
