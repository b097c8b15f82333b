"""``hseval cache info|clear``."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Show or clear the cache of rows (keyed by content, never stale)."""


@cache.command()
def info() -> None:
    """Tell where the cache lies, how many rows it holds and how large it is."""
    from hseval.utils.feature_cache import Cache, default_path

    path = default_path()
    with Cache(path) as rows:
        count, size = rows.size()
    click.echo(rows.trouble or f"{path}: {count} rows, {size / 1e6:.1f} MB")


@cache.command()
def clear() -> None:
    """Delete the cache; everything in it can be computed again."""
    from hseval.utils.feature_cache import clear as remove
    from hseval.utils.feature_cache import default_path

    click.echo(f"freed {remove(default_path()) / 1e6:.1f} MB")
