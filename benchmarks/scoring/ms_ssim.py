"""MS-SSIM over all pairs of 32 cubes of 224 x 224 x 16: hseval against pytorch-msssim at its best batch size.

Run: ``python -m benchmarks.scoring.ms_ssim``. Values are checked equal before anything is timed; all run interleaved on
two threads. The peer runs on a subset of the pairs: its rate does not depend on their number.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.helpers.machine import format_ratio, measure, record, set_threads
from hseval.metrics.ssim.ssim import compute_block_terms, pairwise_ms_ssim

CUBES, BANDS, SIZE, THREADS, BAR = 32, 16, 224, 2, 6.0
BATCHES = (1, 2, 4, 8, 16)
PEER_PAIRS = 32


def main() -> None:
    """Measure, print and record."""
    set_threads(THREADS)
    cubes = np.random.default_rng(0).random((CUBES, BANDS, SIZE, SIZE), dtype=np.float32)
    cubes = np.float32(0.5) * (cubes + cubes[:1])  # pairs have something in common
    pairs = list(itertools.combinations(range(CUBES), 2))
    difference = _check_equal(cubes, pairs)
    contestants: dict[str, Callable[[], object]] = {
        "hseval, all pairs, 2D": lambda: pairwise_ms_ssim(cubes, data_range=1.0),
        "hseval, a block of 8, 2D and 3D": lambda: compute_block_terms(cubes[:8], data_range=1.0),
    }
    pair_counts = {"hseval, all pairs, 2D": len(pairs), "hseval, a block of 8, 2D and 3D": 28}
    for batch in BATCHES:
        name = f"pytorch-msssim, batch of {batch}"
        contestants[name] = _make_peer_run(cubes, pairs[:PEER_PAIRS], batch)
        pair_counts[name] = PEER_PAIRS
    seconds = measure(contestants)
    rates = {name: pair_counts[name] / median for name, median in seconds.items()}
    for name, rate in rates.items():
        print(f"{rate:8.1f} pairs/s  {name}")
    best = max(rate for name, rate in rates.items() if name.startswith("pytorch-msssim"))
    times = rates["hseval, all pairs, 2D"] / best
    print(f"against the peer's best batch: {format_ratio(times, BAR)}")
    result = {
        "problem": f"{len(pairs)} pairs of cubes of {SIZE} x {SIZE} x {BANDS}, float32, {THREADS} threads",
        "pairs_per_second": rates,
        "times": times,
        "bar": BAR,
        "largest_difference": difference,
    }
    print(f"written to {record('scoring/ms_ssim', result)}")
    sys.exit(0 if times >= BAR else 1)


def _check_equal(cubes: Any, pairs: list[tuple[int, int]]) -> float:
    """Return the largest difference of values over an evenly spaced subset of the pairs.

    Raises:
        SystemExit: it is above 1e-5.
    """
    subset = pairs[:: len(pairs) // PEER_PAIRS][:PEER_PAIRS]
    matrix = pairwise_ms_ssim(cubes, data_range=1.0)
    values = zip(subset, _make_peer_run(cubes, subset, 1)(), strict=True)
    difference = float(max(abs(matrix[pair] - value) for pair, value in values))
    if difference > 1e-5:
        raise SystemExit(f"results differ by {difference:.2g}")
    return difference


def _make_peer_run(cubes: Any, pairs: list[tuple[int, int]], batch: int) -> Callable[[], list[float]]:
    """Return a function that runs the peer over the pairs, ``batch`` at a time."""
    import torch
    from pytorch_msssim import ms_ssim

    images = torch.from_numpy(cubes)

    def run() -> list[float]:
        values: list[float] = []
        with torch.inference_mode():
            for first in range(0, len(pairs), batch):
                left, right = (list(side) for side in zip(*pairs[first : first + batch], strict=True))
                values += ms_ssim(images[left], images[right], data_range=1.0, size_average=False).tolist()
        return values

    return run


if __name__ == "__main__":
    main()
