"""``plausibility``: values, spectra and noise that no real cube has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable

    Float64Array = NDArray[np.float64]

VALUE_QUANTILES, NOISE_LEVEL = "values/quantiles", "noise-level"
QUANTILE_PROBABILITIES = np.array([0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0])  # of the rows' quantiles
LOW_QUANTILE_INDEX, HIGH_QUANTILE_INDEX = 1, 5  # which of them bound a cube's own range: 0.1 % and 99.9 %
COLUMN_PREFIX = "plausibility/"
MIN_REAL_CUBES = 3  # real cubes: of fewer no deviation says anything
EPSILON = {"range": 1e-3, "unmixing": 1e-9, "noise": 1e-6}  # added before logarithms, so that 0 has one
MIN_LOG_STD = {"range": 0.1, "unmixing": 0.05, "noise": 0.05}  # smallest deviations of real cubes: 0.1 decade, 5 %, 5 %
OUTLIER_Z = 3.0  # deviations from which a sample is counted as beyond real cubes


class Plausibility:
    """How far samples are from real cubes in range, residual of unmixing and noise, in real cubes' deviations."""

    name: ClassVar[str] = "plausibility"
    summary: ClassVar[str] = "values out of range, spectra that do not unmix, and noise, in deviations of real cubes"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(features=("noise-level", "spectra", "values"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        energy: float = option(0.9999, "share of the real spectra's energy that the subspace of unmixing holds")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 0 < self.options.energy < 1:
            raise ValueError(f"energy is {self.options.energy}, expected a share above 0 and below 1")

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Bring each cube's quantiles, second moments and noise into the form that sets are compared in.

        Raises:
            NotComputable: a single band.
        """
        if real[MEAN_SPECTRA].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of one band can't fail to unmix")
        return _prepare_columns(real), _prepare_columns(generated), train

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the mean over samples of their deviation from real cubes, with its three parts.

        Range, subspace and what is usual come from ``real`` alone.

        Raises:
            NotComputable: too few cubes in which noise can be measured.
        """
        if f"{COLUMN_PREFIX}quantiles" not in real.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        given = _label_sides(len(real), len(generated))
        real, generated = _select_measurable(real), _select_measurable(generated)
        for side, rows, fewest in (("reference", real, MIN_REAL_CUBES), ("sample", generated, 1)):
            if len(rows) < fewest:
                raise NotComputable(f"needs at least {fewest} {side} cubes with noise to measure, found {len(rows)}")
        parts = {
            "range": _score_range(real, generated),
            "unmixing": self._score_unmixing(real, generated),
            "noise": _score_noise(real, generated),
        }
        each = np.stack([away for away, _ in parts.values()])
        details: dict[str, Any] = {
            "parts": {name: {"value": float(away.mean()), **found} for name, (away, found) in parts.items()},
            "strange": float((each > OUTLIER_Z).any(axis=0).mean()),
            "too_small": {
                side: count - len(kept) for (side, count), kept in zip(given, (real, generated), strict=True)
            },
        }
        details["shown"] = _select_visible(details)
        return ScoreParts(float(np.sqrt(np.square(each).mean(axis=0)).mean()), details)

    def _score_unmixing(self, real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
        """Return each sample's deviation in the share of energy outside the real spectra's subspace."""
        bands = real[f"{COLUMN_PREFIX}noise"].shape[1]
        a, b = real[f"{COLUMN_PREFIX}moments"], generated[f"{COLUMN_PREFIX}moments"]
        projector, rank = compute_residual_projector(unpack_symmetric(a.mean(axis=0), bands), self.options.energy)
        shares = [compute_residual_energy(side, projector) for side in (a, b)]
        logs = [np.log(share + EPSILON["unmixing"]) for share in shares]
        left = [projector @ unpack_symmetric(side.mean(axis=0), bands) @ projector for side in (a, b)]
        amplitudes = [100 * np.sqrt(np.maximum(bands * np.diag(each), 0.0)) for each in left]
        return np.abs(compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["unmixing"])), {
            "rank": rank,
            "residual": {side: float(100 * np.sqrt(share.mean())) for side, share in _label_sides(*shares)},
            "by_wavelength": {side: amplitude.tolist() for side, amplitude in _label_sides(*amplitudes)},
        }


def _prepare_columns(table: FeatureTable) -> FeatureTable:
    """Return merged quantiles ``(n, band, k)``, second moments ``(n, t)`` and relative noise ``(n, band)`` as rows."""
    place = table.structures.index(FOV)
    moments, mean_square = compute_energy_moments(table[MEAN_SPECTRA][:, place], table[COVARIANCES][:, place])
    levels = table[SPECTRUM_QUANTILES][:, place]
    at, order = _merge_probabilities(levels.shape[-1])
    root = np.sqrt(np.where(mean_square > 0, mean_square, 1.0))[:, None]
    merged = np.concatenate([table[VALUE_QUANTILES], levels], axis=-1)[..., order]
    columns = {
        f"{COLUMN_PREFIX}quantiles": merged,
        f"{COLUMN_PREFIX}negative": share_below(merged, at, np.zeros(merged.shape[1])).mean(axis=1),
        f"{COLUMN_PREFIX}probabilities": np.broadcast_to(at, (len(table), len(at))),
        f"{COLUMN_PREFIX}moments": moments,
        f"{COLUMN_PREFIX}noise": table[NOISE_LEVEL] / root,  # NaN where no 3 x 3 pixels are valid
    }
    return dataclasses.replace(table, columns=columns)


def _select_measurable(table: FeatureTable) -> FeatureTable:
    """Return the rows whose noise could be measured; a field of a few pixels leaves nothing to measure."""
    known = np.flatnonzero(np.isfinite(table[f"{COLUMN_PREFIX}noise"]).all(axis=1))
    return table if len(known) == len(table) else table.select(known)


def _merge_probabilities(n_quantiles: int) -> tuple[Float64Array, NDArray[np.int64]]:
    """Return the probabilities of a cube's quantiles and levels together, ascending, and the order behind that."""
    together = np.concatenate([QUANTILE_PROBABILITIES, (np.arange(n_quantiles) + 0.5) / n_quantiles])
    order = np.argsort(together, kind="stable")
    return together[order], order


def _score_range(real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
    """Return each sample's deviation in the share of values outside the range of real cubes; never below 0."""
    at = real[f"{COLUMN_PREFIX}probabilities"][0]
    order = np.searchsorted(at, QUANTILE_PROBABILITIES[[LOW_QUANTILE_INDEX, HIGH_QUANTILE_INDEX]])
    quantiles = real[f"{COLUMN_PREFIX}quantiles"]
    low, high = quantiles[..., order[0]].min(axis=0), quantiles[..., order[1]].max(axis=0)
    found, negative = {}, {}
    for side, rows in _label_sides(real, generated):
        values = rows[f"{COLUMN_PREFIX}quantiles"]
        found[side] = share_below(values, at, low) + share_above(values, at, high)
        negative[side] = float(100 * rows[f"{COLUMN_PREFIX}negative"].mean())
    logs = [np.log10(found[side].mean(axis=1) + EPSILON["range"]) for side in ("reference", "samples")]
    return np.maximum(compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["range"]), 0.0), {
        "outside": {side: float(100 * share.mean()) for side, share in found.items()},
        "negative": negative,
        "by_wavelength": {side: (100 * share.mean(axis=0)).tolist() for side, share in found.items()},
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _score_noise(real: FeatureTable, generated: FeatureTable) -> tuple[Float64Array, dict[str, Any]]:
    """Return each sample's deviation in the noise of its bands, over the cube's root mean square."""
    logs = [np.log(rows[f"{COLUMN_PREFIX}noise"].astype(np.float64) + EPSILON["noise"]) for rows in (real, generated)]
    ratio = logs[1].mean(axis=0) - logs[0].mean(axis=0)
    away = compute_z_scores(real=logs[0], generated=logs[1], min_std=MIN_LOG_STD["noise"])
    return np.sqrt(np.square(away).mean(axis=1)), {
        "ratio": float(np.exp(ratio.mean())),
        "ratio_by_wavelength": np.exp(ratio).tolist(),
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
        "residual of unmixing (% of the signal)": unmixing["residual"]["samples"],
        "residual of unmixing of the reference (% of the signal)": unmixing["residual"]["reference"],
        "noise over the reference's": noise["ratio"],
        f"samples more than {OUTLIER_Z:g} deviations from real cubes (%)": 100 * details["strange"],
    }
