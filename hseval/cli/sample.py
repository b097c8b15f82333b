"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.sampling.chunks import ChunkStore


@click.command()
@click.argument("generator")
@click.option("-n", "count", required=True, type=click.IntRange(min=1), metavar="N", help="Number of cubes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="SET", help="HDF5 file to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="RUN", help="Folder that hseval train wrote.")
@click.option("--seed", default=0, show_default=True, help="Cube i depends only on the seed and i.")
@click.option("--set", "assignments", multiple=True, metavar="K=V", help="An option of the generator.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; for generators that use a device.")
@click.option("--force", is_flag=True, help="Overwrite SET, and discard unfinished samples of another one.")
def sample(generator: str, count: int, out: Path, checkpoint: Path | None, **params: Any) -> None:
    """Sample cubes from a generator into one HDF5 file.

    Masks, wavelengths and provenance are stored, too. The same command resumes where it was interrupted, if the
    generator can start in the middle. The options of each generator are listed by ``hseval plugins``.
    """
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.sampling import generate

    built = get_plugins().build("generator", generator, parse_plugin_settings(generator, params["assignments"]))
    _check_output(out, force=params["force"])
    if checkpoint is not None and not checkpoint.exists():
        raise HsevalError(f"--checkpoint {checkpoint}: does not exist; hseval train writes one")
    weights = generate.hash_checkpoint(checkpoint)
    with get_plugins().wrap_errors("generator", generator):
        generate.load_generator(built, checkpoint, params["device"])
    metadata = generate.collect_metadata(built, params["seed"])
    if select_accepted_arguments(built.sample, start=0):
        _write_in_chunks(built, count, out, metadata, weights, force=params["force"])
    else:
        _write_at_once(built, count, out, metadata)
    click.echo(f"{out}: {format_count(count, 'cube')} by {generator}, seed {params['seed']}")


def _check_output(out: Path, *, force: bool) -> None:
    from hseval.cli.train import check_parents
    from hseval.utils.atomic_files import check_writable

    check_parents(out)
    check_writable(out)
    if out.exists() and not force:
        raise HsevalError(f"{out}: exists already; name another file, or overwrite it with --force")


def _write_at_once(generator: Any, count: int, out: Path, metadata: Mapping[str, Any]) -> None:
    """Stream all cubes of a generator that can't start in the middle to the file, atomically."""
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
    """Stream the cubes to chunks, resume where an earlier process was interrupted, and join them."""
    from hseval.cli.progress import ProgressReporter
    from hseval.sampling.chunks import open_chunks
    from hseval.sampling.generate import collect_inputs, generate_samples

    with open_chunks(out, collect_inputs(metadata, checkpoint_hashes), metadata) as chunks:
        _check_output(out, force=force)  # again: a process that held the chunks may have finished the set
        discard_note = chunks.resume(force=force)
        if discard_note:
            click.echo(discard_note, err=True)
        if chunks.count:
            click.echo(
                f"{out}: resuming after {format_count(min(chunks.count, count), 'cube')} (in {chunks.folder})", err=True
            )
        with _report_resume_point(chunks), ProgressReporter() as progress:
            if chunks.count < count:
                samples = generate_samples(generator, count, metadata["provenance"]["seed"], start=chunks.count)
                chunks.write_samples(samples, lambda done: progress.update("sampling", done, count))
            chunks.join(count, lambda done: progress.update("writing", done, count))


@contextlib.contextmanager
def _report_resume_point(chunks: ChunkStore) -> Iterator[None]:
    """Add to any error that ends the sampling how many cubes are stored, if any, and that the command resumes."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not chunks.count:
            raise
        stored = f"{format_count(chunks.count, 'cube')}; the same command resumes from there"
        if isinstance(error, HsevalError):
            raise HsevalError(f"{error}; stored: {stored}") from error
        click.echo(f"hseval: stopped after {stored}", err=True)
        if isinstance(error, KeyboardInterrupt):
            raise click.exceptions.Exit(130) from None  # the usual status of Ctrl-C; its message is printed above
        raise
