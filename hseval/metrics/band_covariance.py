"""``band-covariance``: do bands go together in the samples as they do in real cubes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.hookspecs import Needs, ScoreParts
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
    select_structures,
)
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable

    Float64Array = NDArray[np.float64]

FISHER_Z = "band-covariance/z"
MIN_PIXELS = 8  # pixels of a structure below which a cube's correlations are noise


class BandCovariance:
    """Root mean square difference, over pairs of bands, of the mean Fisher's z of correlations within cubes."""

    name: ClassVar[str] = "band-covariance"
    summary: ClassVar[str] = "difference of the correlations between bands, within cubes"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(features=("spectra",))

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Turn each cube's covariances into Fisher's z of its correlations, ``(n, S, pairs)``.

        Raises:
            NotComputable: a single band, or a side without a cube of enough valid pixels.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: one band goes together with no other")
        real, generated = _add_fisher_z(real), _add_fisher_z(generated)
        if why := explain_missing_structure(real, generated, FOV):
            raise NotComputable(f"needs cubes with at least {MIN_PIXELS} valid pixels ({why})")
        used = [FOV, *select_structures(real, generated)]
        return mark_scored_structures(real, used), mark_scored_structures(generated, used), train

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the distance in the field of view, with those in structures that both sides have.

        Raises:
            NotComputable: as :meth:`relate`.
        """
        if FISHER_Z not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        named = [name for place, name in enumerate(real.structures) if real[IS_SCORED][0, place]]
        names = [FOV, *(name for name in named if name != FOV and has_structure(real, generated, name))]
        scored = {
            name: _score_structure(_compute_mean_z(real, name), _compute_mean_z(generated, name), real.wavelengths)
            for name in names
        }
        whole = scored[FOV]
        details = {
            "structures": scored,
            "shown": {
                "root mean square difference of the correlations themselves": whole["correlation"],
                "neighbouring bands, samples less real (z)": whole["neighbours"],
            },
            "masks_from": {"reference": real.mask_source, "samples": generated.mask_source},
        }
        return ScoreParts(whole["value"], details)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance in the field of view alone, as :meth:`compare` does."""
        return _compute_rms(_compute_mean_z(generated, FOV) - _compute_mean_z(real, FOV))


def _add_fisher_z(table: FeatureTable) -> FeatureTable:
    """Return rows with Fisher's z in place of covariances; too few pixels count as none."""
    columns = {
        FISHER_Z: fisher_z(compute_correlations(table[MEAN_SPECTRA], table[COVARIANCES])).astype(np.float32),
        PIXEL_COUNTS: np.where(table[PIXEL_COUNTS] >= MIN_PIXELS, table[PIXEL_COUNTS], 0),
    }
    return drop_columns(table, SPECTRUM_QUANTILES, COVARIANCES).add_columns(columns)


def _compute_mean_z(table: FeatureTable, name: str) -> Float64Array:
    """Return the mean over cubes, each of equal weight, of Fisher's z ``(pairs,)`` in a structure."""
    place = table.structures.index(name)
    having = table[PIXEL_COUNTS][:, place] > 0
    if not having.any():
        raise NotComputable(f"no cube of one side has {name!r} in {MIN_PIXELS} pixels")
    mean: Float64Array = table[FISHER_Z][having, place].mean(axis=0, dtype=np.float64)
    return mean


def _compute_rms(difference: Float64Array) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def _score_structure(real: Float64Array, generated: Float64Array, wavelengths: NDArray[Any]) -> dict[str, Any]:
    difference, bands = generated - real, len(wavelengths)
    one, other = band_pair_indices(bands)
    top = int(np.abs(difference).argmax())
    return {
        "value": _compute_rms(difference),
        "by_wavelength": compute_rms_by_band(difference, bands).tolist(),
        "correlation": float(np.sqrt(np.square(inverse_fisher_z(generated) - inverse_fisher_z(real)).mean())),
        "neighbours": float(difference[other == one + 1].mean()),
        "top_pair": {
            "bands": [float(wavelengths[one[top]]), float(wavelengths[other[top]])],
            "reference": float(inverse_fisher_z(real[top])),
            "samples": float(inverse_fisher_z(generated[top])),
        },
    }
