"""Are samples nearer to the training set than unseen real cubes are? Thresholds and tests on distances alone.

Both tests ask the same of the null hypothesis: given the training set, distances of samples and of held-out cubes to it
come from one distribution. Small p-values say that samples are nearer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]

PROFILE_PROBABILITIES = np.linspace(0.05, 0.95, 7)
MAX_CELLS = 5  # cells
MIN_CUBES_PER_CELL = 20  # training cubes a cell should have, on average
MAX_KMEANS_ITERATIONS = 50


def compute_profiles(maps: NDArray[Any]) -> Float64Array:
    """Return seven quantiles of each window's values ``(n, C * 7)`` of maps ``(n, C, G, G)``, NaN where not valid."""
    values = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    known = np.isfinite(values)
    values = np.where(known, values, np.inf)
    values.sort(axis=-1)  # what is not known comes last
    place = PROFILE_PROBABILITIES * np.maximum(known.sum(axis=-1, keepdims=True) - 1, 0)
    found = np.take_along_axis(values, np.rint(place).astype(np.int64), axis=-1)
    return np.where(np.isfinite(found), found, 0.0).reshape(len(maps), -1)


def fit_cell_centers(profiles: Float64Array) -> Float64Array:
    """Return the centres of a k-means partition of ``(n, d)``, one for every 20 rows, five at most.

    Starts from equal slices along the first principal axis instead of random rows: nothing is drawn, and no cell
    starts from an outlier.
    """
    count = max(1, min(MAX_CELLS, len(profiles) // MIN_CUBES_PER_CELL))
    centred = profiles - profiles.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    slices = np.array_split(np.argsort(centred @ axis, kind="stable"), count)
    centres = np.stack([profiles[part].mean(axis=0) for part in slices])
    for _ in range(MAX_KMEANS_ITERATIONS):
        own = assign_cells(profiles, centres)
        moved = np.stack([profiles[own == i].mean(axis=0) if (own == i).any() else centres[i] for i in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def assign_cells(profiles: Float64Array, centers: Float64Array) -> NDArray[np.int64]:
    """Return the index ``(n,)`` of each row's nearest centre."""
    return np.asarray(((profiles[:, None] - centers) ** 2).sum(axis=-1).argmin(axis=1))


FALSE_ALARM_RATE = 0.01  # of honest samples may count as copies, on average
MAX_IDENTICAL_DISTANCE = 1e-4  # distances up to this are rounding: a copy, whatever the held-out cubes say
MIN_CUBES_IN_CELL = 10  # held-out cubes and samples that a cell has to hold, for the normal approximation to hold


class CopyingTestResult(NamedTuple):
    """The test of Meehan et al.: z over everything, and over the cells of a partition.

    ``z`` and ``p``: of all distances together. ``c_t``: the mean of the cells' z, weighted by held-out cubes.
    ``cells``: how many hold enough of both; ``worst``: the index of the one of least z (-1: none), ``worst_z``, and
    ``worst_p``, corrected for that there were several (1 without cells).
    """

    z: float
    p: float
    c_t: float
    cells: int
    worst: int
    worst_z: float
    worst_p: float


def compute_copy_threshold(holdout: NDArray[Any]) -> float:
    """Return the distance below which a sample counts as a copy: the :func:`compute_copy_rank`-th smallest of held-out ones."""
    rank = compute_copy_rank(len(holdout))
    return float(np.partition(holdout, rank - 1)[rank - 1])


def compute_copy_rank(n_holdout: int) -> int:
    """Return which of ``n_holdout`` held-out distances is the threshold, 1 for the smallest.

    An honest sample lies below the k-th of n in k / (n + 1) of all cases, whatever the distribution. k is the largest
    for which that is at most 1 %; fewer than 99 held-out cubes have none, and 1 is what is left.
    """
    return max(1, math.floor(round(FALSE_ALARM_RATE * (n_holdout + 1), 9)))


def compute_copy_share(distances: NDArray[Any], threshold: float) -> float:
    """Return the share of distances strictly below the threshold, or no more than rounding away from 0."""
    return float(np.mean((distances < threshold) | (distances <= MAX_IDENTICAL_DISTANCE)))


def compute_authentic_share(distances: NDArray[Any], nn_distances: NDArray[Any]) -> float:
    """Return the share of samples farther from their nearest training cube than that one is from the others.

    Alaa et al., How Faithful is your Synthetic Data, ICML 2022, section 4.3. Nothing is subtracted. NaN where
    the training set has one cube, and so no spacing.
    """
    return float(np.mean(distances > nn_distances)) if np.isfinite(nn_distances).all() else float("nan")


def mann_whitney_z(*, holdout: NDArray[Any], generated: NDArray[Any]) -> float:
    """Return the z-score of the Mann-Whitney statistic: below 0, samples are nearer than held-out cubes.

    Meehan, Chaudhuri and Dasgupta, A non-parametric test to detect data-copying in generative models, AISTATS 2020,
    equation 2; equal distances get mean ranks, and the variance is corrected for them.
    """
    from scipy.stats import rankdata

    m, n = len(generated), len(holdout)
    both = np.concatenate([generated, holdout])
    beyond = float(rankdata(both)[:m].sum()) - m * (m + 1) / 2
    _, ties = np.unique(both, return_counts=True)
    correction = float((ties.astype(np.float64) ** 3 - ties).sum()) / ((m + n) * (m + n - 1))
    variance = m * n / 12 * (m + n + 1 - correction)
    return (beyond - m * n / 2) / variance**0.5 if variance > 0 else 0.0


def lower_tail_p_value(z: float) -> float:
    """Return the one-sided p-value of a z-score: small where it is far below 0."""
    from scipy.stats import norm

    return float(norm.cdf(z))


def copying_test(
    *, holdout: NDArray[Any], generated: NDArray[Any], holdout_cells: NDArray[Any], generated_cells: NDArray[Any]
) -> CopyingTestResult:
    """Test all distances together, and cell by cell (C_T: Meehan et al. 2020, section 3.2).

    A copier in one corner of the data may be too rare to show in the whole. The worst cell's p-value is that of the
    least of so many independent ones (Sidak, 1967).

    Args:
        holdout: distances ``(n,)`` of held-out cubes to the training set.
        generated: distances ``(m,)`` of samples.
        holdout_cells: the cell of each held-out cube, ``(n,)`` integers.
        generated_cells: the cell of each sample, ``(m,)``.
    """
    z = mann_whitney_z(holdout=holdout, generated=generated)
    sides = [
        (cell, holdout[holdout_cells == cell], generated[generated_cells == cell]) for cell in np.unique(holdout_cells)
    ]
    cells = [(int(cell), a, b) for cell, a, b in sides if min(len(a), len(b)) >= MIN_CUBES_IN_CELL]
    if not cells:
        return CopyingTestResult(z, lower_tail_p_value(z), z, 0, -1, z, 1.0)
    scores = np.array([mann_whitney_z(holdout=a, generated=b) for _, a, b in cells])
    least = int(scores.argmin())
    p = -np.expm1(len(cells) * np.log1p(-lower_tail_p_value(scores[least])))
    weights = [len(a) for _, a, _ in cells]
    c_t = float(np.average(scores, weights=weights))
    return CopyingTestResult(z, lower_tail_p_value(z), c_t, len(cells), cells[least][0], float(scores[least]), float(p))


def precedence_test(*, holdout: NDArray[Any], generated: NDArray[Any]) -> tuple[int, float]:
    """Return how many of ``generated`` lie strictly below all of ``holdout``, and the probability of at least so many.

    Exact and free of any distribution: among m + n values in random order the r least all belong to the m with
    probability ``m! (m + n - r)! / (m - r)! (m + n)!`` (the precedence test: Balakrishnan and Ng, 2006). Unlike a
    rank test of the whole, it sees a few copies among many honest samples.
    """
    from scipy.special import gammaln

    m, n = len(generated), len(holdout)
    below = int((generated < holdout.min()).sum())
    log_p = gammaln(m + 1) - gammaln(m - below + 1) + gammaln(m + n - below + 1) - gammaln(m + n + 1)
    return below, min(1.0, float(np.exp(log_p)))


def select_one_per_group(*, hashes: NDArray[Any], groups: NDArray[Any]) -> NDArray[np.int64]:
    """Return the first cube ``(g,)`` of each group by content, whatever the order: tests take cubes as independent."""
    by_content = np.argsort(hashes, kind="stable")
    _, first = np.unique(groups[by_content], return_index=True)
    return np.sort(by_content[first])
