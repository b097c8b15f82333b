"""``plausibility``: values, spectra and noise that no real cube has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.options import option
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.plausibility_numerics import (
    compute_energy_moments,
    compute_residual_energy,
    compute_residual_projector,
    compute_z_scores,
    share_above,
    share_below,
    unpack_symmetric,
)
from hseval.metrics.structure_selection import COVARIANCES, MEAN_SPECTRA, SPECTRUM_QUANTILES
from hseval.utils.errors import NotComputable
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.utils.arrays import Float64Array, IntArray
    from hseval.utils.random_streams import Rng


VALUE_QUANTILES, NOISE_LEVEL = "values/quantiles", "noise-level"
QUANTILE_PROBABILITIES = np.array([0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0])  # of ``values/quantiles``
LOW_QUANTILE_INDEX, HIGH_QUANTILE_INDEX = 1, 5  # of the quantiles that bound a cube's range: 0.1 % and 99.9 %
COLUMN_PREFIX = "plausibility/"
MIN_REAL_CUBES = 3  # with fewer real cubes a standard deviation is meaningless
EPSILON = {"range": 1e-3, "unmixing": 1e-9, "noise": 1e-6}  # added before logarithms, so that log(0) is finite
MIN_LOG_STD = {"range": 0.1, "unmixing": 0.05, "noise": 0.05}  # least std of real cubes: 0.1 decade, 5 %, 5 %
OUTLIER_Z = 3.0  # z-score from which a sample counts as an outlier


class Plausibility:
    """Deviation of samples from real cubes in range, unmixing residual and noise, in real standard deviations."""

    name = "plausibility"
    summary = "values out of range, spectra that do not unmix, and noise, in standard deviations of the real data"
    better: Direction = "lower"
    bounds = (0.0, float("inf"))
    needs = Needs(features=("noise-level", "spectra", "values"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        energy: float = option(0.9999, "share of the real spectra's energy that the unmixing subspace contains")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 0 < self.options.energy < 1:
            raise ValueError(f"energy is {self.options.energy}, expected a share above 0 and below 1")

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Convert each cube's quantiles, second moments and noise into the columns that are compared.

        Raises:
            NotComputable: a single band.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of a single band always unmix")
        return _prepare_columns(real), _prepare_columns(generated), train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the mean over samples of their deviation from real cubes, with its three parts.

        Range, subspace, means and standard deviations come from ``real`` alone.

        Raises:
            NotComputable: too few cubes in which noise can be measured.
        """
        if f"{COLUMN_PREFIX}quantiles" not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        set_sizes = _label_sides(len(real), len(generated))
        real, generated = _select_measurable(real), _select_measurable(generated)
        for side, table, min_cubes in (("reference", real, MIN_REAL_CUBES), ("sample", generated, 1)):
            if len(table) < min_cubes:
                required = format_count(min_cubes, f"{side} cube")
                raise NotComputable(f"needs at least {required} with noise to measure, found {len(table)}")
        parts = {
            "range": _score_range(real, generated),
            "unmixing": self._score_unmixing(real, generated),
            "noise": _score_noise(real, generated),
        }
        deviations = np.stack([deviation for deviation, _ in parts.values()])
        details: dict[str, Any] = {
            "parts": {name: {"value": float(deviation.mean()), **more} for name, (deviation, more) in parts.items()},
            "strange": float((deviations > OUTLIER_Z).any(axis=0).mean()),
            "too_small": {
                side: count - len(measurable)
                for (side, count), measurable in zip(set_sizes, (real, generated), strict=True)
            },
        }
        details["shown"] = _select_visible(details)
        return ScoreParts(float(np.sqrt(np.square(deviations).mean(axis=0)).mean()), details)

    def _score_unmixing(self, real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
        """Return each sample's deviation in the share of energy outside the real spectra's subspace."""
        bands = real[f"{COLUMN_PREFIX}noise"].shape[1]
        a, b = real[f"{COLUMN_PREFIX}moments"], generated[f"{COLUMN_PREFIX}moments"]
        projector, rank = compute_residual_projector(unpack_symmetric(a.mean(axis=0), bands), self.options.energy)
        shares = [compute_residual_energy(side, projector) for side in (a, b)]
        logs = [np.log(share + EPSILON["unmixing"]) for share in shares]
        residuals = [projector @ unpack_symmetric(side.mean(axis=0), bands) @ projector for side in (a, b)]
        amplitudes = [100 * np.sqrt(np.maximum(bands * np.diag(residual), 0.0)) for residual in residuals]
        return np.abs(compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["unmixing"])), {
            "rank": rank,
            "residual": {side: float(100 * np.sqrt(share.mean())) for side, share in _label_sides(*shares)},
            "by_wavelength": {side: amplitude.tolist() for side, amplitude in _label_sides(*amplitudes)},
        }


