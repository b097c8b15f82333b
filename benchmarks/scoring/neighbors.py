"""1-NN of 8000 x 8000 x 512: hseval against scikit-learn's brute force and a bare matrix product.

Run: ``python -m benchmarks.scoring.neighbors``. Results are checked equal before anything is timed; all run interleaved
on two threads. The float32 matrix product of the same size is a lower bound for any exact search by BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers.machine import format_ratio, measure, record, set_threads
from hseval.utils.nearest_neighbors import NearestNeighbors

VECTORS, WIDTH, THREADS, BAR = 8000, 512, 2, 1.3


def main() -> None:
    """Measure, print and record."""
    import faiss

    rng = np.random.default_rng(0)
    queries, base = (rng.standard_normal((VECTORS, WIDTH), dtype=np.float32) for _ in range(2))
    from sklearn import neighbors

    set_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)

    def search_with_scikit_learn() -> Any:
        return neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(base).kneighbors(queries)

    def search_flat_index() -> Any:
        index = faiss.IndexFlatL2(WIDTH)
        index.add(base)
        return index.search(queries, 1)

    difference = check_equal(NearestNeighbors(base).find_nearest(queries), search_with_scikit_learn())
    seconds = measure(
        {
            "hseval, exact in float64": lambda: NearestNeighbors(base).find_nearest(queries),
            "scikit-learn, brute force": search_with_scikit_learn,
            "bare FAISS flat index, float32": search_flat_index,
            "bare matrix product, float32": lambda: queries @ base.T,
        },
        repeats=7,
    )
    ours, peer, _, product = seconds.values()
    record(
        "scoring/neighbors",
        {
            "problem": f"1-NN, {VECTORS} queries x {VECTORS} vectors x {WIDTH}, float32, {THREADS} threads",
            "seconds": seconds,
            "times_scikit_learn": peer / ours,
            "bar": BAR,
            "times_the_matrix_product": ours / product,
            "largest_distance_difference": difference,
        },
    )
    for name, median in seconds.items():
        print(f"{median:8.3f} s  {name}")
    print(f"against scikit-learn: {format_ratio(peer / ours, BAR)}")
    print(f"against the bare matrix product: {ours / product:.2f} times its time")


def check_equal(ours: tuple[NDArray[Any], NDArray[Any]], theirs: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """Return the largest difference of distances.

    Raises:
        SystemExit: neighbors differ, or distances by more than float32 resolves.
    """
    difference = float(np.abs(ours[0] - theirs[0]).max())
    if not np.array_equal(ours[1], theirs[1]) or difference > 1e-4 * float(ours[0].max()):
        raise SystemExit(f"results differ: distances by up to {difference:.2g}")
    return difference


if __name__ == "__main__":
    main()
