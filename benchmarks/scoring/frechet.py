"""Frechet distance, from feature arrays to value: hseval against pytorch-fid, which uses scipy's sqrtm.

Run: ``python -m benchmarks.scoring.frechet``. The peer's statistics are those of its documentation (mean and np.cov),
its distance is its own function. Values are checked equal before anything is timed; both run interleaved on two
threads. Takes about two minutes, nearly all of it in sqrtm.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.machine import format_ratio, measure, record, set_threads
from hseval.metrics.frechet import frechet_distance

THREADS = 2
CASES = ((200, 2048, 500.0), (5000, 1024, 4.0))  # cubes, features, bar


def main() -> None:
    """Measure, print and record."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    warnings.filterwarnings("ignore", message=".*disp.*", category=DeprecationWarning)
    set_threads(THREADS)

    def compute_peer_distance(real: NDArray[Any], generated: NDArray[Any]) -> float:
        a, b = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real, generated))
        return float(calculate_frechet_distance(*a, *b))

    results = [_measure_case(cubes, features, bar, compute_peer_distance) for cubes, features, bar in CASES]
    path = record(
        "scoring/frechet", {"threads": THREADS, "peer": "pytorch-fid, np.cov and scipy's sqrtm", "cases": results}
    )
    print(f"written to {path}")
    sys.exit(0 if all(result["times"] >= result["bar"] for result in results) else 1)


def _measure_case(cubes: int, features: int, bar: float, compute_peer_distance: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((features, features)) / np.sqrt(features)
    real = rng.standard_normal((cubes, features)) @ mixing
    generated = (1.1 * rng.standard_normal((cubes, features)) + 0.1) @ mixing  # correlated, as real features are
    ours, theirs = frechet_distance(real=real, generated=generated), compute_peer_distance(real, generated)
    # With singular covariances the peer has rounding noise of its own, or even adds an epsilon to the diagonal.
    if abs(ours - theirs) > 1e-4 * theirs:
        raise SystemExit(f"results differ: {ours!r} and {theirs!r}")
    seconds = measure(
        {
            "hseval": lambda: frechet_distance(real=real, generated=generated),
            "pytorch-fid": lambda: compute_peer_distance(real, generated),
        },
        repeats=3,
    )
    times = seconds["pytorch-fid"] / seconds["hseval"]
    print(f"N = {cubes}, D = {features}: values {ours:.6f} and {theirs:.6f}")
    for name, median in seconds.items():
        print(f"{median:10.4f} s  {name}")
    print(f"           {format_ratio(times, bar)}")
    return {
        "cubes": cubes,
        "features": features,
        "seconds": seconds,
        "times": times,
        "bar": bar,
        "relative_difference": abs(ours - theirs) / theirs,
    }


if __name__ == "__main__":
    main()
