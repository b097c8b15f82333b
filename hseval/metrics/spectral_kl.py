"""``spectral-kl``: KL divergence of pixel values, by structure and by band."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
from hseval.core.report import Direction
from hseval.metrics.divergence import (
    count_per_bin,
    gaussian_kl,
    jensen_shannon,
    kl_divergence,
    pool_gaussians,
    quantile_edges,
    smooth_frequencies,
)
from hseval.metrics.structure_selection import (
    COVARIANCES,
    MEAN_SPECTRA,
    PIXEL_COUNTS,
    SPECTRUM_QUANTILES,
    average_over_structures,
    collect_structure_details,
    drop_columns,
    get_scored_structures,
    mark_scored_structures,
    select_structures,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable

HISTOGRAM = "spectral-kl/histogram"
VISIBLE_LABELS = {
    "reverse": "KL(samples || real)",
    "jensen_shannon": "Jensen-Shannon",
    "gaussian": "KL(real || samples) of Gaussians with full covariance",
}
COVARIANCE_SHRINKAGE = 1e-3  # of the reference's mean variance, added to both covariances' diagonals


class SpectralKL:
    """Mean over structures of KL(real || samples) of per-band histograms, in nats."""

    name: ClassVar[str] = "spectral-kl"
    summary: ClassVar[str] = "KL divergence of each structure's spectra, per band, in nats"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(features=("spectra",))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        bins: int = option(64, "histogram bins; their edges are the reference's quantiles")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 2 <= self.options.bins <= 1024:
            raise ValueError(f"bins is {self.options.bins}, expected 2 to 1024")

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Add each cube's histogram on the edges of the full reference: ``(n, S, band, bins)``, relative.

        The structure axis follows each side's own ``structures``; NaN where a cube, or the whole reference,
        lacks the structure. Also add which structures are scored, ``(n, S)``: selected once, from both full sets, so
        that the value, the floor and every split score the same structures.

        Raises:
            NotComputable: the sides share no structure with pixels, not even the field of view.
        """
        edges = compute_shared_edges(real, self.options.bins)
        scored_structures = select_structures(real, generated)

        def add_histograms(table: FeatureTable) -> FeatureTable:
            histograms = compute_relative_histograms(table, edges, self.options.bins)
            return mark_scored_structures(
                drop_columns(table, SPECTRUM_QUANTILES).add_columns({HISTOGRAM: histograms}), scored_structures
            )

        return add_histograms(real), add_histograms(generated), train

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the headline and, for each structure, its curve over wavelength and other divergences.

        ``means`` and ``deviations`` by band show how the samples' pixels differ.

        Raises:
            NotComputable: one side has no pixel of a scored structure.
        """
        if HISTOGRAM not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        scored_structures = get_scored_structures(real, generated)
        scores = {
            name: _score_structure(
                StructureDistribution.from_table(real, name), StructureDistribution.from_table(generated, name)
            )
            for name in scored_structures
        }
        details = {
            "structures": scores,
            "shown": {label: average_over_structures(scores, key) for key, label in VISIBLE_LABELS.items()},
            "shrinkage": COVARIANCE_SHRINKAGE,
            **collect_structure_details(real, generated, scored_structures),
        }
        return ScoreParts(average_over_structures(scores, "value"), details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the headline alone, as :meth:`compare` does, from the tables that :meth:`relate` returned."""
        return float(
            np.mean([_compute_divergence(real, generated, name) for name in get_scored_structures(real, generated)])
        )


@dataclasses.dataclass(frozen=True)
class StructureDistribution:
    """Pixel statistics of one structure in one side's cubes; cubes that lack it are left out.

    Attributes:
        frequencies: ``(band, bins)`` mean of the cubes' relative histograms, every cube of equal weight.
        n_pixels: number of pixels of the structure.
        mean: ``(band,)`` mean of the pooled pixels, every cube of equal weight.
        cov: ``(band, band)`` their covariance.
        n_cubes: number of cubes that have the structure.
    """

    frequencies: NDArray[np.float64]
    n_pixels: float
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]
    n_cubes: int

    @classmethod
    def from_table(cls, table: FeatureTable, name: str) -> StructureDistribution:
        """Return the statistics of the structure ``name`` from a table with histograms."""
        index = table.structures.index(name)
        has_structure = table[PIXEL_COUNTS][:, index] > 0
        mean, cov = pool_gaussians(table[MEAN_SPECTRA][has_structure, index], table[COVARIANCES][has_structure, index])
        return cls(*_average_histograms(table, name), mean, cov, int(has_structure.sum()))


