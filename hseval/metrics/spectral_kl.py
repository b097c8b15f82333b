"""KL divergence of pixel values, structure by structure and band by band."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
from hseval.core.report import Better
from hseval.metrics.divergence import (
    bin_counts,
    gaussian_kl,
    jensen_shannon,
    kl_divergence,
    pooled_gaussian,
    quantile_edges,
    smoothed,
)
from hseval.metrics.structure_selection import (
    COV,
    LEVELS,
    MEAN,
    PIXELS,
    choosing,
    chosen,
    mean_of,
    remarks,
    structures_to_score,
    without_columns,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows

HISTOGRAM = "spectral-kl/histogram"
SHOWN = {
    "reverse": "KL(samples || real)",
    "jensen_shannon": "Jensen-Shannon",
    "gaussian": "KL(real || samples) of Gaussians with full covariance",
}
SHRINKAGE = 1e-3  # of the reference's mean variance, added to both covariances' diagonals


class SpectralKL:
    """Mean over structures of KL(real || samples) of per-band histograms, in nats."""

    name: ClassVar[str] = "spectral-kl"
    summary: ClassVar[str] = "KL divergence of each structure's spectra, per band, in nats"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(rows=("spectra",))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        bins: int = option(64, "histogram bins; their edges are the reference's quantiles")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 2 <= self.options.bins <= 1024:
            raise ValueError(f"bins is {self.options.bins}, expected 2 to 1024")

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add each cube's histogram on the edges of the full reference: ``(n, S, band, bins)``, relative.

        The structure axis follows each side's own ``structures``; NaN where a cube, or the whole reference,
        lacks the structure. Add too which structures are scored, ``(n, S)``: decided once, from both full sets, so
        that the value, the floor and every split score the same ones.

        Raises:
            NotComputable: the sides share no structure with pixels, not even the field of view.
        """
        edges = shared_edges(real, self.options.bins)
        used = structures_to_score(real, fake)

        def add(rows: Rows) -> Rows:
            histograms = relative_histograms(rows, edges, self.options.bins)
            return choosing(without_columns(rows, LEVELS).adding({HISTOGRAM: histograms}), used)

        return add(real), add(fake), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the headline and, for each structure, its curve over wavelength and other divergences.

        ``means`` and ``deviations`` by band say which way the samples' pixels differ.

        Raises:
            NotComputable: one side has no pixel of a scored structure.
        """
        if HISTOGRAM not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        used = chosen(real, fake)
        scored = {name: _score(Side.of(real, name), Side.of(fake, name)) for name in used}
        details = {
            "structures": scored,
            "shown": {label: mean_of(scored, key) for key, label in SHOWN.items()},
            "shrinkage": SHRINKAGE,
            **remarks(real, fake, used),
        }
        return ScoreParts(mean_of(scored, "value"), details)

    def headline(self, *, real: Rows, fake: Rows, train: Rows | None = None) -> float:
        """Return the headline alone, as :meth:`compare` does, from rows that :meth:`relate` has seen."""
        return float(np.mean([_headline(real, fake, name) for name in chosen(real, fake)]))


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side's cubes say of one structure; cubes that lack it are left out.

    Attributes:
        frequencies: ``(band, bins)`` mean of the cubes' relative histograms: every cube weighs the same.
        pixels: their pixels of the structure.
        mean: ``(band,)`` mean of the pooled pixels, every cube of equal weight.
        cov: ``(band, band)`` their covariance.
        cubes: number of cubes that have the structure.
    """

    frequencies: NDArray[np.float64]
    pixels: float
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]
    cubes: int

    @classmethod
    def of(cls, rows: Rows, name: str) -> Side:
        """Collect the structure ``name`` from rows that have its histograms."""
        place = rows.structures.index(name)
        having = rows[PIXELS][:, place] > 0
        mean, cov = pooled_gaussian(rows[MEAN][having, place], rows[COV][having, place])
        return cls(*_histogram(rows, name), mean, cov, int(having.sum()))


def shared_edges(real: Rows, bins: int) -> dict[str, NDArray[Any]]:
    """Return the interior edges ``(band, bins - 1)`` of each structure that some reference cube has.

    They are the quantiles of the mixture of all cubes at equal weight: each cube brings as many atoms
    (``spectra/levels``), however many pixels it has.
    """
    edges = {}
    for place, name in enumerate(real.structures):
        having = real[PIXELS][:, place] > 0
        if having.any():
            atoms = np.moveaxis(real[LEVELS][having, place], 0, 1)  # band, cube, level
            edges[name] = quantile_edges(atoms.reshape(atoms.shape[0], -1), bins)
    return edges


def relative_histograms(rows: Rows, edges: dict[str, NDArray[Any]], bins: int) -> NDArray[np.float32]:
    """Return each cube's relative histograms, float32 ``(n, S, band, bins)``; see :meth:`SpectralKL.relate`."""
    levels, pixels = rows[LEVELS], rows[PIXELS]
    found = np.full((*levels.shape[:3], bins), np.nan, dtype=np.float32)
    for place, name in enumerate(rows.structures):
        having = np.flatnonzero(pixels[:, place] > 0)
        if name not in edges:
            continue
        for band, cuts in enumerate(edges[name]):
            found[having, place, band] = bin_counts(levels[having, place, band], cuts) / levels.shape[3]
    return found


def _histogram(rows: Rows, name: str) -> tuple[NDArray[np.float64], float]:
    """Return a structure's frequencies ``(band, bins)`` and pixels, over the cubes that have it."""
    place = rows.structures.index(name)
    having = rows[PIXELS][:, place] > 0
    frequencies = rows[HISTOGRAM][having, place].mean(axis=0, dtype=np.float64)
    return frequencies, float(rows[PIXELS][having, place].sum(dtype=np.float64))


def _headline(real: Rows, fake: Rows, name: str) -> float:
    """Return one structure's divergence, as :func:`_score` does, and nothing else."""
    (ours, pixels), (theirs, others) = _histogram(real, name), _histogram(fake, name)
    total = min(pixels, others)
    return float(kl_divergence(smoothed(ours, total), smoothed(theirs, total)).mean())


def _score(real: Side, fake: Side) -> dict[str, Any]:
    """Return one structure's divergences; the histograms' come as means over bands."""
    total = min(real.pixels, fake.pixels)  # the smaller side's counts decide how far both are smoothed
    p, q = smoothed(real.frequencies, total), smoothed(fake.frequencies, total)
    curve = kl_divergence(p, q)
    return {
        "value": float(curve.mean()),
        "by_wavelength": curve.tolist(),
        "reverse": float(kl_divergence(q, p).mean()),
        "jensen_shannon": float(jensen_shannon(p, q).mean()),
        "gaussian": _gaussian(real, fake),
        "cubes": {"reference": real.cubes, "samples": fake.cubes},
        "counts": total,
        "means": {"reference": real.mean.tolist(), "samples": fake.mean.tolist()},
        "deviations": {"reference": _deviations(real.cov), "samples": _deviations(fake.cov)},
    }


def _deviations(cov: NDArray[np.float64]) -> list[float]:
    deviations: list[float] = np.sqrt(np.maximum(np.diag(cov), 0.0)).tolist()
    return deviations


def _gaussian(real: Side, fake: Side) -> float:
    ridge = SHRINKAGE * np.trace(real.cov) / len(real.cov) * np.eye(len(real.cov))
    return gaussian_kl(real.mean, real.cov + ridge, fake.mean, fake.cov + ridge)
