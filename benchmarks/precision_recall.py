"""Precision, recall, density, coverage of 8000 against 8000 rows x 512: ours against the ``prdc`` package.

Run: ``python benchmarks/precision_recall.py``. Results are checked equal before anything is timed; both run
interleaved, on two threads, in one process. The package holds matrices of all distances; ours holds blocks of 32 MiB.
"""

from __future__ import annotations

import contextlib
import io
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from machine import measure, record, set_threads, verdict
from numpy.typing import NDArray

from hseval.metrics.balls import prdc, radii

ROWS, WIDTH, K, THREADS, BAR = 8000, 512, 5, 2, 5.0


def main() -> None:
    """Measure, print and record."""
    import faiss
    from prdc import compute_prdc

    set_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    real, fake = rows(0.0, 0), rows(0.05, 1)

    def ours() -> Mapping[str, float]:
        return prdc(real=real, fake=fake, k=K)._asdict()

    def package() -> Mapping[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            return dict(compute_prdc(real, fake, K))

    found = compared(ours(), package())
    seconds = measure({"hseval": ours, "prdc package": package, "of hseval, one side's radii": radii_of(real)})
    peer, own = seconds["prdc package"], seconds["hseval"]
    memory = {"hseval": peak(ours), "prdc package": peak(package)}
    record(
        "prdc",
        {
            "problem": f"{ROWS} against {ROWS} rows x {WIDTH}, float32, k = {K}, {THREADS} threads",
            "result": found,
            "seconds": seconds,
            "times_prdc_package": peer / own,
            "bar": BAR,
            "peak_mib_of_numpy_arrays": memory,
        },
    )
    for name, taken in seconds.items():
        print(f"{taken:8.3f} s  {name}")
    print(f"arrays at their peak: {memory['hseval']:.0f} MiB against {memory['prdc package']:.0f} MiB")
    print(f"against the prdc package: {verdict(peer / own, BAR)}")


def rows(shift: float, seed: int) -> NDArray[np.float32]:
    """Return rows whose deviations fall off as those of real features do, so that all four numbers mean something."""
    rng = np.random.default_rng(seed)
    deviations = np.arange(1, WIDTH + 1) ** -0.5
    return (rng.standard_normal((ROWS, WIDTH)) * deviations + shift).astype(np.float32)


def radii_of(real: NDArray[np.float32]) -> Callable[[], Any]:
    """Return the call that is timed."""
    return lambda: radii(real, K)


def compared(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Mapping[str, float]:
    """Return the four numbers.

    Raises:
        SystemExit: they differ.
    """
    for name, value in ours.items():
        if abs(value - float(theirs[name])) > 1e-12:
            raise SystemExit(f"results differ: {name} is {value!r}, the package's {theirs[name]!r}")
    return ours


def peak(run: Callable[[], object]) -> float:
    """Return how much the call's numpy arrays take at their peak, in MiB."""
    tracemalloc.start()
    run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


if __name__ == "__main__":
    main()
