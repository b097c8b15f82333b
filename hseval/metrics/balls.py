"""Precision, recall, density and coverage: which balls around real rows hold samples, and the other way round.

A ball of row i has the distance to its k-th nearest other row of its own set as radius. Which balls hold which rows
is found block by block, by float32 products where these are sure and by float64 differences where rounding could
decide. No matrix of all pairs is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.errors import HsevalError
from hseval.metrics.products import block_threads, left_factor, right_factor, slack_of, squared_between
from hseval.metrics.radii import radii

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK_BYTES = 32 << 20  # of a block of products: many rows at once, or packing the other side costs more than they do
STRIP = 128  # rows of a strip of it, which stays in the processor's cache


class Prdc(NamedTuple):
    """The four numbers; only density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class Held(NamedTuple):
    """Which rows lie strictly inside which balls.

    ``fake_in_real`` (m,): in how many real rows' balls each fake row lies; ``real_in_fake`` (n,): whether a real row
    lies in any fake row's ball; ``covered`` (n,): whether a real row's own ball holds a fake row.
    """

    fake_in_real: NDArray[np.int64]
    real_in_fake: NDArray[np.bool_]
    covered: NDArray[np.bool_]


class Balls(NamedTuple):
    """Rows ``(n, d)`` and the radii ``(n,)`` of the balls around them."""

    rows: NDArray[Any]
    radii: Floats


def prdc(*, real: NDArray[Any], fake: NDArray[Any], k: int = 5) -> Prdc:
    """Return the four numbers for features ``(n, d)`` and ``(m, d)``.

    Kynkaanniemi et al., Improved precision and recall metric, NeurIPS 2019 (precision, recall); Naeem et al.,
    Reliable fidelity and diversity metrics, ICML 2020, equations 3 to 5 (density, coverage), whose strict
    inequality and whose k (the row itself is not counted) are followed throughout.

    Raises:
        HsevalError: shapes that don't fit, NaN or Inf, or a side of no more than ``k`` rows.
    """
    for name, rows in (("real", real), ("fake", fake)):
        if len(rows) <= k:
            raise HsevalError(f"{name}: {len(rows)} rows, expected more than k = {k}")
    held = held_rows(real=Balls(real, radii(real, k)), fake=Balls(fake, radii(fake, k)))
    return Prdc(
        precision=float((held.fake_in_real > 0).mean()),
        recall=float(held.real_in_fake.mean()),
        density=float(held.fake_in_real.mean()) / k,
        coverage=float(held.covered.mean()),
    )


def held_rows(*, real: Balls, fake: Balls) -> Held:
    """Find which rows of each side lie strictly inside which balls of the other."""
    centre = real.rows.mean(axis=0, dtype=np.float64)
    a, b = (left_factor(each.rows, centre) for each in (real, fake))
    slack_real, slack_fake = slack_of(a, b), slack_of(b, a)
    right = right_factor(b).T

    def block(rows: slice) -> Held:
        products = a[rows] @ right
        own = Balls(real.rows[rows], real.radii[rows])
        strips = []
        for part in _slices(len(products), STRIP):
            strip = _Strip(products[part], Balls(own.rows[part], own.radii[part]), fake)
            strips.append(strip.held(slack_real[rows][part], slack_fake))
        return _joined(strips)

    with block_threads() as pool:
        return _joined(list(pool.map(block, _slices(len(a), max(STRIP, BLOCK_BYTES // (4 * len(b)))))))


def _joined(parts: Sequence[Held]) -> Held:
    counts, inside, covered = zip(*parts, strict=True)
    return Held(np.sum(counts, axis=0), np.concatenate(inside), np.concatenate(covered))


class _Strip(NamedTuple):
    """Some real rows, all fake rows, and squared distances ``(s, m)`` in float32."""

    squared: NDArray[np.float32]
    real: Balls
    fake: Balls

    def held(self, slack_real: Floats, slack_fake: Floats) -> Held:
        """Return what these rows hold, where distances can be off by ``slack_real`` (s,) and ``slack_fake`` (m,)."""
        i, j = self._inside(self.real.radii, slack_real, axis=0)
        held_by, _ = self._inside(self.fake.radii, slack_fake, axis=1)
        count, width = self.squared.shape
        return Held(np.bincount(j, minlength=width), _among(held_by, count), _among(i, count))

    def _inside(self, radii: Floats, slack: Floats, *, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of rows that are nearer than the real one's (axis 0) or the fake one's (axis 1) radius."""
        low, high = ((radii**2 + sign * slack).astype(np.float32) for sign in (-1, 1))
        place = np.flatnonzero(self.squared <= (high[:, None] if axis == 0 else high))
        pairs = np.divmod(place, self.squared.shape[1])
        inside = self.squared.ravel()[place] < low[pairs[axis]]
        unsure = np.flatnonzero(~inside)
        i, j = (each[unsure] for each in pairs)
        # The root is taken as for the radii: a tie is a tie.
        inside[unsure] = np.sqrt(squared_between(self.real.rows, self.fake.rows, i, j)) < radii[(i, j)[axis]]
        return pairs[0][inside], pairs[1][inside]


def _among(rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.bincount(rows, minlength=count) > 0


def _slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
