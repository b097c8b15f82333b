"""KL divergence of pixel values, structure by structure and band by band."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.cubes import FIELD
from hseval.errors import NotComputable
from hseval.hookspecs import Needs, ScoreParts
from hseval.metrics.divergence import (
    bin_counts,
    gaussian_kl,
    jensen_shannon,
    kl_divergence,
    pooled_gaussian,
    quantile_edges,
    smoothed,
)
from hseval.options import option
from hseval.report import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.rows import Rows

LEVELS, PIXELS, MEAN, COV = "spectra/levels", "spectra/pixels", "spectra/mean", "spectra/cov"
HISTOGRAM = "spectral-kl/histogram"
SCORED = "spectral-kl/scored"
ENOUGH = 6  # cubes with a structure (a quarter of a small set's) below which its score would hang on a few cubes
SHOWN = {
    "reverse": "KL(samples || real)",
    "jensen_shannon": "Jensen-Shannon",
    "gaussian": "KL(real || samples) of Gaussians with full covariance",
}
SHRINKAGE = 1e-3  # of the reference's mean variance, added to both covariances' diagonals


class SpectralKL:
    """Mean over structures of KL(real || samples) of per-band histograms, in nats."""

    name: ClassVar[str] = "spectral-kl"
    summary: ClassVar[str] = "KL divergence of each structure's spectra, per band, in nats"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[Needs] = Needs(rows=("spectra",))

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        bins: int = option(64, "histogram bins; their edges are the reference's quantiles")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()
        if not 2 <= self.options.bins <= 1024:
            raise ValueError(f"bins is {self.options.bins}, expected 2 to 1024")

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Add each cube's histogram on the edges of the full reference: ``(n, S, band, bins)``, relative.

        The structure axis follows each side's own ``structures``; NaN where a cube, or the whole reference,
        lacks the structure. Add too which structures are scored, ``(n, S)``: decided once, from both full sets, so
        that the value, the floor and every split score the same ones.

        Raises:
            NotComputable: the sides share no structure with pixels, not even the field of view.
        """
        edges = shared_edges(real, self.options.bins)
        used = structures_to_score(real, fake)

        def add(rows: Rows) -> Rows:
            scored = np.array([name in used for name in rows.structures])
            columns = {
                HISTOGRAM: relative_histograms(rows, edges, self.options.bins),
                SCORED: np.broadcast_to(scored, rows[PIXELS].shape),
            }
            return without_levels(rows).adding(columns)

        return add(real), add(fake), train

    def compare(
        self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator
    ) -> ScoreParts:
        """Return the headline and, for each structure, its curve over wavelength and other divergences.

        Raises:
            NotComputable: one side has no pixel of a scored structure.
        """
        if HISTOGRAM not in real.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        used = [name for place, name in enumerate(real.structures) if real[SCORED][0, place]]
        for name in used:
            if not has(real, fake, name):
                raise NotComputable(f"no cube of one side has {name!r}")
        scored = {name: _score(Side.of(real, name), Side.of(fake, name)) for name in used}
        details: dict[str, Any] = {
            "structures": scored,
            "shown": {label: _mean_of(scored, key) for key, label in SHOWN.items()},
            "masks_from": {"reference": real.masks_from, "samples": fake.masks_from},
            "left_out": left_out(real, fake, used),
            "shrinkage": SHRINKAGE,
        }
        if used == [FIELD]:
            details["caveat"] = "no structure is on both sides: the whole field of view is scored"
        return ScoreParts(_mean_of(scored, "value"), details)


@dataclasses.dataclass(frozen=True)
class Side:
    """What one side's cubes say of one structure; cubes that lack it are left out.

    Attributes:
        frequencies: ``(band, bins)`` mean of the cubes' relative histograms: every cube weighs the same.
        mean: ``(band,)`` mean of the pooled pixels, every cube of equal weight.
        cov: ``(band, band)`` their covariance.
        cubes: number of cubes that have the structure.
        pixels: their pixels of the structure.
    """

    frequencies: NDArray[np.float64]
    mean: NDArray[np.float64]
    cov: NDArray[np.float64]
    cubes: int
    pixels: float

    @classmethod
    def of(cls, rows: Rows, name: str) -> Side:
        """Collect the structure ``name`` from rows that have its histograms."""
        place = rows.structures.index(name)
        having = rows[PIXELS][:, place] > 0
        mean, cov = pooled_gaussian(rows[MEAN][having, place], rows[COV][having, place])
        frequencies = rows[HISTOGRAM][having, place].mean(axis=0, dtype=np.float64)
        return cls(frequencies, mean, cov, int(having.sum()), float(rows[PIXELS][having, place].sum(dtype=np.float64)))


