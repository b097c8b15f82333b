"""Splits real cubes into two halves that share no cube and no group, and one of the halves again into two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hseval.pipeline.inputs import draw_quick_subset, label_connected_groups
from hseval.stats.jackknife import draw_jackknife_blocks
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from hseval.utils.arrays import Array, IntArray


MIN_CUBES, MIN_GROUPS = 16, 8


def draw_halves(
    groups: Array, hashes: Array, *, seed: int, max_cubes: int | None = None, location: str
) -> tuple[IntArray, IntArray]:
    """Return the indices of the clean half and of the half that is to be degraded, each in order of content.

    Args:
        groups: ``(n,)`` of cubes that are ordered by content.
        hashes: ``(n,)`` of their contents.
        seed: of the draw.
        max_cubes: sample about this many cubes first, as whole groups.
        location: named in error messages.

    Raises:
        HsevalError: there are too few cubes, or too few independent groups.
    """
    labels = label_connected_groups(groups, hashes)
    sampled = np.arange(len(labels))
    if max_cubes is not None and max_cubes < len(labels):
        sampled = np.sort(
            draw_quick_subset([str(label) for label in labels], max_cubes, create_rng(seed, "qualify cubes"))
        )
    if len(sampled) < MIN_CUBES:
        raise HsevalError(
            f"{location}: {format_count(len(sampled), 'cube')} with valid pixels; qualify needs at least {MIN_CUBES} "
            "(8 clean and 8 degraded), and a few hundred are better"
        )
    count = len(np.unique(labels[sampled]))
    if count < MIN_GROUPS:
        raise HsevalError(
            f"{location}: its {len(sampled)} cubes form {format_count(count, 'independent group')}; qualify needs at "
            f"least {MIN_GROUPS} (groups are not divided, and groups that share a cube count as one)"
        )
    clean, other = draw_jackknife_blocks(labels[sampled], 2, create_rng(seed, "qualify halves"))
    return sampled[clean], sampled[other]


def draw_train_split(groups: Array, *, seed: int) -> tuple[IntArray, IntArray]:
    """Return the indices of the half to be degraded that serve as samples, and those that serve as the training set."""
    samples, train = draw_jackknife_blocks(groups, 2, create_rng(seed, "qualify train"))
    return samples, train
