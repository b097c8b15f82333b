"""Cubes of one set that are equal, pixel for pixel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from hseval.utils.plural import format_count

MAX_NAMED_CUBES = 3  # of the example


def describe_duplicates(hashes: Iterable[str], ids: Iterable[str]) -> str | None:
    """Return how many cubes repeat an earlier one, with an example; None: none does.

    Args:
        hashes: of the cubes' contents, in the order of the set.
        ids: of the same cubes.
    """
    ids_by_hash: dict[str, list[str]] = defaultdict(list)
    for content, cube_id in zip(hashes, ids, strict=True):
        ids_by_hash[content].append(cube_id)
    copies = [names for names in ids_by_hash.values() if len(names) > 1]
    if not copies:
        return None
    count = sum(len(names) - 1 for names in copies)
    return f"{format_count(count, 'exact duplicate')}, for example {' = '.join(copies[0][:MAX_NAMED_CUBES])}"
