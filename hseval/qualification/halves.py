"""Real cubes in two halves that share no cube and no group, and one half of these again in two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.inputs import draw_quick_subset
from hseval.stats.jackknife import draw_jackknife_blocks
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

MIN_CUBES, MIN_GROUPS = 16, 8


def label_connected_groups(groups: NDArray[Any], hashes: NDArray[Any]) -> NDArray[np.int64]:
    """Return one number a cube, equal for cubes of one group and for groups that share a cube, pixel for pixel.

    Args:
        groups: ``(n,)`` str.
        hashes: ``(n,)`` str, of the cubes' contents.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    contents, content = np.unique(hashes, return_inverse=True)
    size = len(names) + len(contents)
    links = coo_array((np.ones(len(groups)), (group, len(names) + content)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    return np.asarray(component[group], dtype=np.int64)


def draw_halves(
    groups: NDArray[Any], hashes: NDArray[Any], *, seed: int, max_cubes: int | None = None, location: str
) -> tuple[Indices, Indices]:
    """Return the rows of the clean half and of the half that is to be spoiled, each in order of content.

    Args:
        groups: ``(n,)`` of rows that are ordered by content.
        hashes: ``(n,)`` content of each.
        seed: of the draw.
        max_cubes: draw about this many cubes first, whole groups.
        location: what messages name.

    Raises:
        HsevalError: there are too few cubes, or too few that are independent.
    """
    together = label_connected_groups(groups, hashes)
    drawn = np.arange(len(together))
    if max_cubes is not None and max_cubes < len(together):
        drawn = np.sort(
            draw_quick_subset([str(each) for each in together], max_cubes, create_rng(seed, "qualify cubes"))
        )
    if len(drawn) < MIN_CUBES:
        raise HsevalError(
            f"{location}: {len(drawn)} cubes with valid pixels, but to qualify takes at least {MIN_CUBES} "
            "(8 clean against 8 spoiled), and a few hundred are better"
        )
    count = len(np.unique(together[drawn]))
    if count < MIN_GROUPS:
        raise HsevalError(
            f"{location}: its {len(drawn)} cubes form {count} independent groups, but to qualify takes at least "
            f"{MIN_GROUPS}: no group is divided, and groups that share a cube are one"
        )
    one, other = draw_jackknife_blocks(together[drawn], 2, create_rng(seed, "qualify halves"))
    return drawn[one], drawn[other]


def draw_train_split(groups: NDArray[Any], *, seed: int) -> tuple[Indices, Indices]:
    """Return the rows of the half to be spoiled that stand for samples, and those that stand for the training set."""
    samples, train = draw_jackknife_blocks(groups, 2, create_rng(seed, "qualify train"))
    return samples, train
