"""Cost of the metrics kid, prdc, vendi, authenticity and membership on extracted features.

Run: ``python -m benchmarks.evidence.feature_metrics``. Processor seconds of one comparison (``relate`` and
``compare``), on one thread, the minimum of two runs; a report also makes about 30 comparisons at half the size.
Features are normal, 800 per cube, as many as the default extractor has for 16 bands; maps are smooth noise.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.helpers.machine import record, set_threads
from hseval.core.feature_table import FeatureTable
from hseval.metrics.authenticity import Authenticity
from hseval.metrics.kid import Kid
from hseval.metrics.membership import Membership
from hseval.metrics.prdc import PrecisionRecall
from hseval.metrics.vendi import Vendi

WIDTH, REPEATS = 800, 2
SIZES = {"features": (200, 1000, 2000), "maps": (100, 200, 400)}

Array = NDArray[Any]


def main() -> None:
    """Measure, print and record."""
    import faiss

    set_threads(1)
    faiss.omp_set_num_threads(1)
    seconds: dict[str, dict[str, float]] = {}
    for kind, metrics in (("features", (Kid, PrecisionRecall, Vendi)), ("maps", (Authenticity, Membership))):
        for size in SIZES[kind]:
            real, generated, train = (make_features(kind, size, seed) for seed in range(3))
            for metric in metrics:
                minimum = min(time_comparison(metric(), real, generated, train) for _ in range(REPEATS))
                seconds.setdefault(metric.name, {})[str(size)] = minimum
                print(f"{metric.name:14}{size:6} cubes per set: {minimum:8.3f} s", flush=True)
    record("evidence/feature_metrics", {"width": WIDTH, "processor_seconds_by_cubes_a_set": seconds})


def time_comparison(metric: Any, real: FeatureTable, generated: FeatureTable, train: FeatureTable) -> float:
    """Return the processor time of one comparison."""
    start = time.process_time()
    related = metric.relate(real=real, generated=generated, train=train)
    metric.compare(real=related[0], generated=related[1], train=related[2], rng=np.random.default_rng(0))
    return time.process_time() - start


def make_features(kind: str, count: int, seed: int) -> FeatureTable:
    """Return the feature table of a set."""
    names = np.array([f"{seed}-{i:05d}" for i in range(count)])
    return FeatureTable(
        draw_features(count, seed) if kind == "features" else draw_maps(count, seed),
        names,
        names,
        names,
        np.arange(4.0),
    )


def draw_features(count: int, seed: int) -> dict[str, Array]:
    """Return normal features."""
    values = np.random.default_rng(seed).standard_normal((count, WIDTH))
    return {"scattering": values.astype(np.float32)}


def draw_maps(count: int, seed: int) -> dict[str, Array]:
    """Return maps of smooth noise, like those of cubes of 64 px."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((count, 4, 32, 32)), (0, 0, 1, 1))
    return {"maps": noise.astype(np.float32), "maps/pixels": np.full((count, 2), 64.0)}


if __name__ == "__main__":
    main()
