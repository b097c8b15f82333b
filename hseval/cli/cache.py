"""``hseval cache info|clear``."""

from __future__ import annotations

import click


@click.group()
def cache() -> None:
    """Show or clear the cache of features.

    Its folder is HSEVAL_CACHE. Entries are keyed by content, so they are never stale.
    """


@cache.command()
def info() -> None:
    """Show the path of the cache and its size."""
    from hseval.utils.feature_cache import FeatureCache, get_cache_path
    from hseval.utils.plural import format_count

    path = get_cache_path()
    with FeatureCache(path) as features:
        count, size = features.get_size()
    entries = format_count(count, "entry", "entries")
    print(features.note or f"{path}: {entries}, {size / 1e6:.1f} MB")


@cache.command()
def clear() -> None:
    """Delete the cache: all of it can be recomputed."""
    from hseval.utils.feature_cache import clear_cache, get_cache_path

    print(f"freed {clear_cache(get_cache_path()) / 1e6:.1f} MB")
