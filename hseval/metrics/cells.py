"""A small partition of cubes by what no turn, mirroring, shift or gain changes: how bright how much of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVELS = np.linspace(0.05, 0.95, 7)
MOST = 5  # cells
ROOM = 20  # training cubes a cell should have, on average
ROUNDS = 50


def profiles(maps: NDArray[Any]) -> Floats:
    """Return seven quantiles of each window's values ``(n, C * 7)`` of maps ``(n, C, G, G)``, NaN where not valid."""
    values = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    known = np.isfinite(values)
    values = np.where(known, values, np.inf)
    values.sort(axis=-1)  # what is not known comes last
    place = LEVELS * np.maximum(known.sum(axis=-1, keepdims=True) - 1, 0)
    found = np.take_along_axis(values, np.rint(place).astype(np.int64), axis=-1)
    return np.where(np.isfinite(found), found, 0.0).reshape(len(maps), -1)


def centres_of(rows: Floats) -> Floats:
    """Return the centres of a k-means partition of ``(n, d)``, one for every 20 rows, five at most.

    Starts from equal slices along the first principal axis instead of random rows: nothing is drawn, and no cell
    starts from an outlier.
    """
    count = max(1, min(MOST, len(rows) // ROOM))
    centred = rows - rows.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    slices = np.array_split(np.argsort(centred @ axis, kind="stable"), count)
    centres = np.stack([rows[part].mean(axis=0) for part in slices])
    for _ in range(ROUNDS):
        own = cell_of(rows, centres)
        moved = np.stack([rows[own == i].mean(axis=0) if (own == i).any() else centres[i] for i in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def cell_of(rows: Floats, centres: Floats) -> NDArray[np.int64]:
    """Return the index ``(n,)`` of each row's nearest centre."""
    return np.asarray(((rows[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1))