def _prepare_columns(table: FeatureTable) -> FeatureTable:
    """Return the merged quantiles ``(n, band, k)``, second moments ``(n, t)`` and relative noise ``(n, band)``."""
    index = table.structures.index(FOV)
    moments, mean_square = compute_energy_moments(table[MEAN_SPECTRA][:, index], table[COVARIANCES][:, index])
    quantiles = table[SPECTRUM_QUANTILES][:, index]
    probabilities, order = _merge_probabilities(quantiles.shape[-1])
    rms = np.sqrt(np.where(mean_square > 0, mean_square, 1.0))[:, None]
    merged = np.concatenate([table[VALUE_QUANTILES], quantiles], axis=-1)[..., order]
    columns = {
        f"{COLUMN_PREFIX}quantiles": merged,
        f"{COLUMN_PREFIX}negative": share_below(merged, probabilities, np.zeros(merged.shape[1])).mean(axis=1),
        f"{COLUMN_PREFIX}probabilities": np.broadcast_to(probabilities, (len(table), len(probabilities))),
        f"{COLUMN_PREFIX}moments": moments,
        f"{COLUMN_PREFIX}noise": table[NOISE_LEVEL] / rms,  # NaN if no 3 x 3 pixels are valid
    }
    return dataclasses.replace(table, columns=columns)


def _select_measurable(table: FeatureTable) -> FeatureTable:
    """Return the cubes whose noise could be measured; a field of a few pixels is too small."""
    measurable = np.flatnonzero(np.isfinite(table[f"{COLUMN_PREFIX}noise"]).all(axis=1))
    return table if len(measurable) == len(table) else table.select(measurable)


def _merge_probabilities(n_quantiles: int) -> tuple[Float64Array, IntArray]:
    """Return the probabilities of the columns' merged quantiles, ascending, and the order that sorts them."""
    probabilities = np.concatenate([QUANTILE_PROBABILITIES, (np.arange(n_quantiles) + 0.5) / n_quantiles])
    order = np.argsort(probabilities, kind="stable")
    return probabilities[order], order


def _score_range(real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
    """Return each sample's deviation in the share of values outside the range of real cubes; at least 0."""
    probabilities = real[f"{COLUMN_PREFIX}probabilities"][0]
    order = np.searchsorted(probabilities, QUANTILE_PROBABILITIES[[LOW_QUANTILE_INDEX, HIGH_QUANTILE_INDEX]])
    quantiles = real[f"{COLUMN_PREFIX}quantiles"]
    low, high = quantiles[..., order[0]].min(axis=0), quantiles[..., order[1]].max(axis=0)
    outside, negative = {}, {}
    for side, table in _label_sides(real, generated):
        values = table[f"{COLUMN_PREFIX}quantiles"]
        outside[side] = share_below(values, probabilities, low) + share_above(values, probabilities, high)
        negative[side] = float(100 * table[f"{COLUMN_PREFIX}negative"].mean())
    logs = [np.log10(outside[side].mean(axis=1) + EPSILON["range"]) for side in ("reference", "samples")]
    return np.maximum(compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["range"]), 0.0), {
        "outside": {side: float(100 * share.mean()) for side, share in outside.items()},
        "negative": negative,
        "by_wavelength": {side: (100 * share.mean(axis=0)).tolist() for side, share in outside.items()},
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _score_noise(real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
    """Return each sample's deviation in the noise of its bands, relative to the cube's root mean square."""
    logs = [np.log(table[f"{COLUMN_PREFIX}noise"].astype(np.float64) + EPSILON["noise"]) for table in (real, generated)]
    log_ratio = logs[1].mean(axis=0) - logs[0].mean(axis=0)
    z_scores = compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["noise"])
    return np.sqrt(np.square(z_scores).mean(axis=1)), {
        "ratio": float(np.exp(log_ratio.mean())),
        "ratio_by_wavelength": np.exp(log_ratio).tolist(),
        "relative": {side: float(100 * np.exp(log.mean())) for side, log in _label_sides(*logs)},
    }


def _label_sides(real: Any, generated: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("reference", real), ("samples", generated)


def _select_visible(details: dict[str, Any]) -> dict[str, Any]:
    parts = details["parts"]
    values, unmixing, noise = (parts[name] for name in ("range", "unmixing", "noise"))
    return {
        "values outside the reference's range (%)": values["outside"]["samples"],
        "negative values (%)": values["negative"]["samples"],
        "negative values of the reference (%)": values["negative"]["reference"],
        "unmixing residual (% of the signal)": unmixing["residual"]["samples"],
        "unmixing residual of the reference (% of the signal)": unmixing["residual"]["reference"],
        "noise, samples / real": noise["ratio"],
        f"samples beyond {OUTLIER_Z:g} standard deviations of the real data (%)": 100 * details["strange"],
    }
