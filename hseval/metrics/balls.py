"""Precision, recall, density and coverage: which balls around real rows hold samples, and the other way round.

A ball of row i has the distance to its k-th nearest other row of its own set as radius. The radii come from
:mod:`hseval.neighbors`; which balls hold which rows is counted block by block, by float32 products where these are
sure and by float64 differences where rounding could decide. No matrix of all pairs is held.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.errors import HsevalError
from hseval.neighbors import Neighbors, rounding_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK_BYTES = 32 << 20  # of a block of products: many rows at once, or packing the other side costs more than they do
AT_A_TIME = 2  # threads: one multiplies while the other one compares
STRIP = 128  # rows of a strip of it, which stays in the processor's cache; counts of a strip fit into one byte
CHECKED = 4096  # pairs that are compared in float64 at a time


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
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        balls_real, balls_fake = pool.map(radii, (real, fake), (k, k))
    held = held_rows(real=Balls(real, balls_real), fake=Balls(fake, balls_fake))
    return Prdc(
        precision=float((held.fake_in_real > 0).mean()),
        recall=float(held.real_in_fake.mean()),
        density=float(held.fake_in_real.mean()) / k,
        coverage=float(held.covered.mean()),
    )


def radii(rows: NDArray[Any], k: int) -> Floats:
    """Return each row's distance ``(n,)`` to its k-th nearest other row."""
    return Neighbors(rows).kth(rows, k, exclude=np.arange(len(rows)))


def held_rows(*, real: Balls, fake: Balls) -> Held:
    """Find which rows of each side lie strictly inside which balls of the other."""
    centre = real.rows.mean(axis=0, dtype=np.float64)
    a, b = ((each.rows - centre).astype(np.float32) for each in (real, fake))
    size_a, size_b = (np.einsum("nd,nd->n", rows, rows, dtype=np.float64) for rows in (a, b))
    # Twice: the products' rounding, and that of the thresholds in float32.
    slack = 2 * rounding_bound(np.sqrt(size_a), float(np.sqrt(size_b.max())), a.shape[1])
    # |x - y|^2 - |x|^2 by one product: (x, 1) . (-2 y, |y|^2).
    left = np.concatenate([a, np.ones((len(a), 1), np.float32)], axis=1)
    right = np.concatenate([-2 * b, size_b[:, None].astype(np.float32)], axis=1).T

    def block(rows: slice) -> Held:
        products = left[rows] @ right
        strips = [
            _strip(
                products[part],
                size=size_a[rows][part],
                slack=slack[rows][part],
                real=Balls(real.rows[rows][part], real.radii[rows][part]),
                fake=fake,
            )
            for part in _slices(len(products), STRIP)
        ]
        return _joined(strips)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return _joined(list(pool.map(block, _slices(len(a), max(STRIP, BLOCK_BYTES // (4 * len(b)))))))


def _joined(parts: Sequence[Held]) -> Held:
    counts, inside, covered = zip(*parts, strict=True)
    return Held(np.sum(counts, axis=0), np.concatenate(inside), np.concatenate(covered))


def _strip(squared: NDArray[np.float32], *, size: Floats, slack: Floats, real: Balls, fake: Balls) -> Held:
    """Answer for some real rows; ``squared + size`` are their squared distances to all fake rows, off by ``slack``."""
    own = _below(squared, real.radii**2 - size, slack)
    i, j = own.doubtful()
    own.sure[i, j] = _distances(real.rows, fake.rows, i, j) < real.radii[i]
    squared -= (fake.radii**2).astype(np.float32)
    other = _below(squared, -size, slack)
    i, j = other.doubtful()
    other.sure[i, j] = _distances(real.rows, fake.rows, i, j) < fake.radii[j]
    counts = own.sure.view(np.uint8).sum(axis=0, dtype=np.uint8).astype(np.int64)
    return Held(counts, np.asarray(other.sure.any(axis=1)), np.asarray(own.sure.any(axis=1)))


def _distances(real: NDArray[Any], fake: NDArray[Any], i: NDArray[np.int64], j: NDArray[np.int64]) -> Floats:
    """Return distances in float64, by differences, as the radii are: a tie is a tie."""
    found = np.empty(len(i))
    for part in _slices(len(i), CHECKED):
        difference = fake[j[part]].astype(np.float64) - real[i[part]]
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return np.sqrt(found)


def _slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


class _Below(NamedTuple):
    """Where values are below their row's threshold for sure, and where perhaps."""

    sure: NDArray[np.bool_]
    perhaps: NDArray[np.bool_]

    def doubtful(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places that only float64 can decide."""
        if np.count_nonzero(self.perhaps) == np.count_nonzero(self.sure):
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing
        i, j = np.nonzero(self.perhaps ^ self.sure)
        return i, j


def _below(values: NDArray[np.float32], threshold: Floats, slack: Floats) -> _Below:
    """Compare values ``(n, m)``, each off by its row's ``slack`` at most, with a threshold for each row."""
    low, high = ((threshold + sign * slack).astype(np.float32)[:, None] for sign in (-1, 1))
    return _Below(values < low, values <= high)
