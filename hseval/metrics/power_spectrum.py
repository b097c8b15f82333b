"""``power-spectrum``: do samples have as much fine and coarse structure as real cubes, at every wavelength?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.utils.arrays import BoolArray, Float64Array
    from hseval.utils.random_streams import Rng


POWER_DB, MODE_COUNTS = "power/db", "power/modes"
COMPARED_BINS = "power-spectrum/used"
BINS_PER_OCTAVE, NYQUIST = 3, 0.5  # bins: thirds of an octave up to 1/2 cycle/px, and one for the corners beyond
MIN_FINE_FREQUENCY = 0.25  # cycles/px from which structure counts as fine: finer than 4 px
MIN_RESOLVED_SHARE = 0.5  # a bin is compared where at least this share of either side's cubes resolves it


class PowerSpectrum:
    """Root mean square difference of mean log power over bands and radial bins, in dB."""

    name = "power-spectrum"
    summary = "difference of the radial power spectra, band by band, in dB"
    better: Direction = "lower"
    bounds = (0.0, float("inf"))
    needs = Needs(features=("power",))

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Mark the bins that are compared, ``(n, bin)``: selected once, from both full sets.

        Raises:
            NotComputable: no bin is resolved on both sides.
        """
        compared = np.logical_and(
            *((table[MODE_COUNTS] > 0).mean(axis=0) >= MIN_RESOLVED_SHARE for table in (real, generated))
        )
        if not compared.any():
            raise NotComputable("the fields of view are too small: no spatial frequency is resolved on both sides")

        def add_compared_bins(table: FeatureTable) -> FeatureTable:
            return table.add_columns({COMPARED_BINS: compared & (table[MODE_COUNTS] > 0)})

        return add_compared_bins(real), add_compared_bins(generated), train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the distance, with signed differences by frequency and by wavelength.

        Raises:
            NotComputable: no frequency is resolved on both sides.
        """
        if COMPARED_BINS not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        compared = _select_compared_bins(real, generated)
        a, b = _compute_mean_power(real)[:, compared], _compute_mean_power(generated)[:, compared]
        frequencies = compute_bin_frequencies(len(real[COMPARED_BINS][0]))[compared]
        return ScoreParts(_compute_rms(b - a), _build_details(a, b, frequencies))

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance alone, as :meth:`compare` does."""
        return _compute_rms(
            (_compute_mean_power(generated) - _compute_mean_power(real))[:, _select_compared_bins(real, generated)]
        )


def _select_compared_bins(real: FeatureTable, generated: FeatureTable) -> BoolArray:
    compared: BoolArray = np.logical_and(real[COMPARED_BINS].any(axis=0), generated[COMPARED_BINS].any(axis=0))
    if not compared.any():
        raise NotComputable("no spatial frequency is resolved on both sides")
    return compared


def _compute_rms(difference: Float64Array) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def compute_bin_frequencies(n_bins: int) -> Float64Array:
    """Return the centers of the bins in cycles/px, ``(bins,)``; the last bin lies beyond 1/2 cycle/px."""
    steps = np.arange(n_bins) - (n_bins - 1.5)
    return NYQUIST * 2.0 ** (steps / BINS_PER_OCTAVE)


def _compute_mean_power(table: FeatureTable) -> Float64Array:
    """Return the mean over cubes of log power ``(band, bin)`` in dB; NaN in bins that no cube resolves."""
    resolved = table[COMPARED_BINS]
    total = np.where(resolved[:, None, :], table[POWER_DB], 0.0).sum(axis=0, dtype=np.float64)
    counts = resolved.sum(axis=0)
    return np.asarray(np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0))


def _compute_sign_balance(difference: Float64Array) -> Float64Array:
    """Return the sign balance by bin: -1 if all bands lack power, 1 if all have too much, 0 if bands balance."""
    energy = np.square(difference).sum(axis=0)
    signed = (difference * np.abs(difference)).sum(axis=0)
    return np.asarray(np.divide(signed, energy, out=np.zeros_like(energy), where=energy > 0))


def _build_details(real: Float64Array, generated: Float64Array, frequencies: Float64Array) -> dict[str, Any]:
    """Return how spectra ``(band, bin)`` in dB differ, samples minus real."""
    difference, fine = generated - real, frequencies > MIN_FINE_FREQUENCY
    ranges = {"fine": fine, "coarse": ~fine}
    signed = {name: float(difference[:, bins].mean()) if bins.any() else None for name, bins in ranges.items()}
    return {
        "frequencies": frequencies.tolist(),
        "by_frequency": np.sqrt(np.square(difference).mean(axis=0)).tolist(),
        "signed_by_frequency": difference.mean(axis=0).tolist(),
        "leaning_by_frequency": _compute_sign_balance(difference).tolist(),
        "by_wavelength": np.sqrt(np.square(difference).mean(axis=1)).tolist(),
        "fine_by_wavelength": difference[:, fine].mean(axis=1).tolist() if fine.any() else None,
        "spectrum": {"reference": real.mean(axis=0).tolist(), "samples": generated.mean(axis=0).tolist()},
        **signed,
        "shown": {
            "finer than 4 px, samples minus real (dB)": signed["fine"],
            "coarser than 4 px, samples minus real (dB)": signed["coarse"],
        },
    }
