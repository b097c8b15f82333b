"""Precision, recall, density, coverage of 8000 against 8000 rows x 512: ours against the ``prdc`` package.

Run: ``python -m benchmarks.scoring.precision_recall [--repeats 7]``. A first turn, whose arrays are counted, warms both up and
their results are checked equal before anything is timed. Both run in one
process, taking turns, with the threads that they choose by themselves: ours as many as there are cores, the package
eight. The least of several runs counts on both sides: what else the machine does can only add to it; medians stand
beside. The package holds matrices of all distances; ours holds blocks of 32 MiB.
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

from benchmarks.helpers.machine import record, verdict
from hseval.metrics.knn_coverage import compute_knn_radii, compute_prdc

ROWS, WIDTH, K, BAR = 8000, 512, 5, 5.0


def main() -> None:
    """Measure, print and record."""
    import prdc

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    real, generated = rows(0.0, 0), rows(0.05, 1)

    def ours() -> Mapping[str, float]:
        return compute_prdc(real=real, generated=generated, k=K)._asdict()

    def package() -> Mapping[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            return dict(prdc.compute_prdc(real, generated, K))

    (own, own_peak), (peers, peers_peak) = peak(ours), peak(package)
    found, memory = compared(own, peers), {"hseval": own_peak, "prdc package": peers_peak}
    parts = {"hseval": ours, "prdc package": package, "of hseval, one side's radii": lambda: compute_knn_radii(real, K)}
    taken = timed(parts, repeats)
    least = {name: min(each) for name, each in taken.items()}
    ratio = least["prdc package"] / least["hseval"]
    record(
        "precision_recall",
        {
            "problem": f"{ROWS} against {ROWS} rows x {WIDTH}, float32, k = {K}, threads as each chooses",
            "result": found,
            "repeats": repeats,
            "seconds": least,
            "median_seconds": {name: statistics.median(each) for name, each in taken.items()},
            "times_prdc_package": ratio,
            "bar": BAR,
            "peak_mib_of_numpy_arrays": memory,
        },
    )
    for name, seconds in least.items():
        print(f"{seconds:8.3f} s  {name} (median {statistics.median(taken[name]):.3f} s)")
    print(f"arrays at their peak: {memory['hseval']:.0f} MiB against {memory['prdc package']:.0f} MiB")
    print(f"equal results: {found}")
    print(f"against the prdc package: {verdict(ratio, BAR)}")


def timed(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the wall-clock seconds of each contestant's runs, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return taken


def rows(shift: float, seed: int) -> NDArray[np.float32]:
    """Return rows whose deviations fall off as those of real features do, so that all four numbers mean something."""
    rng = np.random.default_rng(seed)
    deviations = np.arange(1, WIDTH + 1) ** -0.5
    return (rng.standard_normal((ROWS, WIDTH)) * deviations + shift).astype(np.float32)


def compared(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Mapping[str, float]:
    """Return the four numbers.

    Raises:
        SystemExit: they differ.
    """
    for name, value in ours.items():
        if abs(value - float(theirs[name])) > 1e-12:
            raise SystemExit(f"results differ: {name} is {value!r}, the package's {theirs[name]!r}")
    return ours


def peak(run: Callable[[], Mapping[str, float]]) -> tuple[Mapping[str, float], float]:
    """Return the call's result, and how much its numpy arrays take at their peak, in MiB."""
    tracemalloc.start()
    result = run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, most / 2**20


if __name__ == "__main__":
    main()
