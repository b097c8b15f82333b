"""``spectral-angle``: the angle between the mean spectra of each structure, and the scatter of spectra about them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.angles import normalize_spectra, orthogonal_variance, spectral_angle
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
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable

ORTHOGONAL_VARIANCE = "spectral-angle/across"


class SpectralAngle:
    """Unweighted mean over structures of the angle between the sides' mean spectra, in degrees."""

    name: ClassVar[str] = "spectral-angle"
    summary: ClassVar[str] = "angle between the mean spectra of each structure, in degrees"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(features=("spectra",))

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Leave out spectra of norm 0, and select once, from both full sets, which structures are scored.

        Raises:
            NotComputable: a single band, or no structure that both sides have, not even the field of view.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of one band have no angle")
        real, generated = _drop_zero_norms(real), _drop_zero_norms(generated)
        scored_structures = select_structures(real, generated)
        return (
            mark_scored_structures(real, scored_structures),
            mark_scored_structures(generated, scored_structures),
            train,
        )

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the headline; the details hold each structure's angle, curve over wavelength, and scatter of spectra.

        Raises:
            NotComputable: one side has no spectrum of a scored structure, or its mean has norm 0.
        """
        if ORTHOGONAL_VARIANCE not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        scored_structures = get_scored_structures(real, generated)
        scores = {
            name: _score_structure(
                _StructureSpectra.from_table(real, name), _StructureSpectra.from_table(generated, name), name
            )
            for name in scored_structures
        }
        details = {
            "structures": scores,
            "shown": {
                "RMS angle of pixels to their cube's mean, samples / real": _compute_geometric_mean(
                    scores, "within_ratio"
                ),
                "RMS angle of cubes to their set's mean, samples / real": _compute_geometric_mean(
                    scores, "between_ratio"
                ),
            },
            "zero_norm": {"reference": _count_zero_norms(real), "samples": _count_zero_norms(generated)},
            **collect_structure_details(real, generated, scored_structures),
        }
        return ScoreParts(average_over_structures(scores, "value"), details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the mean angle alone, as :meth:`compare` does."""
        return float(
            np.mean(
                [
                    _compute_angle(_compute_mean_spectrum(real, name), _compute_mean_spectrum(generated, name), name)
                    for name in get_scored_structures(real, generated)
                ]
            )
        )


@dataclasses.dataclass(frozen=True)
class _StructureSpectra:
    """Spectral statistics of one structure in one side's cubes.

    Attributes:
        mean: ``(band,)`` mean of the cubes' mean spectra, every cube of equal weight.
        angle_within: root mean square angle of pixels to their cube's mean, degrees.
        angle_between: root mean square angle of cubes' means to ``mean``, degrees.
        n_cubes: number of cubes that have the structure.
    """

    mean: NDArray[np.float64]
    angle_within: float
    angle_between: float
    n_cubes: int

    @classmethod
    def from_table(cls, table: FeatureTable, name: str) -> _StructureSpectra:
        index = table.structures.index(name)
        has_structure = table[PIXEL_COUNTS][:, index] > 0
        means = table[MEAN_SPECTRA][has_structure, index].astype(np.float64)
        mean = means.mean(axis=0)
        energy = float(np.square(means).sum(axis=1).mean())
        tangent = np.sqrt(float(table[ORTHOGONAL_VARIANCE][has_structure, index].mean()) / energy)
        scatter = np.sqrt(np.square(spectral_angle(means, mean)).mean())
        return cls(mean, float(np.degrees(np.arctan(tangent))), float(scatter), int(has_structure.sum()))


def _compute_mean_spectrum(table: FeatureTable, name: str) -> NDArray[np.float64]:
    """Return the mean ``(band,)`` of the cubes' mean spectra, every cube of equal weight."""
    index = table.structures.index(name)
    mean: NDArray[np.float64] = (
        table[MEAN_SPECTRA][table[PIXEL_COUNTS][:, index] > 0, index].astype(np.float64).mean(axis=0)
    )
    return mean


def _compute_angle(real: NDArray[np.float64], generated: NDArray[np.float64], name: str) -> float:
    value = float(spectral_angle(real, generated))
    if not np.isfinite(value):
        raise NotComputable(f"the mean spectrum of {name!r} has norm 0 on one side")
    return value


def _score_structure(real: _StructureSpectra, generated: _StructureSpectra, name: str) -> dict[str, Any]:
    value = _compute_angle(real.mean, generated.mean, name)
    signed_angles = np.degrees(normalize_spectra(generated.mean) - normalize_spectra(real.mean))
    return {
        "value": value,
        "by_wavelength": np.abs(signed_angles).tolist(),
        "turned": signed_angles.tolist(),
        "within": {"reference": real.angle_within, "samples": generated.angle_within},
        "within_ratio": _compute_ratio(generated.angle_within, real.angle_within),
        "between": {"reference": real.angle_between, "samples": generated.angle_between},
        "between_ratio": _compute_ratio(generated.angle_between, real.angle_between),
        "means": {"reference": real.mean.tolist(), "samples": generated.mean.tolist()},
        "cubes": {"reference": real.n_cubes, "samples": generated.n_cubes},
    }


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


def _compute_ratio(generated: float, real: float) -> float | None:
    return generated / real if real > 0 else None


def _compute_geometric_mean(scores: dict[str, dict[str, Any]], key: str) -> float | None:
    """Return the geometric mean over structures; None if the ratio of one is missing or 0."""
    ratios = [entry[key] for entry in scores.values()]
    return float(np.exp(np.mean(np.log(ratios)))) if all(ratios) else None
