"""``spectral-angle``: the angle between the mean spectra of each structure, and the scatter of spectra about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.metrics.angles import normalize_spectra, orthogonal_variance, spectral_angle
from hseval.metrics.structure_selection import (
    COVARIANCES,
    MEAN_SPECTRA,
    PIXEL_COUNTS,
    SPECTRUM_QUANTILES,
    StructureMetric,
    drop_columns,
    mark_scored_structures,
    select_cubes_with,
    select_structures,
)
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.utils.arrays import Float64Array

ORTHOGONAL_VARIANCE = "spectral-angle/across"


class SpectralAngle(StructureMetric):
    """Unweighted mean over structures of the angle between the sides' mean spectra, in degrees."""

    name = "spectral-angle"
    summary = "angle between the mean spectra of each structure, in degrees"

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Leave out spectra of norm 0, and select once, from both full sets, which structures are scored.

        Raises:
            NotComputable: a single band, or no structure that both sides have, not even the field of view.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of one band have no angle")
        real, generated = _drop_zero_norms(real), _drop_zero_norms(generated)
        return *mark_scored_structures(real, generated, select_structures(real, generated)), train

    def compute_value(self, real: FeatureTable, generated: FeatureTable, name: str) -> float:
        """Return the angle of one structure's mean spectra.

        Raises:
            NotComputable: one of them has norm 0.
        """
        value = float(spectral_angle(_compute_mean_spectrum(real, name), _compute_mean_spectrum(generated, name)))
        if not np.isfinite(value):
            raise NotComputable(f"the mean spectrum of {name!r} has norm 0 on one side")
        return value

    def score_structure(self, real: FeatureTable, generated: FeatureTable, name: str) -> dict[str, Any]:
        """Return one structure's angle, its curve over wavelength, and the scatter of spectra on both sides."""
        value = self.compute_value(real, generated, name)
        a, b = _compute_mean_spectrum(real, name), _compute_mean_spectrum(generated, name)
        signed_angles = np.degrees(normalize_spectra(b) - normalize_spectra(a))
        (within_a, between_a), (within_b, between_b) = (_compute_scatter(table, name) for table in (real, generated))
        counts = [len(select_cubes_with(table, name, PIXEL_COUNTS)) for table in (real, generated)]
        return {
            "value": value,
            "by_wavelength": np.abs(signed_angles).tolist(),
            "turned": signed_angles.tolist(),
            "within": {"reference": within_a, "samples": within_b},
            "within_ratio": within_b / within_a if within_a > 0 else None,
            "between": {"reference": between_a, "samples": between_b},
            "between_ratio": between_b / between_a if between_a > 0 else None,
            "means": {"reference": a.tolist(), "samples": b.tolist()},
            "cubes": {"reference": counts[0], "samples": counts[1]},
        }

    def summarize(
        self, scores: dict[str, dict[str, Any]], real: FeatureTable, generated: FeatureTable
    ) -> dict[str, Any]:
        """Return the ratios of scatter over all structures, and how many cubes have spectra of norm 0."""
        shown = {
            "RMS angle of pixels to their cube's mean, samples / real": _compute_geometric_mean(scores, "within_ratio"),
            "RMS angle of cubes to their set's mean, samples / real": _compute_geometric_mean(scores, "between_ratio"),
        }
        zero_norms = {"reference": _count_zero_norms(real), "samples": _count_zero_norms(generated)}
        return {"shown": shown, "zero_norm": zero_norms}


def _compute_mean_spectrum(table: FeatureTable, name: str) -> Float64Array:
    """Return the mean ``(band,)`` of the cubes' mean spectra, every cube of equal weight."""
    return np.asarray(select_cubes_with(table, name, MEAN_SPECTRA).astype(np.float64).mean(axis=0))


def _compute_scatter(table: FeatureTable, name: str) -> tuple[float, float]:
    """Return the root mean square angle of pixels to their cube's mean, and of cubes' means to the set's, degrees."""
    means = select_cubes_with(table, name, MEAN_SPECTRA).astype(np.float64)
    energy = float(np.square(means).sum(axis=1).mean())
    tangent = np.sqrt(float(select_cubes_with(table, name, ORTHOGONAL_VARIANCE).mean()) / energy)
    scatter = np.sqrt(np.square(spectral_angle(means, means.mean(axis=0))).mean())
    return float(np.degrees(np.arctan(tangent))), float(scatter)


def _drop_zero_norms(table: FeatureTable) -> FeatureTable:
    """Return the table with zero-norm spectra counted as no pixels, and the variance orthogonal to each mean."""
    has_direction = np.linalg.norm(table[MEAN_SPECTRA], axis=-1) > 0  # False for NaN, a missing structure
    columns = {
        PIXEL_COUNTS: np.where(has_direction, table[PIXEL_COUNTS], 0),
        ORTHOGONAL_VARIANCE: orthogonal_variance(table[MEAN_SPECTRA], table[COVARIANCES]),
        "spectral-angle/zero": (table[PIXEL_COUNTS] > 0) & ~has_direction,
    }
    return drop_columns(table, SPECTRUM_QUANTILES, COVARIANCES).add_columns(columns)


def _count_zero_norms(table: FeatureTable) -> int:
    """Return how many cubes have a structure whose mean spectrum has norm 0."""
    return int(table["spectral-angle/zero"].any(axis=1).sum())


def _compute_geometric_mean(scores: dict[str, dict[str, Any]], key: str) -> float | None:
    """Return the geometric mean over structures; None if the ratio of one is missing or 0."""
    ratios = [entry[key] for entry in scores.values()]
    return float(np.exp(np.mean(np.log(ratios)))) if all(ratios) else None
