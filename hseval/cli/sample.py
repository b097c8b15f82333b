"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.errors import HsevalError

if TYPE_CHECKING:
    from hseval.hookspecs import Sample


@click.command()
@click.argument("generator")
@click.option("-n", "count", required=True, type=click.IntRange(min=1), metavar="N", help="How many cubes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="SET", help="HDF5 file to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="RUN", help="Folder that hseval train left.")
@click.option("--seed", default=0, show_default=True, help="Cube i depends on the seed and i alone.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the generator.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; for generators that use one.")
@click.option("--force", is_flag=True, help="Overwrite SET.")
def sample(generator: str, count: int, out: Path, checkpoint: Path | None, **given: Any) -> None:
    """Draw N cubes from GENERATOR and write them, with masks, wavelengths and provenance, as one HDF5 file.

    The options of each generator are listed by ``hseval plugins``.
    """
    from hseval.cli.settings import settings_of
    from hseval.plugins import plugins

    built = plugins().build("generator", generator, settings_of(generator, given["assignments"]))
    _check_output(out, force=given["force"])
    if checkpoint is not None and not checkpoint.exists():
        raise HsevalError(f"--checkpoint {checkpoint}: does not exist; hseval train makes one")
    with plugins().blaming("generator", generator):
        _load(built, checkpoint, given["device"])
    _write(built, count, out, seed=given["seed"])
    click.echo(f"{out}: {count} cubes by {generator}, seed {given['seed']}")


def _load(generator: Any, checkpoint: Path | None, device: str | None) -> None:
    """Load on the device; HsevalError where one is named and the generator does not use it."""
    from hseval.plugins import accepted

    told = f"--device {device}: generator {generator.name!r} does not choose a device to sample on"
    taken = accepted(generator.load, device=device)
    if device is not None and not taken:
        raise HsevalError(told)
    generator.load(checkpoint, **taken)
    if device is not None and not hasattr(generator, "device"):
        raise HsevalError(told)


def _check_output(out: Path, *, force: bool) -> None:
    from hseval.cli.train import check_parents
    from hseval.files import check_writable

    check_parents(out)
    check_writable(out)
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def _write(generator: Any, count: int, out: Path, *, seed: int) -> None:
    """Stream the cubes to the file."""
    from hseval.cli.progress import Progress
    from hseval.plugins import plugins
    from hseval.writer import SetWriter

    with plugins().blaming("generator", generator.name):
        about = {
            "wavelengths": generator.wavelengths,
            "units": getattr(generator, "units", None),
            "provenance": _provenance(generator, seed),
        }
    with Progress() as progress, SetWriter(out, **about) as writer:
        for done, (cube, masks, name) in enumerate(_drawn(generator, count, seed), start=1):
            writer.add(cube, masks, name)
            progress.told("sampling", done, count)


def _drawn(generator: Any, count: int, seed: int) -> Iterator[Sample]:
    """Yield what the generator draws; what it raises, or yields that is no sample, is told as its own."""
    import numpy as np

    from hseval.hookspecs import Sample
    from hseval.plugins import plugins

    with plugins().blaming("generator", generator.name):
        for cube, masks, name in generator.sample(count, seed=seed):
            yield Sample(np.asarray(cube), {key: np.asarray(mask) for key, mask in masks.items()}, name)


def _provenance(generator: Any, seed: int) -> dict[str, Any]:
    from hseval import __version__
    from hseval.options import as_dict

    return {
        "generator": generator.name,
        "generator_version": generator.version,
        "options": as_dict(getattr(generator, "options", None)),
        "seed": seed,
        "hseval": __version__,
    }
