"""``hseval cache info|clear``."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Show or clear the cache of rows (keyed by content, never stale)."""


@cache.command()
def info() -> None:
    """Tell where the cache lies, how many rows it holds and how large it is."""
    from hseval.utils.feature_cache import FeatureCache, get_cache_path

    path = get_cache_path()
    with FeatureCache(path) as rows:
        count, size = rows.get_size()
    click.echo(rows.first_error or f"{path}: {count} rows, {size / 1e6:.1f} MB")


@cache.command()
def clear() -> None:
    """Delete the cache; everything in it can be computed again."""
    from hseval.utils.feature_cache import clear_cache as remove
    from hseval.utils.feature_cache import get_cache_path

    click.echo(f"freed {remove(get_cache_path()) / 1e6:.1f} MB")
