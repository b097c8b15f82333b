"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.sampling.chunks import Parts


@click.command()
@click.argument("generator")
@click.option("-n", "count", required=True, type=click.IntRange(min=1), metavar="N", help="How many cubes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="SET", help="HDF5 file to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="RUN", help="Folder that hseval train left.")
@click.option("--seed", default=0, show_default=True, help="Cube i depends on the seed and i alone.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the generator.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; for generators that use one.")
@click.option("--force", is_flag=True, help="Overwrite SET, and what was begun for another one.")
def sample(generator: str, count: int, out: Path, checkpoint: Path | None, **given: Any) -> None:
    """Draw N cubes from GENERATOR and write them, with masks, wavelengths and provenance, as one HDF5 file.

    The same command goes on where it was cut off, where the generator can start in the middle. The options of each
    generator are listed by ``hseval plugins``.
    """
    from hseval.cli.settings import settings_of
    from hseval.core.plugin_manager import accepted, plugins
    from hseval.sampling import generate as drawing

    built = plugins().build("generator", generator, settings_of(generator, given["assignments"]))
    _check_output(out, force=given["force"])
    if checkpoint is not None and not checkpoint.exists():
        raise HsevalError(f"--checkpoint {checkpoint}: does not exist; hseval train makes one")
    weights = drawing.hashes(checkpoint)
    with plugins().blaming("generator", generator):
        drawing.loaded(built, checkpoint, given["device"])
    about = drawing.about(built, given["seed"])
    if accepted(built.sample, start=0):
        _write_in_parts(built, count, out, about, weights, force=given["force"])
    else:
        _write_at_once(built, count, out, about)
    click.echo(f"{out}: {count} cubes by {generator}, seed {given['seed']}")


def _check_output(out: Path, *, force: bool) -> None:
    from hseval.cli.train import check_parents
    from hseval.utils.atomic_files import check_writable

    check_parents(out)
    check_writable(out)
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def _write_at_once(generator: Any, count: int, out: Path, about: Mapping[str, Any]) -> None:
    """Stream the cubes to the file: by a generator that can't start in the middle, all of them or none."""
    from hseval.cli.progress import Progress
    from hseval.data.writer import SetWriter
    from hseval.sampling.generate import drawn

    with Progress() as progress, SetWriter(out, **about) as writer:
        for done, sample in enumerate(drawn(generator, count, about["provenance"]["seed"]), start=1):
            writer.add(*sample)
            progress.told("sampling", done, count)


def _write_in_parts(
    generator: Any, count: int, out: Path, about: Mapping[str, Any], weights: Mapping[str, Any], *, force: bool
) -> None:
    """Stream the cubes to parts, from where an earlier process was cut off, and join them."""
    from hseval.cli.progress import Progress
    from hseval.sampling.chunks import parts_of
    from hseval.sampling.generate import deciding, drawn

    with parts_of(out, deciding(about, weights), about) as parts:
        _check_output(out, force=force)  # again: a process that had the parts open may have finished the set
        given_up = parts.take_up(force=force)
        if given_up:
            click.echo(given_up, err=True)
        if parts.count:
            click.echo(f"{out}: going on after {_cubes(min(parts.count, count))} (in {parts.folder})", err=True)
        with _telling_what_is_kept(parts), Progress() as progress:
            if parts.count < count:
                samples = drawn(generator, count, about["provenance"]["seed"], start=parts.count)
                parts.keep(samples, lambda done: progress.told("sampling", done, count))
            parts.join(count, lambda done: progress.told("writing", done, count))


@contextlib.contextmanager
def _telling_what_is_kept(parts: Parts) -> Iterator[None]:
    """Say with whatever ends the sampling that the same command goes on from there, if there is a there."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not parts.count:
            raise
        kept = f"{_cubes(parts.count)}; the same command goes on from there"
        if isinstance(error, HsevalError):
            raise HsevalError(f"{error}; kept are {kept}") from error
        click.echo(f"hseval: stopped after {kept}", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise click.exceptions.Exit(130) from None  # as after any Ctrl-C, but for its line: that is told
        raise


def _cubes(count: int) -> str:
    return f"{count} cube{'' if count == 1 else 's'}"
