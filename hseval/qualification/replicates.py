"""The jackknife's replicates of one comparison, where some blocks may leave no value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hseval.stats.jackknife import NOTHING, Jackknife, blocks, jackknife
from hseval.stats.variance import levelled
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.pipeline.metric_inputs import Comparable
    from hseval.stats.jackknife import Floats, Indices


class Statistic:
    """The value without some rows, and where it is the absolute value of a difference that too; NaN: there is none.

    Remembers what it has been asked.
    """

    def __init__(self, compared: Comparable) -> None:
        rows = compared.rows
        self.compared = compared
        self.signed = compared.parts(rows.real, rows.fake, rows.train).signed is not None
        self._known: dict[tuple[bytes, bytes], Floats] = {}

    def __call__(self, real_out: Indices, fake_out: Indices) -> Floats:
        """Return the value without some rows of each side."""
        name = (real_out.tobytes(), fake_out.tobytes())
        if name not in self._known:
            self._known[name] = self._found(real_out, fake_out)
        return self._known[name]

    def _found(self, real_out: Indices, fake_out: Indices) -> Floats:
        whole = self.compared.rows
        try:
            rows, places = self.compared.without(real_out)
            real = rows.real.take(places[np.delete(np.arange(len(whole.real)), real_out)])
            fake = rows.fake.take(np.delete(np.arange(len(whole.fake)), fake_out))
            found = self.compared.number(real, fake, rows.train)
        except NotComputable:
            if not len(real_out) and not len(fake_out):
                raise
            found = np.nan  # what is left lacks something (a structure, say)
        return np.array([abs(found), found] if self.signed else [found])


def replicates(compared: Comparable, *, count: int, pairs: int, seed: int) -> Jackknife:
    """Return the replicates of the value and, where it is the absolute value of a difference, of that.

    Blocks are the same for the floor's and the spoiled set, as their groups are: their difference is paired. Blocks
    without which there is no value are NaN (:func:`hseval.qualification.dose_response.complete` leaves them out).

    Args:
        compared: the metric with both sides' rows.
        count: blocks of each side.
        pairs: of blocks, left out together.
        seed: of both.

    Raises:
        NotComputable: there is no value of all rows.
    """
    statistic = Statistic(compared)
    real, fake = (
        blocks(rows.groups, count, stream(seed, f"qualify {side}"))
        for rows, side in ((compared.rows.real, "clean"), (compared.rows.fake, "spoiled"))
    )
    found = jackknife(statistic, real=real, fake=fake, rng=stream(seed, "qualify"), pairs=pairs)
    left_real = np.stack([statistic(block, NOTHING) for block in real])
    left_fake = np.stack([statistic(NOTHING, block) for block in fake])
    return dataclasses.replace(
        found, real=_levelled(found.value, left_real, real), fake=_levelled(found.value, left_fake, fake)
    )


def _levelled(value: Floats, left: Floats, out: Sequence[NDArray[np.int64]]) -> Floats:
    """Return the replicates that blocks of equal size would give, of the blocks that leave a value."""
    have = np.isfinite(left).all(axis=1)
    sizes = np.array([len(block) for block in out], dtype=np.float64)
    found = np.full_like(left, np.nan)
    if have.any():
        found[have] = levelled(value, left[have], sizes[have])
    return found
