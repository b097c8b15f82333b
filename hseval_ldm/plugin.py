"""The entry point of hseval_ldm: hooks that third-party plugins implement in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hseval.plugin import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def hseval_generators() -> list[type]:
    """Return the generator ``ldm``."""
    # Imported inside the hook, so that ``hseval --help`` stays fast.
    from hseval_ldm.generator import Ldm

    return [Ldm]


@hookimpl
def hseval_commands(cli: click.Group) -> None:
    """Add ``hseval train-ldm``."""
    from hseval_ldm.cli import train_ldm

    cli.add_command(train_ldm)
