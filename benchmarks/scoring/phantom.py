"""Eyes per second of the phantom, in one process, as ``hseval sample phantom`` draws them.

    python -m benchmarks.scoring.phantom [--eyes 20]

The target is 2 eyes/s at 224 x 224 x 16. Drawing is bound by one core: growing the two vessel trees (plain Python) and
the splines of the choroid's texture take most of the time.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.helpers.machine import format_ratio, record, set_threads
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions

SIZES = (64, 224)
BAR_EYES_PER_SECOND = 2.0


def time_eyes(size: int, eyes: int) -> list[float]:
    """Return the wall-clock time of each of ``eyes`` eyes, after a warm-up."""
    phantom = Phantom(PhantomOptions(size=size))
    phantom.draw_sample(0, 0)
    seconds = []
    for index in range(eyes):
        start = time.perf_counter()
        phantom.draw_sample(1, index)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eyes", type=int, default=20, help="eyes to draw at each size")
    count = parser.parse_args().eyes
    set_threads(2)
    results = {}
    for size in SIZES:
        seconds = time_eyes(size, count)
        results[str(size)] = {
            "eyes_per_second": count / sum(seconds),
            "median_seconds": statistics.median(seconds),
            "slowest_seconds": max(seconds),
        }
        print(f"{size:4d} px: {count / sum(seconds):5.1f} eyes/s, slowest eye {max(seconds):.2f} s")
    rate = results["224"]["eyes_per_second"]
    print(f"relative to the target at 224 px: {format_ratio(rate / BAR_EYES_PER_SECOND, 1.0)}")
    path = record("scoring/phantom", {"eyes": count, "bands": 16, "oversampling": 4, "sizes": results})
    print(f"recorded in {path}")


if __name__ == "__main__":
    main()
