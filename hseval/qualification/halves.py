"""Real cubes in two halves that share no cube and no group, and one half of these again in two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.inputs import quick_subset
from hseval.stats.jackknife import blocks
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

FEWEST_CUBES, FEWEST_GROUPS = 16, 8


def tied(groups: NDArray[Any], hashes: NDArray[Any]) -> NDArray[np.int64]:
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


def halves(
    groups: NDArray[Any], hashes: NDArray[Any], *, seed: int, most: int | None = None, where: str
) -> tuple[Indices, Indices]:
    """Return the rows of the clean half and of the half that is to be spoiled, each in order of content.

    Args:
        groups: ``(n,)`` of rows that are ordered by content.
        hashes: ``(n,)`` content of each.
        seed: of the draw.
        most: draw about this many cubes first, whole groups.
        where: what messages name.

    Raises:
        HsevalError: there are too few cubes, or too few that are independent.
    """
    together = tied(groups, hashes)
    drawn = np.arange(len(together))
    if most is not None and most < len(together):
        drawn = np.sort(quick_subset([str(each) for each in together], most, stream(seed, "qualify cubes")))
    if len(drawn) < FEWEST_CUBES:
        raise HsevalError(
            f"{where}: {len(drawn)} cubes with valid pixels, but to qualify takes at least {FEWEST_CUBES} "
            "(8 clean against 8 spoiled), and a few hundred are better"
        )
    count = len(np.unique(together[drawn]))
    if count < FEWEST_GROUPS:
        raise HsevalError(
            f"{where}: its {len(drawn)} cubes form {count} independent groups, but to qualify takes at least "
            f"{FEWEST_GROUPS}: no group is divided, and groups that share a cube are one"
        )
    one, other = blocks(together[drawn], 2, stream(seed, "qualify halves"))
    return drawn[one], drawn[other]


def trained(groups: NDArray[Any], *, seed: int) -> tuple[Indices, Indices]:
    """Return the rows of the half to be spoiled that stand for samples, and those that stand for the training set."""
    samples, train = blocks(groups, 2, stream(seed, "qualify train"))
    return samples, train
