"""Which pixels of a cube are learned from: some of every structure, of its surroundings and of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUNDARY_WIDTH = 2  # px around structures: what is there decides where a mask ends
MAX_WEIGHT = 50.0  # the weight of one drawn pixel, at most


def draw_pixels(
    labels: NDArray[np.bool_], valid: NDArray[np.bool_], quota: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return places among the valid pixels, ascending, and how many pixels each stands for.

    Up to ``quota`` pixels are drawn of every combination of structures (small ones are seen as often as large ones),
    and twice as many of their near surroundings and of the rest.

    Args:
        labels: bool ``(structure, y, x)``.
        valid: bool ``(y, x)``.
        quota: pixels a stratum.
        rng: what they are drawn with.
    """
    strata = _compute_strata(labels)[valid]
    places, weights = [], []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        taken = quota * (2 if stratum <= 0 else 1)
        drawn = rng.choice(members, taken, replace=False) if len(members) > taken else members
        places.append(drawn)
        weights.append(np.full(len(drawn), min(len(members) / len(drawn), MAX_WEIGHT), dtype=np.float32))
    order = np.argsort(np.concatenate(places))
    return np.concatenate(places)[order], np.concatenate(weights)[order]


def _compute_strata(labels: NDArray[np.bool_]) -> NDArray[Any]:
    """Return int ``(y, x)``: the combination of structures, -1 near one, 0 elsewhere."""
    from scipy import ndimage

    flat = labels.reshape(len(labels), -1)
    _, combination = np.unique(flat, axis=1, return_inverse=True)
    some = np.asarray(labels.any(axis=0))
    near = ndimage.binary_dilation(some, iterations=BOUNDARY_WIDTH) & ~some
    strata = np.where(some, combination.reshape(some.shape) + 1, 0)
    return np.where(near, -1, strata)
