"""``band-covariance``: are bands correlated in the samples as they are in real cubes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.correlations import (
    band_pair_indices,
    compute_correlations,
    compute_rms_by_band,
    fisher_z,
    inverse_fisher_z,
)
from hseval.metrics.structure_selection import (
    COVARIANCES,
    IS_SCORED,
    MEAN_SPECTRA,
    PIXEL_COUNTS,
    SPECTRUM_QUANTILES,
    drop_columns,
    explain_missing_structure,
    has_structure,
    mark_scored_structures,
    select_cubes_with,
    select_structures,
)
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.utils.arrays import Array, Float64Array
    from hseval.utils.random_streams import Rng


FISHER_Z = "band-covariance/z"
MIN_PIXELS = 8  # pixels of a structure below which a cube's correlations are noise


class BandCovariance:
    """Root mean square difference, over pairs of bands, of the mean Fisher's z of correlations within cubes."""

    name = "band-covariance"
    summary = "difference of the correlations between bands, within cubes"
    better: Direction = "lower"
    bounds = (0.0, float("inf"))
    needs = Needs(features=("spectra",))

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Turn each cube's covariances into Fisher's z of its correlations, ``(n, S, pairs)``.

        Raises:
            NotComputable: a single band, or a side without a cube of enough valid pixels.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: correlations are between different bands")
        real, generated = _add_fisher_z(real), _add_fisher_z(generated)
        if reason := explain_missing_structure(real, generated, FOV):
            raise NotComputable(f"needs cubes with at least {MIN_PIXELS} valid pixels ({reason})")
        return *mark_scored_structures(real, generated, [FOV, *select_structures(real, generated)]), train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the distance in the field of view; the details hold those in the structures that both sides have.

        Raises:
            NotComputable: as :meth:`relate`.
        """
        if FISHER_Z not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        marked = [name for index, name in enumerate(real.structures) if real[IS_SCORED][0, index]]
        names = [FOV, *(name for name in marked if name != FOV and has_structure(real, generated, name))]
        scores = {
            name: _score_structure(_compute_mean_z(real, name), _compute_mean_z(generated, name), real.wavelengths)
            for name in names
        }
        fov_score = scores[FOV]
        details = {
            "structures": scores,
            "shown": {
                "root mean square difference of the correlations": fov_score["correlation"],
                "adjacent bands, mean of samples minus real (Fisher's z)": fov_score["neighbors"],
            },
            "masks_from": {"reference": real.mask_source, "samples": generated.mask_source},
        }
        return ScoreParts(fov_score["value"], details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance in the field of view alone, as :meth:`compare` does."""
        return _compute_rms(_compute_mean_z(generated, FOV) - _compute_mean_z(real, FOV))


def _add_fisher_z(table: FeatureTable) -> FeatureTable:
    """Return the table with Fisher's z instead of covariances; too few pixels count as none."""
    columns = {
        FISHER_Z: fisher_z(compute_correlations(table[MEAN_SPECTRA], table[COVARIANCES])).astype(np.float32),
        PIXEL_COUNTS: np.where(table[PIXEL_COUNTS] >= MIN_PIXELS, table[PIXEL_COUNTS], 0),
    }
    return drop_columns(table, SPECTRUM_QUANTILES, COVARIANCES).add_columns(columns)


def _compute_mean_z(table: FeatureTable, name: str) -> Float64Array:
    """Return the mean over cubes, each of equal weight, of Fisher's z ``(pairs,)`` in a structure."""
    z = select_cubes_with(table, name, FISHER_Z)
    if not len(z):
        raise NotComputable(f"one side has no cube with at least {MIN_PIXELS} valid pixels of {name!r}")
    return np.asarray(z.mean(axis=0, dtype=np.float64))


def _compute_rms(difference: Float64Array) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def _score_structure(real: Float64Array, generated: Float64Array, wavelengths: Array) -> dict[str, Any]:
    difference, n_bands = generated - real, len(wavelengths)
    first, second = band_pair_indices(n_bands)
    top_pair = int(np.abs(difference).argmax())
    return {
        "value": _compute_rms(difference),
        "by_wavelength": compute_rms_by_band(difference, n_bands).tolist(),
        "correlation": float(np.sqrt(np.square(inverse_fisher_z(generated) - inverse_fisher_z(real)).mean())),
        "neighbors": float(difference[second == first + 1].mean()),
        "top_pair": {
            "bands": [float(wavelengths[first[top_pair]]), float(wavelengths[second[top_pair]])],
            "reference": float(inverse_fisher_z(real[top_pair])),
            "samples": float(inverse_fisher_z(generated[top_pair])),
        },
    }
