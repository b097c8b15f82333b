"""Thresholds and tests for copies: are samples nearer to the training set than held-out real cubes are?

Both tests have the same null hypothesis: given the training set, the distances of samples and of held-out cubes to it
come from one distribution. Small p-values indicate that samples are nearer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hseval.utils.errors import NotComputable
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hseval.core.feature_table import FeatureTable
    from hseval.metrics.copy_search import Placement
    from hseval.utils.arrays import Array, Float64Array, IntArray


PROFILE_PROBABILITIES = np.linspace(0.05, 0.95, 7)
MAX_CELLS = 5
MIN_CUBES_PER_CELL = 20  # training cubes per cell, on average
MAX_KMEANS_ITERATIONS = 50
MAX_REPORTED_PAIRS = 10  # nearest pairs in the details


def compute_profiles(maps: Array) -> Float64Array:
    """Return seven quantiles of each channel ``(n, C * 7)`` of maps ``(n, C, G, G)``; NaN marks invalid cells."""
    values = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    is_valid = np.isfinite(values)
    values = np.where(is_valid, values, np.inf)
    values.sort(axis=-1)  # invalid cells come last
    rank = PROFILE_PROBABILITIES * np.maximum(is_valid.sum(axis=-1, keepdims=True) - 1, 0)
    quantiles = np.take_along_axis(values, np.rint(rank).astype(np.int64), axis=-1)
    return np.where(np.isfinite(quantiles), quantiles, 0.0).reshape(len(maps), -1)


def fit_cell_centers(profiles: Float64Array) -> Float64Array:
    """Return the centers of a k-means partition of ``(n, d)``, one for every 20 rows, five at most.

    The initial cells are equal slices along the first principal axis instead of random rows: the result is
    deterministic, and no cell starts from an outlier.
    """
    count = max(1, min(MAX_CELLS, len(profiles) // MIN_CUBES_PER_CELL))
    centered = profiles - profiles.mean(axis=0)
    axis = np.linalg.svd(centered, full_matrices=False)[2][0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    slices = np.array_split(np.argsort(centered @ axis, kind="stable"), count)
    centers = np.stack([profiles[indices].mean(axis=0) for indices in slices])
    for _ in range(MAX_KMEANS_ITERATIONS):
        cells = assign_cells(profiles, centers)
        updated = np.stack(
            [profiles[cells == i].mean(axis=0) if (cells == i).any() else centers[i] for i in range(count)]
        )
        if np.array_equal(updated, centers):
            break
        centers = updated
    return centers


def assign_cells(profiles: Float64Array, centers: Float64Array) -> IntArray:
    """Return the index ``(n,)`` of each row's nearest center."""
    return np.asarray(((profiles[:, None] - centers) ** 2).sum(axis=-1).argmin(axis=1))


FALSE_ALARM_RATE = 0.01  # share of honest samples that may count as copies, on average
MAX_IDENTICAL_DISTANCE = 1e-4  # distances up to this are rounding: a copy, whatever the threshold
MIN_CUBES_IN_CELL = 10  # of held-out cubes and of samples, so that the normal approximation is valid


class CopyingTestResult(NamedTuple):
    """The data-copying test of Meehan et al., over all distances and over the cells of a partition.

    ``z`` and ``p``: of all distances together. ``c_t``: the mean of the cells' z, weighted by held-out cubes.
    ``cells``: number of cells with enough cubes of both sides; ``worst``: the index of the cell of least z (-1: none),
    ``worst_z``, and ``worst_p``, corrected for the number of cells (1 without cells).
    """

    z: float
    p: float
    c_t: float
    cells: int
    worst: int
    worst_z: float
    worst_p: float


def compute_copy_threshold(holdout: Array) -> float:
    """Return the copy threshold: the :func:`compute_copy_rank`-th smallest of the held-out cubes' distances."""
    rank = compute_copy_rank(len(holdout))
    return float(np.partition(holdout, rank - 1)[rank - 1])


def compute_copy_rank(n_holdout: int) -> int:
    """Return which of ``n_holdout`` held-out distances is the threshold, 1 for the smallest.

    An honest sample lies below the k-th of n with probability k / (n + 1), whatever the distribution. k is the largest
    for which that is at most 1 %; with fewer than 99 held-out cubes there is none, and k is 1.
    """
    return max(1, math.floor(round(FALSE_ALARM_RATE * (n_holdout + 1), 9)))


def compute_copy_share(distances: Array, threshold: float) -> float:
    """Return the share of distances strictly below the threshold, or 0 up to rounding."""
    return float(np.mean((distances < threshold) | (distances <= MAX_IDENTICAL_DISTANCE)))


