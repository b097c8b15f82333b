"""Standard errors of sums of scores, from what reports keep of their resamples (``details["resamples"]``)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.uncertainty.resample import surplus
from hseval.uncertainty.variances import FEWEST_APART, LEAST, block_variance, freedom, pair_variance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

VALUE, FLOOR, EXCESS = 0, 1, 2


class Kept(NamedTuple):
    """One figure of a score in a sum: what was kept of its resamples, its place in them, and its sign."""

    resamples: Mapping[str, Any]
    place: int
    sign: float = 1.0

    def column(self, name: str) -> Floats:
        """Return the figure's replicates ``(n, 1)``, with its sign."""
        found = np.asarray(self.resamples[name], dtype=np.float64).reshape(-1, 3)
        return np.asarray(self.sign * found[:, [self.place]])


def standard_error(terms: Sequence[Kept]) -> tuple[float, float]:
    """Return the standard error of a sum of figures, such as a difference of two, and its degrees of freedom.

    The figures met one reference, whose blocks were left out of all of them alike; their samples are their own.
    """
    real, within, splits = (_summed([term.column(name) for term in terms]) for name in ("real", "real_pairs", "splits"))
    g = len(real)
    added = [(block_variance(real), g - 1)]
    taken = [(pair_variance(within, g * (g - 1) / 2) + np.zeros(1), len(within))]
    for term in terms:
        own = term.resamples["samples"]
        added.append((np.array([own["variance"][term.place]]), own["blocks"] - 1))
        taken.append((np.array([own["twice"][term.place]]), own["pairs"]))
    taken.append((surplus(splits, terms[0].resamples["used"]), len(splits) // 2 - 1))
    plain = sum(part for part, _ in added)
    total = np.maximum(plain - sum(part for part, _ in taken), LEAST * plain)
    return math.sqrt(total[0]), float(freedom(total, added, taken, fewest=FEWEST_APART)[0])


def _summed(columns: Sequence[Floats]) -> Floats:
    count = min(map(len, columns))
    return np.asarray(np.sum([column[:count] for column in columns], axis=0))
