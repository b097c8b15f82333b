"""How often are samples told from the floor that are real cubes? Simulated rows, so that the truth is known.

Reference and samples are drawn from one distribution: Gaussian, or with heavy tails (every cube scaled by a random
gain). Each pair of sets goes the way of any score: the metric's own ``relate`` on the full sets (``fid`` standardises
by the whole reference, ``spectral-kl`` takes its bins' edges from it), the core's splits, floor and verdict.

    python benchmarks/verdicts.py
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
from machine import record
from numpy.typing import NDArray

from hseval.cache import Cache
from hseval.comm import Comm
from hseval.compare import SPLITS, score_of
from hseval.cubes import FIELD, ArraySet
from hseval.describe import Description
from hseval.hookspecs import Metric
from hseval.metrics.fid import Fid
from hseval.metrics.spectral_kl import SpectralKL
from hseval.rows import ALONE, Rows
from hseval.run import Described, Run
from hseval.seeds import stream
from hseval.sets import Sets

REPEATS = 200
STRUCTURES, BANDS, LEVELS = ("artery", FIELD), 4, 64


@dataclasses.dataclass(frozen=True)
class Setting:
    """How many cubes there are, of what kind."""

    samples: int
    reference: int
    features: int
    heavy: bool

    def __str__(self) -> str:
        kind = "heavy tails" if self.heavy else "Gaussian"
        return f"{self.samples} samples, {self.reference} reference, {self.features} features, {kind}"


SETTINGS = (
    Setting(60, 60, 60, heavy=False),
    Setting(24, 24, 60, heavy=True),
    Setting(60, 60, 60, heavy=True),
    Setting(400, 160, 60, heavy=True),
    Setting(64, 64, 300, heavy=True),
    Setting(24, 160, 60, heavy=True),
)


def drawn_rows(n: int, setting: Setting, rng: np.random.Generator) -> Rows:
    """Return ``n`` simulated rows of both extractors; a cube's gain, where there is one, is that of all its columns."""
    gain = 1 + rng.exponential(0.5, n) if setting.heavy else np.ones(n)
    columns = {"scattering": features(n, setting.features, rng) * gain[:, None], **spectra(n, gain, rng)}
    names = np.array([rng.bytes(8).hex() for _ in range(n)])
    groups = np.array([ALONE + name for name in names])
    return Rows(columns, names, names, groups, np.linspace(450.0, 905.0, BANDS), structures=STRUCTURES)


def features(n: int, dimension: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ``(n, dimension)``: ten strong factors and noise."""
    factors = rng.standard_normal((n, 10)) * np.linspace(2, 0.5, 10)
    return factors @ mixing(dimension) + 0.6 * rng.standard_normal((n, dimension))


@cache
def mixing(dimension: int) -> NDArray[np.float64]:
    """Return how factors add up to features: the same for every draw."""
    return stream(0, "verdicts mixing").standard_normal((10, dimension)) / 2


def spectra(n: int, gain: NDArray[Any], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return the columns of ``spectra``: pixels are normal around a cube's own mean spectrum, times its gain."""
    shape = (n, len(STRUCTURES), BANDS)
    centre = 0.3 + 0.03 * rng.standard_normal((n, 1, 1)) + 0.01 * rng.standard_normal(shape)
    pixels = np.sort(centre[..., None] + 0.05 * rng.standard_normal((*shape, LEVELS)), axis=-1)
    levels = pixels * gain[:, None, None, None]
    upper = np.triu_indices(BANDS)
    within = np.diag(np.full(BANDS, 0.05**2))[upper] * gain[:, None, None] ** 2
    return {
        "spectra/levels": levels.astype(np.float32),
        "spectra/pixels": np.full(shape[:2], 500.0),
        "spectra/mean": levels.mean(axis=-1),
        "spectra/cov": np.broadcast_to(within, (n, len(STRUCTURES), len(upper[0]))),
    }


def described(rows: Rows) -> Description:
    """Return rows as if a set of cubes had been described."""
    blank = ("",) * len(rows)
    return Description(rows, np.arange(len(rows)), contents=blank, masks=blank, invalid=(), computed=0)


def told_apart(metrics: tuple[Metric, ...], setting: Setting, repeat: int) -> list[bool]:
    """Return by metric whether one pair of sets from the same distribution is told apart."""
    rng = stream(repeat, f"verdicts {setting}")
    reference, samples = (drawn_rows(n, setting, rng) for n in (setting.reference, setting.samples))
    no_cubes = ArraySet(np.zeros((1, BANDS, 1, 1), dtype=np.float32))  # neither metric reads cubes
    pair = Described(
        sets=Sets(samples=no_cubes, reference=no_cubes, train=None),
        plans={},  # nor does either describe pairs of them
        samples=described(samples),
        reference=described(reference),
        train=None,
    )
    run = Run(Cache(None), Comm(), seed=repeat)
    scores = [score_of(metric, pair, run) for metric in metrics]
    for score in scores:
        if score.floor is None:
            raise RuntimeError(f"{score.name}: {score.verdict}")
    return [score.verdict != "like real" for score in scores]


def main() -> None:
    """Count false alarms in every setting, print the table and record the shares."""
    metrics: tuple[Metric, ...] = (Fid(), SpectralKL())
    names = [metric.name for metric in metrics]
    shares = {}
    print(f"{'share told from the floor, of ' + str(REPEATS):62}", *(f"{name:>12}" for name in names))
    for setting in SETTINGS:
        told = np.mean([told_apart(metrics, setting, repeat) for repeat in range(REPEATS)], axis=0)
        shares[str(setting)] = dict(zip(names, told.tolist(), strict=True))
        print(f"{setting!s:62}", *(f"{share:12.3f}" for share in told), flush=True)
    record("verdicts", {"repeats": REPEATS, "splits": SPLITS, "false_alarms": shares})


if __name__ == "__main__":
    main()