def compute_shared_edges(real: FeatureTable, bins: int) -> dict[str, NDArray[Any]]:
    """Return the interior edges ``(band, bins - 1)`` of each structure that some reference cube has.

    They are the quantiles of the mixture of all cubes at equal weight: each cube contributes the same number of
    quantiles (``spectra/quantiles``), however many pixels it has.
    """
    edges = {}
    for index, name in enumerate(real.structures):
        has_structure = real[PIXEL_COUNTS][:, index] > 0
        if has_structure.any():
            atoms = np.moveaxis(real[SPECTRUM_QUANTILES][has_structure, index], 0, 1)  # band, cube, level
            edges[name] = quantile_edges(atoms.reshape(atoms.shape[0], -1), bins)
    return edges


def compute_relative_histograms(table: FeatureTable, edges: dict[str, NDArray[Any]], bins: int) -> NDArray[np.float32]:
    """Return each cube's relative histograms, float32 ``(n, S, band, bins)``; see :meth:`SpectralKL.relate`."""
    quantiles, pixels = table[SPECTRUM_QUANTILES], table[PIXEL_COUNTS]
    histograms = np.full((*quantiles.shape[:3], bins), np.nan, dtype=np.float32)
    for index, name in enumerate(table.structures):
        has_structure = np.flatnonzero(pixels[:, index] > 0)
        if name not in edges:
            continue
        for band, band_edges in enumerate(edges[name]):
            histograms[has_structure, index, band] = (
                count_per_bin(quantiles[has_structure, index, band], band_edges) / quantiles.shape[3]
            )
    return histograms


def _average_histograms(table: FeatureTable, name: str) -> tuple[NDArray[np.float64], float]:
    """Return a structure's frequencies ``(band, bins)`` and pixels, over the cubes that have it."""
    index = table.structures.index(name)
    has_structure = table[PIXEL_COUNTS][:, index] > 0
    frequencies = table[HISTOGRAM][has_structure, index].mean(axis=0, dtype=np.float64)
    return frequencies, float(table[PIXEL_COUNTS][has_structure, index].sum(dtype=np.float64))


def _compute_divergence(real: FeatureTable, generated: FeatureTable, name: str) -> float:
    """Return one structure's divergence alone, as :func:`_score_structure` does."""
    p, n_real = _average_histograms(real, name)
    q, n_generated = _average_histograms(generated, name)
    total = min(n_real, n_generated)
    return float(kl_divergence(smooth_frequencies(p, total), smooth_frequencies(q, total)).mean())


def _score_structure(real: StructureDistribution, generated: StructureDistribution) -> dict[str, Any]:
    """Return one structure's divergences; those of histograms are means over bands."""
    total = min(real.n_pixels, generated.n_pixels)  # both sides are smoothed by the smaller side's counts
    p, q = smooth_frequencies(real.frequencies, total), smooth_frequencies(generated.frequencies, total)
    curve = kl_divergence(p, q)
    return {
        "value": float(curve.mean()),
        "by_wavelength": curve.tolist(),
        "reverse": float(kl_divergence(q, p).mean()),
        "jensen_shannon": float(jensen_shannon(p, q).mean()),
        "gaussian": _compute_gaussian_kl(real, generated),
        "cubes": {"reference": real.n_cubes, "samples": generated.n_cubes},
        "counts": total,
        "means": {"reference": real.mean.tolist(), "samples": generated.mean.tolist()},
        "deviations": {"reference": _compute_stds(real.cov), "samples": _compute_stds(generated.cov)},
    }


def _compute_stds(cov: NDArray[np.float64]) -> list[float]:
    stds: list[float] = np.sqrt(np.maximum(np.diag(cov), 0.0)).tolist()
    return stds


def _compute_gaussian_kl(real: StructureDistribution, generated: StructureDistribution) -> float:
    ridge = COVARIANCE_SHRINKAGE * np.trace(real.cov) / len(real.cov) * np.eye(len(real.cov))
    return gaussian_kl(real.mean, real.cov + ridge, generated.mean, generated.cov + ridge)
