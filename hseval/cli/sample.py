"""``hseval sample GENERATOR -n N --out SET``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.errors import HsevalError

if TYPE_CHECKING:
    from hseval.hookspecs import Sample
    from hseval.parts import Parts


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
    from hseval.plugins import accepted, plugins

    built = plugins().build("generator", generator, settings_of(generator, given["assignments"]))
    _check_output(out, force=given["force"])
    if checkpoint is not None and not checkpoint.exists():
        raise HsevalError(f"--checkpoint {checkpoint}: does not exist; hseval train makes one")
    weights = _hashes(checkpoint)  # before they are read: going on is refused if they are replaced in between
    with plugins().blaming("generator", generator):
        _load(built, checkpoint, given["device"])
    about = _about(built, given["seed"])
    if accepted(built.sample, start=0):
        _write_in_parts(built, count, out, about, {"checkpoint": weights}, force=given["force"])
    else:
        _write_at_once(built, count, out, about)
    click.echo(f"{out}: {count} cubes by {generator}, seed {given['seed']}")


def _hashes(checkpoint: Path | None) -> dict[str, str | None]:
    from hseval.hashes import checkpoint_hashes

    return {} if checkpoint is None else checkpoint_hashes(checkpoint)


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


def _about(generator: Any, seed: int) -> dict[str, Any]:
    """Return what the file says of all cubes, as SetWriter takes it."""
    from hseval.plugins import plugins

    with plugins().blaming("generator", generator.name):
        return {
            "wavelengths": generator.wavelengths,
            "units": getattr(generator, "units", None),
            "provenance": _provenance(generator, seed),
        }


def _write_at_once(generator: Any, count: int, out: Path, about: Mapping[str, Any]) -> None:
    """Stream the cubes to the file: by a generator that can't start in the middle, all of them or none."""
    from hseval.cli.progress import Progress
    from hseval.writer import SetWriter

    with Progress() as progress, SetWriter(out, **about) as writer:
        for done, sample in enumerate(_drawn(generator, count, about), start=1):
            writer.add(*sample)
            progress.told("sampling", done, count)


def _write_in_parts(
    generator: Any, count: int, out: Path, about: Mapping[str, Any], more: Mapping[str, Any], *, force: bool
) -> None:
    """Stream the cubes to parts, from where an earlier process was cut off, and join them."""
    from hseval.cli.progress import Progress
    from hseval.parts import parts_of

    with parts_of(out, {**_deciding(about), **more}, about) as parts:
        _check_output(out, force=force)  # again: a process that had the parts open may have finished the set
        given_up = parts.take_up(force=force)
        if given_up:
            click.echo(given_up, err=True)
        if parts.count:
            click.echo(f"{out}: going on after {_cubes(min(parts.count, count))} (in {parts.folder})", err=True)
        with _telling_what_is_kept(parts), Progress() as progress:
            if parts.count < count:
                samples = _drawn(generator, count, about, start=parts.count)
                parts.keep(samples, lambda done: progress.told("sampling", done, count))
            parts.join(count, lambda done: progress.told("writing", done, count))


def _deciding(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the cubes and all that the file says of them, as JSON can hold it."""
    import numpy as np

    from hseval.plugins import plugins

    centres = about["wavelengths"]
    return {
        **about["provenance"],
        "distribution": plugins().origin("generator", about["provenance"]["generator"]),
        "wavelengths": None if centres is None else np.asarray(centres, dtype=np.float64).tolist(),
        "units": about["units"],
    }


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


def _drawn(generator: Any, count: int, about: Mapping[str, Any], **start: int) -> Iterator[Sample]:
    """Yield what the generator draws; what it raises, or yields that is no sample, is told as its own."""
    import numpy as np

    from hseval.hookspecs import Sample
    from hseval.plugins import plugins

    with plugins().blaming("generator", generator.name):
        for cube, masks, name in generator.sample(count, seed=about["provenance"]["seed"], **start):
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
