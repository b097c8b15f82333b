"""How often are samples told from the floor that are real cubes? Simulated rows, so that the truth is known.

Reference and samples are drawn from one distribution (Gaussian, or with heavy tails: every cube scaled by a random
factor); ``fid``'s distance is computed over the core's own splits, and its verdict is counted.

    python benchmarks/verdicts.py
"""

from __future__ import annotations

import numpy as np
from machine import record
from numpy.typing import NDArray

from hseval.metrics.frechet import frechet_distance
from hseval.seeds import stream
from hseval.uncertainty import splits, verdict

REPEATS, SPLITS = 200, 16
SETTINGS = ((60, False, 60, 60), (60, True, 24, 24), (60, True, 60, 60), (60, True, 160, 400), (300, True, 64, 64))


def draw(n: int, dimension: int, heavy: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return rows ``(n, dimension)``: ten strong factors, noise, and with ``heavy`` a random gain a row."""
    mixing = stream(0, "verdicts mixing").standard_normal((10, dimension)) / 2
    rows = rng.standard_normal((n, 10)) * np.linspace(2, 0.5, 10) @ mixing + 0.6 * rng.standard_normal((n, dimension))
    return rows * (1 + rng.exponential(0.5, (n, 1))) if heavy else rows


def told_apart(dimension: int, heavy: bool, n_ref: int, n_samples: int, repeat: int) -> bool:
    """Return whether one pair of sets from the same distribution is told apart."""
    rng = stream(repeat, f"verdicts {dimension} {heavy} {n_ref} {n_samples}")
    real, fake = draw(n_ref, dimension, heavy, rng), draw(n_samples, dimension, heavy, rng)
    dealt = splits(real_groups=np.arange(n_ref), fake_groups=np.arange(n_samples), repeats=SPLITS, rng=rng)
    values = [frechet_distance(real=real[s.real], fake=fake[s.fake]) for s in dealt]
    floors = [frechet_distance(real=real[s.real], fake=real[s.held]) for s in dealt]
    return verdict(values, floors, "lower") != "like real"


def main() -> None:
    """Count false alarms in every setting and record the shares."""
    shares = {}
    for dimension, heavy, n_ref, n_samples in SETTINGS:
        told = [told_apart(dimension, heavy, n_ref, n_samples, repeat) for repeat in range(REPEATS)]
        name = f"{n_samples} samples, {n_ref} reference, {dimension} features, {'heavy tails' if heavy else 'Gaussian'}"
        shares[name] = float(np.mean(told))
        print(f"{name:60} {shares[name]:.3f}")
    record("verdicts", {"repeats": REPEATS, "splits": SPLITS, "false_alarms": shares})


if __name__ == "__main__":
    main()
