"""What ``pretraining.py`` measures with: linear probes in closed form, and intervals over seeds and eyes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PENALTIES = np.logspace(-4, 4, 33)  # of ridge regression, relative to the mean eigenvalue
SMALL = 1e-3  # the pixels' penalty, likewise: there are thousands of pixels, so it only guards against collinearity


class Classifier(NamedTuple):
    """A linear classifier of pixels: the class of the greatest score."""

    present: Array
    mean: Array
    weights: Array
    bias: Array

    @classmethod
    def fit(cls, features: Array, classes: Array) -> Classifier:
        """Fit least squares on one-hot classes of equal weight (Fisher's discriminant: Hastie et al. 2009, 4.3).

        Args:
            features: ``(pixel, d)``.
            classes: int ``(pixel,)``; of those that occur nowhere nothing is learned.
        """
        present, numbers = np.unique(classes, return_inverse=True)
        targets = np.eye(len(present))[numbers]
        weight = (targets / targets.sum(axis=0)).mean(axis=1)
        mean = weight @ features
        centred = (features - mean).astype(np.float64)
        gram = centred.T @ (centred * weight[:, None])
        scale = np.sqrt(np.maximum(np.diag(gram), 1e-12))
        penalised = gram / np.outer(scale, scale) + SMALL * np.eye(len(gram))
        bias = weight @ targets
        aims = centred.T @ ((targets - bias) * weight[:, None]) / scale[:, None]
        return cls(present, mean, np.linalg.solve(penalised, aims) / scale[:, None], bias)

    def __call__(self, features: Array) -> Array:
        """Return the class of each pixel."""
        scores = (features - self.mean) @ self.weights + self.bias
        return np.asarray(self.present[scores.argmax(axis=1)])


def balanced_accuracy(found: Array, true: Array) -> float:
    """Return the mean over the classes that occur of the share of their pixels that were found."""
    return float(np.mean([(found[true == each] == each).mean() for each in np.unique(true)]))


def separate(features: Array, sides: Array, others: Array) -> Array:
    """Return ridge regression's predictions ``(m,)`` of the side that ``others`` (m, d) are on.

    The penalty is that of the least leave-one-out error on the labelled rows, which is known in closed form (Golub,
    Heath and Wahba 1979).

    Args:
        features: ``(n, d)``.
        sides: ``(n,)``, -1 or 1.
        others: ``(m, d)``.
    """
    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-12)
    rows, more = (features - mean) / spread, (others - mean) / spread
    eigenvalues, vectors = np.linalg.eigh(rows @ rows.T)
    turned = vectors.T @ (sides - sides.mean())
    fits = []
    for penalty in PENALTIES * eigenvalues.mean():
        inverse = 1 / (np.maximum(eigenvalues, 0) + penalty)
        dual = vectors @ (inverse * turned)
        # The hat matrix is 1 - penalty (K + penalty)^-1, and 1 / n of the mean that was subtracted.
        left_out = penalty * dual / np.maximum(penalty * (vectors**2 @ inverse) - 1 / len(rows), 1e-9)
        fits.append((float(np.square(left_out).mean()), dual))
    best = min(fits, key=lambda fit: fit[0])[1]
    return np.asarray(more @ (rows.T @ best) + sides.mean())


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __format__(self, sign: str) -> str:
        """Return ``0.812 (0.790 to 0.834)``; with ``+`` as format, every number has its sign."""
        mean, low, high = (format(each, f"{sign}.3f") for each in self)
        return f"{mean} ({low} to {high})"


def interval(table: Array, level: float = 0.95) -> Interval:
    """Return the mean of a table ``(seed, eye)`` with an interval for other seeds and other eyes.

    Both are drawn anew in a repetition, and crossed, so the variances of the mean over either add up (the part that
    neither explains counts twice, which is on the safe side). Student's t with the degrees of freedom of the sum
    (Satterthwaite 1946).
    """
    from scipy.stats import t as student

    variances, freedom = [], []
    for means in (table.mean(axis=1), table.mean(axis=0)):
        variances.append(means.var(ddof=1) / len(means))
        freedom.append(len(means) - 1)
    total = float(sum(variances))
    mean = float(table.mean())
    if not total:
        return Interval(mean, mean, mean)
    degrees = total**2 / sum(each**2 / free for each, free in zip(variances, freedom, strict=True))
    reach = float(student.ppf(0.5 + level / 2, degrees)) * total**0.5
    return Interval(mean, mean - reach, mean + reach)
