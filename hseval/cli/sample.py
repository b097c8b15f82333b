"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_new_file
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.sampling.chunks import ChunkStore


@click.command()
@click.argument("generator", shell_complete=shared.complete_names("generator"))
@click.option("-n", "count", required=True, type=click.IntRange(min=1), metavar="N", help="Number of cubes.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="SET", help="HDF5 file to write.")
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="RUN", help="Folder that hseval train wrote.")
@shared.seed_option("Cube i depends on seed and i.")
@shared.set_option("An option of the generator.")
@shared.device_option
@click.option("--force", is_flag=True, help="Overwrite SET; discard unfinished samples of another.")
@shared.quiet_option()
def sample(generator: str, count: int, out: Path, checkpoint: Path | None, **params: Any) -> None:
    """Sample cubes from a generator into one HDF5 file.

    The same command resumes where it was interrupted. Options: hseval plugins GENERATOR.
    """
    from hseval.cli.settings import parse_plugin_settings
    from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
    from hseval.sampling import generate

    built = get_plugins().build("generator", generator, parse_plugin_settings(generator, params["assignments"]))
    check_new_file(out, force=params["force"])
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
    print(f"{out}: {format_count(count, 'cube')} by {generator}, seed {params['seed']}")


def _write_at_once(generator: Any, count: int, out: Path, metadata: Mapping[str, Any]) -> None:
    """Stream all cubes of a generator that can't start in the middle to the file, atomically."""
    from hseval.data.writer import SetWriter
    from hseval.sampling.generate import check_space_for_samples, generate_samples
    from hseval.utils.progress import ProgressReporter

    samples = generate_samples(generator, count, metadata["provenance"]["seed"])
    with ProgressReporter() as progress, SetWriter(out, **metadata) as writer:
        for done, sample in enumerate(check_space_for_samples(samples, out, count), start=1):
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
    from hseval.sampling.chunks import open_chunks
    from hseval.sampling.generate import check_space_for_samples, collect_inputs, generate_samples
    from hseval.utils.progress import ProgressReporter

    with open_chunks(out, collect_inputs(metadata, checkpoint_hashes), metadata) as chunks:
        check_new_file(out, force=force)  # again: a process that held the chunks may have finished the set
        discard_note = chunks.resume(force=force)
        if discard_note:
            print(discard_note, file=sys.stderr)
        with _report_resume_point(chunks), ProgressReporter() as progress:
            if chunks.count:
                stored = format_count(min(chunks.count, count), "cube")
                progress.print_line(f"{out}: resuming after {stored} (in {chunks.folder})")
            if chunks.count < count:
                samples = generate_samples(generator, count, metadata["provenance"]["seed"], start=chunks.count)
                samples = check_space_for_samples(samples, out, count, stored=chunks.count)
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
        print(f"hseval: stopped after {stored}", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            raise click.exceptions.Exit(130) from None  # the usual status of Ctrl-C; its message is printed above
        raise