def shared_edges(real: Rows, bins: int) -> dict[str, NDArray[Any]]:
    """Return the interior edges ``(band, bins - 1)`` of each structure that some reference cube has.

    They are the quantiles of the mixture of all cubes at equal weight: each cube brings as many atoms
    (``spectra/levels``), however many pixels it has.
    """
    edges = {}
    for place, name in enumerate(real.structures):
        having = real[PIXELS][:, place] > 0
        if having.any():
            atoms = np.moveaxis(real[LEVELS][having, place], 0, 1)  # band, cube, level
            edges[name] = quantile_edges(atoms.reshape(atoms.shape[0], -1), bins)
    return edges


def relative_histograms(rows: Rows, edges: dict[str, NDArray[Any]], bins: int) -> NDArray[np.float32]:
    """Return each cube's relative histograms, float32 ``(n, S, band, bins)``; see :meth:`SpectralKL.relate`."""
    levels, pixels = rows[LEVELS], rows[PIXELS]
    found = np.full((*levels.shape[:3], bins), np.nan, dtype=np.float32)
    for place, name in enumerate(rows.structures):
        having = np.flatnonzero(pixels[:, place] > 0)
        if name not in edges:
            continue
        for band, cuts in enumerate(edges[name]):
            found[having, place, band] = bin_counts(levels[having, place, band], cuts) / levels.shape[3]
    return found


def without_levels(rows: Rows) -> Rows:
    """Drop the widest column, which the histograms replace, so that no split copies it."""
    return dataclasses.replace(rows, columns={name: rows[name] for name in rows.columns if name != LEVELS})


def structures_to_score(real: Rows, fake: Rows) -> list[str]:
    """Return the structures that enough cubes of both sides have; the field of view where there is no other.

    Raises:
        NotComputable: the sides share no structure with pixels.
    """
    names = sorted({*real.structures, *fake.structures} - {FIELD})
    used = [name for name in names if not lack(real, fake, name)]
    if used:
        return used
    if why := lack(real, fake, FIELD):
        raise NotComputable(f"reference and samples share no structure ({FIELD}: {why})")
    return [FIELD]


def left_out(real: Rows, fake: Rows, used: list[str]) -> dict[str, str]:
    """Return why each structure but the field of view and the used ones is not scored."""
    names = {*real.structures, *fake.structures} - {FIELD, *used}
    return {name: lack(real, fake, name) for name in sorted(names)}


def has(real: Rows, fake: Rows, name: str) -> bool:
    """Return whether both sides have a pixel of a structure."""
    return bool(_cubes_with(real, name) and _cubes_with(fake, name))


def lack(real: Rows, fake: Rows, name: str) -> str:
    """Return which side lacks a structure, or has it in too few cubes to say much; ``""``: neither."""
    for rows, side in ((real, "reference"), (fake, "samples")):
        if name not in rows.structures:
            return f"no mask in the {side}"
        if not _cubes_with(rows, name):
            return f"no pixel in any cube of the {side}"
        if _groups_with(rows, name) < min(ENOUGH, -(-len(np.unique(rows.groups)) // 4)):
            return f"in too few cubes of the {side}"
    return ""


def _cubes_with(rows: Rows, name: str) -> int:
    return int((rows[PIXELS][:, rows.structures.index(name)] > 0).sum()) if name in rows.structures else 0


def _groups_with(rows: Rows, name: str) -> int:
    having = rows[PIXELS][:, rows.structures.index(name)] > 0
    return len(np.unique(rows.groups[having]))


def _mean_of(scored: dict[str, dict[str, Any]], key: str) -> float:
    """Return the unweighted mean over structures."""
    return float(np.mean([entry[key] for entry in scored.values()]))


def _score(real: Side, fake: Side) -> dict[str, Any]:
    """Return one structure's divergences; the histograms' come as means over bands."""
    total = min(real.pixels, fake.pixels)  # the smaller side's counts decide how far both are smoothed
    p, q = smoothed(real.frequencies, total), smoothed(fake.frequencies, total)
    curve = kl_divergence(p, q)
    return {
        "value": float(curve.mean()),
        "by_wavelength": curve.tolist(),
        "reverse": float(kl_divergence(q, p).mean()),
        "jensen_shannon": float(jensen_shannon(p, q).mean()),
        "gaussian": _gaussian(real, fake),
        "cubes": {"reference": real.cubes, "samples": fake.cubes},
        "counts": total,
    }


def _gaussian(real: Side, fake: Side) -> float:
    ridge = SHRINKAGE * np.trace(real.cov) / len(real.cov) * np.eye(len(real.cov))
    return gaussian_kl(real.mean, real.cov + ridge, fake.mean, fake.cov + ridge)
