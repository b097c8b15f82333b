"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.sampling.chunks import ChunkStore


@click.command()
@click.argument("generator")
@click.option("-n", "count", required=True, type=click.IntRange(min=1), metavar="N", help="How many cubes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="SET", help="HDF5 file to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="RUN", help="Folder that hseval train left.")
@click.option("--seed", default=0, show_default=True, help="Cube i depends on the seed and i alone.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the generator.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; for generators that use one.")
@click.option("--force", is_flag=True, help="Overwrite SET, and what was begun for another one.")
def sample(generator: str, count: int, out: Path, checkpoint: Path | None, **params: Any) -> None:
    """Draw N cubes from GENERATOR and write them, with masks, wavelengths and provenance, as one HDF5 file.

    The same command goes on where it was cut off, where the generator can start in the middle. The options of each
    generator are listed by ``hseval plugins``.
    """
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.sampling import generate as drawing

    built = get_plugins().build("generator", generator, parse_plugin_settings(generator, params["assignments"]))
    _check_output(out, force=params["force"])
    if checkpoint is not None and not checkpoint.exists():
        raise HsevalError(f"--checkpoint {checkpoint}: does not exist; hseval train makes one")
    weights = drawing.hash_checkpoint(checkpoint)
    with get_plugins().wrap_errors("generator", generator):
        drawing.load_generator(built, checkpoint, params["device"])
    about = drawing.collect_metadata(built, params["seed"])
    if select_accepted_arguments(built.sample, start=0):
        _write_in_chunks(built, count, out, about, weights, force=params["force"])
    else:
        _write_at_once(built, count, out, about)
    click.echo(f"{out}: {count} cubes by {generator}, seed {params['seed']}")


def _check_output(out: Path, *, force: bool) -> None:
    from hseval.cli.train import check_parents
    from hseval.utils.atomic_files import check_writable

    check_parents(out)
    check_writable(out)
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def _write_at_once(generator: Any, count: int, out: Path, metadata: Mapping[str, Any]) -> None:
    """Stream the cubes to the file: by a generator that can't start in the middle, all of them or none."""
    from hseval.cli.progress import ProgressReporter
    from hseval.data.writer import SetWriter
    from hseval.sampling.generate import generate_samples

    with ProgressReporter() as progress, SetWriter(out, **metadata) as writer:
        for done, sample in enumerate(generate_samples(generator, count, metadata["provenance"]["seed"]), start=1):
            writer.add(*sample)
            progress.update("sampling", done, count)


def _write_in_chunks(
    generator: Any,
    count: int,
    out: Path,
    metadata: Mapping[str, Any],
    checkpoint_hashes: Mapping[str, Any],
    *,
    force: bool,
) -> None:
    """Stream the cubes to parts, from where an earlier process was cut off, and join them."""
    from hseval.cli.progress import ProgressReporter
    from hseval.sampling.chunks import open_chunks
    from hseval.sampling.generate import collect_inputs, generate_samples

    with open_chunks(out, collect_inputs(metadata, checkpoint_hashes), metadata) as parts:
        _check_output(out, force=force)  # again: a process that had the parts open may have finished the set
        given_up = parts.resume(force=force)
        if given_up:
            click.echo(given_up, err=True)
        if parts.count:
            click.echo(
                f"{out}: going on after {_format_cube_count(min(parts.count, count))} (in {parts.folder})", err=True
            )
        with _report_resume_point(parts), ProgressReporter() as progress:
            if parts.count < count:
                samples = generate_samples(generator, count, metadata["provenance"]["seed"], start=parts.count)
                parts.write_samples(samples, lambda done: progress.update("sampling", done, count))
            parts.join(count, lambda done: progress.update("writing", done, count))


@contextlib.contextmanager
def _report_resume_point(chunks: ChunkStore) -> Iterator[None]:
    """Say with whatever ends the sampling that the same command goes on from there, if there is a there."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not chunks.count:
            raise
        kept = f"{_format_cube_count(chunks.count)}; the same command goes on from there"
        if isinstance(error, HsevalError):
            raise HsevalError(f"{error}; kept are {kept}") from error
        click.echo(f"hseval: stopped after {kept}", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise click.exceptions.Exit(130) from None  # as after any Ctrl-C, but for its line: that is told
        raise


def _format_cube_count(count: int) -> str:
    return f"{count} cube{'' if count == 1 else 's'}"
