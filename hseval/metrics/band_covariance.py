"""``band-covariance``: do bands go together in the samples as they do in real cubes?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.cubes import FIELD
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Better
from hseval.metrics.correlations import back, band_pairs, by_band, correlations, fisher
from hseval.metrics.structure_selection import (
    COV,
    LEVELS,
    MEAN,
    PIXELS,
    SCORED,
    choosing,
    has,
    lack,
    structures_to_score,
    without_columns,
)
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows

    Floats = NDArray[np.float64]

Z = "band-covariance/z"
ENOUGH = 8  # pixels of a structure below which a cube's correlations are noise


class BandCovariance:
    """Root mean square difference, over pairs of bands, of the mean Fisher's z of correlations within cubes."""

    name: ClassVar[str] = "band-covariance"
    summary: ClassVar[str] = "difference of the correlations between bands, within cubes"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(rows=("spectra",))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Turn each cube's covariances into Fisher's z of its correlations, ``(n, S, pairs)``.

        Raises:
            NotComputable: a single band, or a side without a cube of enough valid pixels.
        """
        if real[MEAN].shape[-1] < 2:
            raise NotComputable("needs at least 2 bands: one band goes together with no other")
        real, fake = _transformed(real), _transformed(fake)
        if why := lack(real, fake, FIELD):
            raise NotComputable(f"needs cubes with at least {ENOUGH} valid pixels ({why})")
        used = [FIELD, *structures_to_score(real, fake)]
        return choosing(real, used), choosing(fake, used), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the distance in the field of view, with those in structures that both sides have.

        Raises:
            NotComputable: as :meth:`relate`.
        """
        if Z not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        named = [name for place, name in enumerate(real.structures) if real[SCORED][0, place]]
        names = [FIELD, *(name for name in named if name != FIELD and has(real, fake, name))]
        scored = {name: _score(_mean(real, name), _mean(fake, name), real.wavelengths) for name in names}
        whole = scored[FIELD]
        details = {
            "structures": scored,
            "shown": {
                "root mean square difference of the correlations themselves": whole["correlation"],
                "neighbouring bands, samples less real (z)": whole["neighbours"],
            },
            "masks_from": {"reference": real.masks_from, "samples": fake.masks_from},
        }
        return ScoreParts(whole["value"], details)

    def headline(self, *, real: Rows, fake: Rows, train: Rows | None = None) -> float:
        """Return the distance in the field of view alone, as :meth:`compare` does."""
        return _distance(_mean(fake, FIELD) - _mean(real, FIELD))


def _transformed(rows: Rows) -> Rows:
    """Return rows with Fisher's z in place of covariances; too few pixels count as none."""
    columns = {
        Z: fisher(correlations(rows[MEAN], rows[COV])).astype(np.float32),
        PIXELS: np.where(rows[PIXELS] >= ENOUGH, rows[PIXELS], 0),
    }
    return without_columns(rows, LEVELS, COV).adding(columns)


def _mean(rows: Rows, name: str) -> Floats:
    """Return the mean over cubes, each of equal weight, of Fisher's z ``(pairs,)`` in a structure."""
    place = rows.structures.index(name)
    having = rows[PIXELS][:, place] > 0
    if not having.any():
        raise NotComputable(f"no cube of one side has {name!r} in {ENOUGH} pixels")
    mean: Floats = rows[Z][having, place].mean(axis=0, dtype=np.float64)
    return mean


def _distance(difference: Floats) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def _score(real: Floats, fake: Floats, wavelengths: NDArray[Any]) -> dict[str, Any]:
    difference, bands = fake - real, len(wavelengths)
    one, other = band_pairs(bands)
    top = int(np.abs(difference).argmax())
    return {
        "value": _distance(difference),
        "by_wavelength": by_band(difference, bands).tolist(),
        "correlation": float(np.sqrt(np.square(back(fake) - back(real)).mean())),
        "neighbours": float(difference[other == one + 1].mean()),
        "top_pair": {
            "bands": [float(wavelengths[one[top]]), float(wavelengths[other[top]])],
            "reference": float(back(real[top])),
            "samples": float(back(fake[top])),
        },
    }
