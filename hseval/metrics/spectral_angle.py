"""``spectral-angle``: the angle between the mean spectra of each structure, and how far spectra scatter about them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Better
from hseval.metrics.angles import across, angle, unit
from hseval.metrics.structure_selection import (
    COV,
    LEVELS,
    MEAN,
    PIXELS,
    choosing,
    chosen,
    mean_of,
    remarks,
    structures_to_score,
    without_columns,
)
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows

ACROSS = "spectral-angle/across"


class SpectralAngle:
    """Unweighted mean over structures of the angle between the sides' mean spectra, in degrees."""

    name: ClassVar[str] = "spectral-angle"
    summary: ClassVar[str] = "angle between the mean spectra of each structure, in degrees"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(rows=("spectra",))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Leave out spectra of norm 0, and decide once, from both full sets, which structures are scored.

        Raises:
            NotComputable: a single band, or no structure that both sides have, not even the field of view.
        """
        if real[MEAN].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: spectra of one band have no angle")
        real, fake = _valid(real), _valid(fake)
        used = structures_to_score(real, fake)
        return choosing(real, used), choosing(fake, used), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the headline and, for each structure, its angle, course over wavelength, and both spreads.

        Raises:
            NotComputable: one side has no spectrum of a scored structure, or its mean has norm 0.
        """
        if ACROSS not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        used = chosen(real, fake)
        scored = {name: _score(_Side.of(real, name), _Side.of(fake, name), name) for name in used}
        details = {
            "structures": scored,
            "shown": {
                "samples' spread within a structure over the real one": _typical(scored, "within_ratio"),
                "samples' spread between cubes over the real one": _typical(scored, "between_ratio"),
            },
            "zero_norm": {"reference": _zeros(real), "samples": _zeros(fake)},
            **remarks(real, fake, used),
        }
        return ScoreParts(mean_of(scored, "value"), details)

    def headline(self, *, real: Rows, fake: Rows, train: Rows | None = None) -> float:
        """Return the mean angle alone, as :meth:`compare` does."""
        return float(np.mean([_angle(_mean(real, name), _mean(fake, name), name) for name in chosen(real, fake)]))


@dataclasses.dataclass(frozen=True)
class _Side:
    """What one side's cubes say of one structure.

    Attributes:
        mean: ``(band,)`` mean of the cubes' mean spectra: every cube weighs the same.
        within: root mean square angle of pixels to their cube's mean, degrees.
        between: root mean square angle of cubes' means to ``mean``, degrees.
        cubes: number of cubes that have the structure.
    """

    mean: NDArray[np.float64]
    within: float
    between: float
    cubes: int

    @classmethod
    def of(cls, rows: Rows, name: str) -> _Side:
        place = rows.structures.index(name)
        having = rows[PIXELS][:, place] > 0
        means = rows[MEAN][having, place].astype(np.float64)
        mean = means.mean(axis=0)
        energy = float(np.square(means).sum(axis=1).mean())
        tangent = np.sqrt(float(rows[ACROSS][having, place].mean()) / energy)
        scatter = np.sqrt(np.square(angle(means, mean)).mean())
        return cls(mean, float(np.degrees(np.arctan(tangent))), float(scatter), int(having.sum()))


def _mean(rows: Rows, name: str) -> NDArray[np.float64]:
    """Return the mean ``(band,)`` of the cubes' mean spectra: every cube weighs the same."""
    place = rows.structures.index(name)
    mean: NDArray[np.float64] = rows[MEAN][rows[PIXELS][:, place] > 0, place].astype(np.float64).mean(axis=0)
    return mean


def _angle(real: NDArray[np.float64], fake: NDArray[np.float64], name: str) -> float:
    value = float(angle(real, fake))
    if not np.isfinite(value):
        raise NotComputable(f"the mean spectrum of {name!r} has norm 0 on one side")
    return value


def _score(real: _Side, fake: _Side, name: str) -> dict[str, Any]:
    value = _angle(real.mean, fake.mean, name)
    turned = np.degrees(unit(fake.mean) - unit(real.mean))
    return {
        "value": value,
        "by_wavelength": np.abs(turned).tolist(),
        "turned": turned.tolist(),
        "within": {"reference": real.within, "samples": fake.within},
        "within_ratio": _ratio(fake.within, real.within),
        "between": {"reference": real.between, "samples": fake.between},
        "between_ratio": _ratio(fake.between, real.between),
        "means": {"reference": real.mean.tolist(), "samples": fake.mean.tolist()},
        "cubes": {"reference": real.cubes, "samples": fake.cubes},
    }


def _valid(rows: Rows) -> Rows:
    """Return rows whose spectra of norm 0 count as no pixels, with the variance across each mean spectrum added."""
    has_direction = np.linalg.norm(rows[MEAN], axis=-1) > 0  # NaN, a structure that is not there, is not
    columns = {
        PIXELS: np.where(has_direction, rows[PIXELS], 0),
        ACROSS: across(rows[MEAN], rows[COV]),
        "spectral-angle/zero": (rows[PIXELS] > 0) & ~has_direction,
    }
    return without_columns(rows, LEVELS, COV).adding(columns)


def _zeros(rows: Rows) -> int:
    """Return how many cubes have a structure whose mean spectrum has norm 0."""
    return int(rows["spectral-angle/zero"].any(axis=1).sum())


def _ratio(fake: float, real: float) -> float | None:
    return fake / real if real > 0 else None


def _typical(scored: dict[str, dict[str, Any]], key: str) -> float | None:
    """Return the geometric mean over structures; None where one has no ratio, or 0."""
    ratios = [entry[key] for entry in scored.values()]
    return float(np.exp(np.mean(np.log(ratios)))) if all(ratios) else None
