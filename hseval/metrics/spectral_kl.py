"""``spectral-kl``: KL divergence of pixel values, by structure and by band."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.options import option
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
    StructureMetric,
    average_over_structures,
    drop_columns,
    mark_scored_structures,
    select_cubes_with,
    select_structures,
)

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.utils.arrays import Array, Float32Array, Float64Array

HISTOGRAM = "spectral-kl/histogram"
VISIBLE_LABELS = {
    "reverse": "KL(samples || real)",
    "jensen_shannon": "Jensen-Shannon",
    "gaussian": "KL(real || samples) of Gaussians with full covariance",
}
COVARIANCE_SHRINKAGE = 1e-3  # of the reference's mean variance, added to both covariances' diagonals


class SpectralKL(StructureMetric):
    """Mean over structures of KL(real || samples) of per-band histograms, in nats."""

    name = "spectral-kl"
    summary = "KL divergence of each structure's spectra, per band, in nats"

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        bins: int = option(64, "histogram bins; their edges are the reference's quantiles")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 2 <= self.options.bins <= 1024:
            raise ValueError(f"bins is {self.options.bins}, expected 2 to 1024")

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Add each cube's histogram on the edges of the full reference: ``(n, S, band, bins)``, relative.

        The structure axis follows each side's own ``structures``; NaN where a cube, or the whole reference,
        lacks the structure. Also add which structures are scored, ``(n, S)``: selected once, from both full sets, so
        that the value, the floor and every split score the same structures.

        Raises:
            NotComputable: the sides share no structure with pixels, not even the field of view.
        """
        edges = compute_shared_edges(real, self.options.bins)

        def add_histograms(table: FeatureTable) -> FeatureTable:
            histograms = compute_relative_histograms(table, edges, self.options.bins)
            return drop_columns(table, SPECTRUM_QUANTILES).add_columns({HISTOGRAM: histograms})

        scored_structures = select_structures(real, generated)
        return *mark_scored_structures(add_histograms(real), add_histograms(generated), scored_structures), train

    def compute_value(self, real: FeatureTable, generated: FeatureTable, name: str) -> float:
        """Return a structure's divergence: the mean over bands."""
        return float(kl_divergence(*_compute_probabilities(real, generated, name)).mean())

    def score_structure(self, real: FeatureTable, generated: FeatureTable, name: str) -> dict[str, Any]:
        """Return one structure's divergences; those of histograms are means over bands.

        ``means`` and ``deviations`` by band show how the samples' pixels differ.
        """
        p, q = _compute_probabilities(real, generated, name)
        curve = kl_divergence(p, q)
        (mean_a, cov_a), (mean_b, cov_b) = (
            pool_gaussians(*(select_cubes_with(table, name, column) for column in (MEAN_SPECTRA, COVARIANCES)))
            for table in (real, generated)
        )
        ridge = COVARIANCE_SHRINKAGE * np.trace(cov_a) / len(cov_a) * np.eye(len(cov_a))
        counts = [len(select_cubes_with(table, name, PIXEL_COUNTS)) for table in (real, generated)]
        return {
            "value": float(curve.mean()),
            "by_wavelength": curve.tolist(),
            "reverse": float(kl_divergence(q, p).mean()),
            "jensen_shannon": float(jensen_shannon(p, q).mean()),
            "gaussian": gaussian_kl(mean_a, cov_a + ridge, mean_b, cov_b + ridge),
            "cubes": {"reference": counts[0], "samples": counts[1]},
            "counts": _count_smaller_side(real, generated, name),
            "means": {"reference": mean_a.tolist(), "samples": mean_b.tolist()},
            "deviations": {"reference": _compute_stds(cov_a), "samples": _compute_stds(cov_b)},
        }

    def summarize(
        self, scores: dict[str, dict[str, Any]], real: FeatureTable, generated: FeatureTable
    ) -> dict[str, Any]:
        """Return the means over structures of the other divergences."""
        shown = {label: average_over_structures(scores, key) for key, label in VISIBLE_LABELS.items()}
        return {"shown": shown, "shrinkage": COVARIANCE_SHRINKAGE}


def compute_shared_edges(real: FeatureTable, bins: int) -> dict[str, Array]:
    """Return the interior edges ``(band, bins - 1)`` of each structure that some reference cube has.

    They are the quantiles of the mixture of all cubes at equal weight: each cube contributes the same number of
    quantiles (``spectra/quantiles``), however many pixels it has.
    """
    edges = {}
    for name in real.structures:
        quantiles = select_cubes_with(real, name, SPECTRUM_QUANTILES)
        if len(quantiles):
            atoms = np.moveaxis(quantiles, 0, 1)  # band, cube, level
            edges[name] = quantile_edges(atoms.reshape(atoms.shape[0], -1), bins)
    return edges


def compute_relative_histograms(table: FeatureTable, edges: dict[str, Array], bins: int) -> Float32Array:
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


def _compute_probabilities(real: FeatureTable, generated: FeatureTable, name: str) -> tuple[Float64Array, Float64Array]:
    """Return both sides' probabilities ``(band, bins)``: the mean histogram, every cube of equal weight, smoothed."""
    total = _count_smaller_side(real, generated, name)
    means = (select_cubes_with(table, name, HISTOGRAM).mean(axis=0, dtype=np.float64) for table in (real, generated))
    p, q = (smooth_frequencies(mean, total) for mean in means)
    return p, q


def _count_smaller_side(real: FeatureTable, generated: FeatureTable, name: str) -> float:
    """Return the number of pixels of a structure on the side that has fewer: both sides are smoothed by it."""
    return min(float(select_cubes_with(table, name, PIXEL_COUNTS).sum(dtype=np.float64)) for table in (real, generated))


def _compute_stds(cov: Float64Array) -> list[float]:
    stds: list[float] = np.sqrt(np.maximum(np.diag(cov), 0.0)).tolist()
    return stds
