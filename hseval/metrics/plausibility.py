"""``plausibility``: values, spectra and noise that no real cube has."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import FIELD
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
from hseval.core.report import Better
from hseval.metrics.plausibility_numerics import (
    deviations,
    energy_moments,
    outside,
    share_above,
    share_below,
    square,
    subspace,
)
from hseval.metrics.structure_selection import COV, LEVELS, MEAN
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows

    Floats = NDArray[np.float64]

QUANTILES, NOISE = "values/quantiles", "noise-level"
PROBABILITIES = np.array([0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0])  # of the rows' quantiles
LOW, HIGH = 1, 5  # which of them bound a cube's own range: 0.1 % and 99.9 %
OWN = "plausibility/"
FEWEST = 3  # real cubes: of fewer no deviation says anything
TRIFLE = {"range": 1e-3, "unmixing": 1e-9, "noise": 1e-6}  # added before logarithms, so that 0 has one
STEADY = {"range": 0.1, "unmixing": 0.05, "noise": 0.05}  # smallest deviations of real cubes: 0.1 decade, 5 %, 5 %
STRANGE = 3.0  # deviations from which a sample is counted as beyond real cubes


class Plausibility:
    """How far samples are from real cubes in range, residual of unmixing and noise, in real cubes' deviations."""

    name: ClassVar[str] = "plausibility"
    summary: ClassVar[str] = "values out of range, spectra that do not unmix, and noise, in deviations of real cubes"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(rows=("noise-level", "spectra", "values"))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        energy: float = option(0.9999, "share of the real spectra's energy that the subspace of unmixing holds")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 0 < self.options.energy < 1:
            raise ValueError(f"energy is {self.options.energy}, expected a share above 0 and below 1")

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Bring each cube's quantiles, second moments and noise into the form that sets are compared in.

        Raises:
            NotComputable: a single band.
        """
        if real[MEAN].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of one band can't fail to unmix")
        return _formed(real), _formed(fake), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the mean over samples of their deviation from real cubes, with its three parts.

        Range, subspace and what is usual come from ``real`` alone.

        Raises:
            NotComputable: too few cubes in which noise can be measured.
        """
        if f"{OWN}quantiles" not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        given = _sides(len(real), len(fake))
        real, fake = _measured(real), _measured(fake)
        for side, rows, fewest in (("reference", real, FEWEST), ("sample", fake, 1)):
            if len(rows) < fewest:
                raise NotComputable(f"needs at least {fewest} {side} cubes with noise to measure, found {len(rows)}")
        parts = {"range": _range(real, fake), "unmixing": self._unmixing(real, fake), "noise": _noise(real, fake)}
        each = np.stack([away for away, _ in parts.values()])
        details: dict[str, Any] = {
            "parts": {name: {"value": float(away.mean()), **found} for name, (away, found) in parts.items()},
            "strange": float((each > STRANGE).any(axis=0).mean()),
            "too_small": {side: count - len(kept) for (side, count), kept in zip(given, (real, fake), strict=True)},
        }
        details["shown"] = _shown(details)
        return ScoreParts(float(np.sqrt(np.square(each).mean(axis=0)).mean()), details)

    def _unmixing(self, real: Rows, fake: Rows) -> tuple[Floats, dict[str, Any]]:
        """Return each sample's deviation in the share of energy outside the real spectra's subspace."""
        bands = real[f"{OWN}noise"].shape[1]
        a, b = real[f"{OWN}moments"], fake[f"{OWN}moments"]
        projector, rank = subspace(square(a.mean(axis=0), bands), self.options.energy)
        shares = [outside(side, projector) for side in (a, b)]
        logs = [np.log(share + TRIFLE["unmixing"]) for share in shares]
        left = [projector @ square(side.mean(axis=0), bands) @ projector for side in (a, b)]
        amplitudes = [100 * np.sqrt(np.maximum(bands * np.diag(each), 0.0)) for each in left]
        return np.abs(deviations(real=logs[0], fake=logs[1], steady=STEADY["unmixing"])), {
            "rank": rank,
            "residual": {side: float(100 * np.sqrt(share.mean())) for side, share in _sides(*shares)},
            "by_wavelength": {side: amplitude.tolist() for side, amplitude in _sides(*amplitudes)},
        }