def compute_authentic_share(distances: Array, nn_distances: Array) -> float:
    """Return the share of samples farther from their nearest training cube than that cube is from the others.

    Alaa et al., How Faithful is your Synthetic Data, ICML 2022, section 4.3. NaN if the training set has a single cube,
    which has no nearest neighbor.
    """
    return float(np.mean(distances > nn_distances)) if np.isfinite(nn_distances).all() else float("nan")


def mann_whitney_z(*, holdout: Array, generated: Array) -> float:
    """Return the z-score of the Mann-Whitney statistic: below 0, samples are nearer than held-out cubes.

    Meehan, Chaudhuri and Dasgupta, A non-parametric test to detect data-copying in generative models, AISTATS 2020,
    equation 2; ties get mean ranks, and the variance is corrected for them.
    """
    from scipy.stats import rankdata, tiecorrect

    m, n = len(generated), len(holdout)
    ranks = rankdata(np.concatenate([generated, holdout]))
    u_statistic = float(ranks[:m].sum()) - m * (m + 1) / 2
    variance = m * n / 12 * (m + n + 1) * tiecorrect(ranks)
    return float((u_statistic - m * n / 2) / variance**0.5) if variance > 0 else 0.0


def lower_tail_p_value(z: float) -> float:
    """Return the one-sided p-value of a z-score: small if z is far below 0."""
    from scipy.stats import norm

    return float(norm.cdf(z))


def copying_test(
    *, holdout: Array, generated: Array, holdout_cells: Array, generated_cells: Array
) -> CopyingTestResult:
    """Test all distances together, and cell by cell (C_T: Meehan et al. 2020, section 3.2).

    Copies in one region of the data may be too rare to change the test over all distances. The worst cell's p-value
    is corrected for the number of cells, taken as independent (Sidak, 1967).

    Args:
        holdout: distances ``(n,)`` of held-out cubes to the training set.
        generated: distances ``(m,)`` of samples.
        holdout_cells: the cell of each held-out cube, ``(n,)`` integers.
        generated_cells: the cell of each sample, ``(m,)``.
    """
    z = mann_whitney_z(holdout=holdout, generated=generated)
    by_cell = [
        (cell, holdout[holdout_cells == cell], generated[generated_cells == cell]) for cell in np.unique(holdout_cells)
    ]
    cells = [(int(cell), a, b) for cell, a, b in by_cell if min(len(a), len(b)) >= MIN_CUBES_IN_CELL]
    if not cells:
        return CopyingTestResult(z, lower_tail_p_value(z), z, 0, -1, z, 1.0)
    scores = np.array([mann_whitney_z(holdout=a, generated=b) for _, a, b in cells])
    worst = int(scores.argmin())
    p = -np.expm1(len(cells) * np.log1p(-lower_tail_p_value(scores[worst])))
    weights = [len(a) for _, a, _ in cells]
    c_t = float(np.average(scores, weights=weights))
    return CopyingTestResult(z, lower_tail_p_value(z), c_t, len(cells), cells[worst][0], float(scores[worst]), float(p))


def precedence_test(*, holdout: Array, generated: Array) -> tuple[int, float]:
    """Return how many of ``generated`` lie strictly below all of ``holdout``, and the p-value of that number.

    The precedence test (Balakrishnan and Ng, 2006) is exact and distribution-free: among m + n values in random order
    the r least all belong to the m with probability ``m! (m + n - r)! / (m - r)! (m + n)!``. Unlike a rank test over
    all values, it detects a few copies among many honest samples.
    """
    from scipy.special import gammaln

    m, n = len(generated), len(holdout)
    below = int((generated < holdout.min()).sum())
    log_p = gammaln(m + 1) - gammaln(m - below + 1) + gammaln(m + n - below + 1) - gammaln(m + n + 1)
    return below, min(1.0, float(np.exp(log_p)))


def check_sides(real: FeatureTable, generated: FeatureTable) -> None:
    """Raise NotComputable if there is no held-out cube, or no sample."""
    if not len(real) or not len(generated):
        sizes = f"{format_count(len(real), 'held-out cube')} and {format_count(len(generated), 'sample')}"
        raise NotComputable(f"{sizes}, expected at least 1 of each")


def list_nearest_pairs(
    ids: Mapping[str, Array], distances: Array, placements: Sequence[Placement]
) -> list[dict[str, Any]]:
    """Return the nearest pairs: both ids by role, the distance, and how one was rotated and shifted to fit."""
    return [
        {
            **{role: str(names[i]) for role, names in ids.items()},
            "distance": float(distances[i]),
            "placement": str(placements[i]),
        }
        for i in np.argsort(distances, kind="stable")[:MAX_REPORTED_PAIRS]
    ]


def select_one_per_group(*, hashes: Array, groups: Array) -> IntArray:
    """Return the index ``(g,)`` of the first cube of each group by content: tests assume independent cubes."""
    by_content = np.argsort(hashes, kind="stable")
    _, first = np.unique(groups[by_content], return_index=True)
    return np.sort(by_content[first])
