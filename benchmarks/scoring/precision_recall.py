"""Precision, recall, density, coverage of 8000 against 8000 vectors x 512: hseval against the ``prdc`` package.

Run: ``python -m benchmarks.scoring.precision_recall [--repeats 7]``. A first run measures the peak memory and warms up;
results are checked equal before anything is timed. Both run alternately in one process with their own choice of
threads: hseval one per core, the package eight. The minimum of several runs counts for both, as other load can only
add to it; medians are printed as well. The package holds matrices of all distances, hseval blocks of 32 MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.machine import format_ratio, record
from hseval.metrics.knn_coverage import compute_knn_radii, compute_prdc

VECTORS, WIDTH, K, BAR = 8000, 512, 5, 5.0


def main() -> None:
    """Measure, print and record."""
    import prdc

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    real, generated = make_features(0.0, 0), make_features(0.05, 1)

    def compute_with_hseval() -> Mapping[str, float]:
        return compute_prdc(real=real, generated=generated, k=K)._asdict()

    def compute_with_package() -> Mapping[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            return dict(prdc.compute_prdc(real, generated, K))

    (own_values, own_peak), (peer_values, peer_peak) = (
        measure_peak_memory(run) for run in (compute_with_hseval, compute_with_package)
    )
    values, memory = check_equal(own_values, peer_values), {"hseval": own_peak, "prdc package": peer_peak}
    runs = {
        "hseval": compute_with_hseval,
        "prdc package": compute_with_package,
        "of hseval, one side's radii": lambda: compute_knn_radii(real, K),
    }
    times = time_runs(runs, repeats)
    minima = {name: min(seconds) for name, seconds in times.items()}
    ratio = minima["prdc package"] / minima["hseval"]
    record(
        "scoring/precision_recall",
        {
            "problem": f"{VECTORS} against {VECTORS} vectors x {WIDTH}, float32, k = {K}, default threads",
            "result": values,
            "repeats": repeats,
            "seconds": minima,
            "median_seconds": {name: statistics.median(seconds) for name, seconds in times.items()},
            "times_prdc_package": ratio,
            "bar": BAR,
            "peak_mib_of_numpy_arrays": memory,
        },
    )
    for name, seconds in minima.items():
        print(f"{seconds:8.3f} s  {name} (median {statistics.median(times[name]):.3f} s)")
    print(f"peak of arrays: {memory['hseval']:.0f} MiB against {memory['prdc package']:.0f} MiB")
    print(f"equal results: {values}")
    print(f"against the prdc package: {format_ratio(ratio, BAR)}")


def time_runs(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the wall-clock seconds of each contestant's runs, which alternate."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def make_features(shift: float, seed: int) -> NDArray[np.float32]:
    """Return features with decreasing standard deviations, as real features have, so that no metric is trivial."""
    rng = np.random.default_rng(seed)
    stds = np.arange(1, WIDTH + 1) ** -0.5
    return (rng.standard_normal((VECTORS, WIDTH)) * stds + shift).astype(np.float32)


def check_equal(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Mapping[str, float]:
    """Return our four values.

    Raises:
        SystemExit: they differ.
    """
    for name, value in ours.items():
        if abs(value - float(theirs[name])) > 1e-12:
            raise SystemExit(f"results differ: {name} is {value!r}, the package's {theirs[name]!r}")
    return ours


def measure_peak_memory(run: Callable[[], Mapping[str, float]]) -> tuple[Mapping[str, float], float]:
    """Return the call's result and the peak memory of its numpy arrays, in MiB."""
    tracemalloc.start()
    result = run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak / 2**20


if __name__ == "__main__":
    main()