def _formed(rows: Rows) -> Rows:
    """Return merged quantiles ``(n, band, k)``, second moments ``(n, t)`` and relative noise ``(n, band)`` as rows."""
    place = rows.structures.index(FIELD)
    moments, mean_square = energy_moments(rows[MEAN][:, place], rows[COV][:, place])
    levels = rows[LEVELS][:, place]
    at, order = _merged(levels.shape[-1])
    root = np.sqrt(np.where(mean_square > 0, mean_square, 1.0))[:, None]
    merged = np.concatenate([rows[QUANTILES], levels], axis=-1)[..., order]
    columns = {
        f"{OWN}quantiles": merged,
        f"{OWN}negative": share_below(merged, at, np.zeros(merged.shape[1])).mean(axis=1),
        f"{OWN}probabilities": np.broadcast_to(at, (len(rows), len(at))),
        f"{OWN}moments": moments,
        f"{OWN}noise": rows[NOISE] / root,  # NaN where no 3 x 3 pixels are valid
    }
    return dataclasses.replace(rows, columns=columns)


def _measured(rows: Rows) -> Rows:
    """Return the rows whose noise could be measured; a field of a few pixels leaves nothing to measure."""
    known = np.flatnonzero(np.isfinite(rows[f"{OWN}noise"]).all(axis=1))
    return rows if len(known) == len(rows) else rows.take(known)


def _merged(levels: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return the probabilities of a cube's quantiles and levels together, ascending, and the order behind that."""
    together = np.concatenate([PROBABILITIES, (np.arange(levels) + 0.5) / levels])
    order = np.argsort(together, kind="stable")
    return together[order], order


def _range(real: Rows, fake: Rows) -> tuple[Floats, dict[str, Any]]:
    """Return each sample's deviation in the share of values outside the range of real cubes; never below 0."""
    at = real[f"{OWN}probabilities"][0]
    order = np.searchsorted(at, PROBABILITIES[[LOW, HIGH]])
    quantiles = real[f"{OWN}quantiles"]
    low, high = quantiles[..., order[0]].min(axis=0), quantiles[..., order[1]].max(axis=0)
    found, negative = {}, {}
    for side, rows in _sides(real, fake):
        values = rows[f"{OWN}quantiles"]
        found[side] = share_below(values, at, low) + share_above(values, at, high)
        negative[side] = float(100 * rows[f"{OWN}negative"].mean())
    logs = [np.log10(found[side].mean(axis=1) + TRIFLE["range"]) for side in ("reference", "samples")]
    return np.maximum(deviations(real=logs[0], fake=logs[1], steady=STEADY["range"]), 0.0), {
        "outside": {side: float(100 * share.mean()) for side, share in found.items()},
        "negative": negative,
        "by_wavelength": {side: (100 * share.mean(axis=0)).tolist() for side, share in found.items()},
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _noise(real: Rows, fake: Rows) -> tuple[Floats, dict[str, Any]]:
    """Return each sample's deviation in the noise of its bands, over the cube's root mean square."""
    logs = [np.log(rows[f"{OWN}noise"].astype(np.float64) + TRIFLE["noise"]) for rows in (real, fake)]
    ratio = logs[1].mean(axis=0) - logs[0].mean(axis=0)
    away = deviations(real=logs[0], fake=logs[1], steady=STEADY["noise"])
    return np.sqrt(np.square(away).mean(axis=1)), {
        "ratio": float(np.exp(ratio.mean())),
        "ratio_by_wavelength": np.exp(ratio).tolist(),
        "relative": {side: float(100 * np.exp(log.mean())) for side, log in _sides(*logs)},
    }


def _sides(real: Any, fake: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("reference", real), ("samples", fake)


def _shown(details: dict[str, Any]) -> dict[str, Any]:
    parts = details["parts"]
    values, unmixing, noise = (parts[name] for name in ("range", "unmixing", "noise"))
    return {
        "values outside the reference's range (%)": values["outside"]["samples"],
        "negative values (%)": values["negative"]["samples"],
        "negative values of the reference (%)": values["negative"]["reference"],
        "residual of unmixing (% of the signal)": unmixing["residual"]["samples"],
        "residual of unmixing of the reference (% of the signal)": unmixing["residual"]["reference"],
        "noise over the reference's": noise["ratio"],
        f"samples more than {STRANGE:g} deviations from real cubes (%)": 100 * details["strange"],
    }
