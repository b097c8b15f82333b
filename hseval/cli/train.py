"""``hseval train GENERATOR DATA --out RUN``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hseval.errors import HsevalError


@click.command()
@click.argument("generator")
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Folder for the checkpoint.")
@click.option("--seed", default=0, show_default=True, help="Seed of all that the fit draws.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the generator.")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where files do not say.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), where files do not say.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; for generators that take one.")
@click.option("--force", is_flag=True, help="Write into a folder that already holds files.")
def train(generator: str, data: str, out: Path, **given: Any) -> None:
    """Fit GENERATOR on the real cubes DATA and leave a checkpoint in the folder RUN.

    The options of each generator are listed by ``hseval plugins``.
    """
    from hseval.cli.settings import settings_of
    from hseval.open import open_set
    from hseval.plugins import plugins

    built = plugins().build("generator", generator, settings_of(generator, given["assignments"]))
    if not hasattr(built, "fit"):
        raise HsevalError(f"generator {generator!r} needs no training: hseval sample {generator} -n 64 --out SET")
    device = _device(built, given["device"])
    with _run_folder(out, force=given["force"]):
        cubes = open_set(data, layout=given["layout"], wavelengths=given["wavelengths"])
        for note in cubes.info.notes:
            click.echo(f"{data}: {note}", err=True)
        built.fit(cubes, out, seed=given["seed"], **device)
    click.echo(f"{out}: {generator} fitted on {len(cubes)} cubes of {data}")


def _device(generator: Any, device: str | None) -> dict[str, str]:
    """Return the argument ``device`` of ``fit``, where the user gives one and the generator takes one."""
    import inspect

    if device is None:
        return {}
    if "device" not in inspect.signature(generator.fit).parameters:
        raise HsevalError(f"--device {device}: generator {generator.name!r} does not choose a device to train on")
    return {"device": device}


@contextlib.contextmanager
def _run_folder(out: Path, *, force: bool) -> Iterator[None]:
    """Make the folder, find out before the work starts that it takes files, and leave no empty one behind."""
    from hseval.files import check_writable

    if out.is_dir() and not force and any(out.iterdir()):
        raise HsevalError(f"{out}: is not empty; name another folder, or write into this one with --force")
    if out.exists() and not out.is_dir():
        raise HsevalError(f"{out}: is a file; --out takes the folder for the checkpoint")
    if not out.exists():
        check_writable(out)
    made = not out.exists()
    out.mkdir(exist_ok=True)
    try:
        check_writable(out / "checkpoint")
        yield
    finally:
        if made and not any(out.iterdir()):
            out.rmdir()
