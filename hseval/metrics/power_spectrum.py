"""``power-spectrum``: is there as much fine and coarse structure as in real cubes, at every wavelength?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Better
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows

    Floats = NDArray[np.float64]

DB, MODES = "power/db", "power/modes"
USED = "power-spectrum/used"
PER_OCTAVE, NYQUIST = 3, 0.5  # of the rows' bins: thirds of an octave up to 1/2 cycle/px, and the corners beyond
FINE = 0.25  # cycles/px from which structure counts as fine: finer than 4 px
SHARED = 0.5  # a bin is compared where at least this share of either side's cubes resolves it


class PowerSpectrum:
    """Root mean square difference of mean log power over bands and radial bins, in dB."""

    name: ClassVar[str] = "power-spectrum"
    summary: ClassVar[str] = "difference of the radial power spectra, band by band, in dB"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(rows=("power",))

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Mark the bins that are compared, ``(n, bin)``: decided once, from both full sets.

        Raises:
            NotComputable: no bin is resolved on both sides.
        """
        used = np.logical_and(*((rows[MODES] > 0).mean(axis=0) >= SHARED for rows in (real, fake)))
        if not used.any():
            raise NotComputable("the fields of view are too small: no spatial frequency is resolved on both sides")

        def add(rows: Rows) -> Rows:
            return rows.adding({USED: used & (rows[MODES] > 0)})

        return add(real), add(fake), train

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the distance, and by frequency and by wavelength which way the samples differ.

        Raises:
            NotComputable: no cube of one side resolves a frequency that is compared.
        """
        if USED not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        used = _used(real, fake)
        a, b = _mean(real)[:, used], _mean(fake)[:, used]
        cycles = frequencies(len(real[USED][0]))[used]
        return ScoreParts(_distance(b - a), _details(a, b, cycles))

    def headline(self, *, real: Rows, fake: Rows, train: Rows | None = None) -> float:
        """Return the distance alone, as :meth:`compare` does."""
        return _distance((_mean(fake) - _mean(real))[:, _used(real, fake)])


def _used(real: Rows, fake: Rows) -> NDArray[np.bool_]:
    used: NDArray[np.bool_] = np.logical_and(real[USED].any(axis=0), fake[USED].any(axis=0))
    if not used.any():
        raise NotComputable("no spatial frequency is resolved on both sides")
    return used


def _distance(difference: Floats) -> float:
    return float(np.sqrt(np.square(difference).mean()))


def frequencies(bins: int) -> Floats:
    """Return the centres of the rows' bins in cycles/px, ``(bins,)``; the last bin lies beyond 1/2 cycle/px."""
    steps = np.arange(bins) - (bins - 1.5)
    centres: Floats = NYQUIST * 2.0 ** (steps / PER_OCTAVE)
    return centres


def _mean(rows: Rows) -> Floats:
    """Return the mean over cubes of log power ``(band, bin)`` in dB; NaN in bins that no cube resolves."""
    seen = rows[USED]
    known = np.where(seen[:, None, :], rows[DB], 0.0).sum(axis=0, dtype=np.float64)
    counts = seen.sum(axis=0)
    mean: Floats = np.divide(known, counts, out=np.full_like(known, np.nan), where=counts > 0)
    return mean


def _leaning(difference: Floats) -> Floats:
    """Return, by bin, -1 where all that differs lacks power, 1 where it has too much, and 0 where bands balance."""
    energy = np.square(difference).sum(axis=0)
    signed = (difference * np.abs(difference)).sum(axis=0)
    leaning: Floats = np.divide(signed, energy, out=np.zeros_like(energy), where=energy > 0)
    return leaning


def _details(real: Floats, fake: Floats, cycles: Floats) -> dict[str, Any]:
    """Return where spectra ``(band, bin)`` in dB differ, and which way: samples less real."""
    difference, fine = fake - real, cycles > FINE
    sides = {"fine": fine, "coarse": ~fine}
    signed = {name: float(difference[:, which].mean()) if which.any() else None for name, which in sides.items()}
    return {
        "frequencies": cycles.tolist(),
        "by_frequency": np.sqrt(np.square(difference).mean(axis=0)).tolist(),
        "signed_by_frequency": difference.mean(axis=0).tolist(),
        "leaning_by_frequency": _leaning(difference).tolist(),
        "by_wavelength": np.sqrt(np.square(difference).mean(axis=1)).tolist(),
        "fine_by_wavelength": difference[:, fine].mean(axis=1).tolist() if fine.any() else None,
        "spectrum": {"reference": real.mean(axis=0).tolist(), "samples": fake.mean(axis=0).tolist()},
        **signed,
        "shown": {
            "finer than 4 px, samples less real (dB)": signed["fine"],
            "coarser than 4 px, samples less real (dB)": signed["coarse"],
        },
    }
