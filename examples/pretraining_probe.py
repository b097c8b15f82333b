"""Linear probes in closed form, and intervals over seeds and eyes, for ``pretraining.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

PENALTIES = np.logspace(-4, 4, 33)  # of ridge regression, relative to the mean eigenvalue
PIXEL_PENALTY = 1e-3  # likewise, for pixels: there are thousands, so it only guards against collinearity


class Classifier(NamedTuple):
    """A linear classifier of pixels: the class with the highest score."""

    present: Array
    mean: Array
    weights: Array
    bias: Array

    @classmethod
    def fit(cls, features: Array, classes: Array) -> Classifier:
        """Fit least squares on one-hot classes of equal weight (Fisher's discriminant: Hastie et al. 2009, 4.3).

        Args:
            features: ``(pixel, d)``.
            classes: int ``(pixel,)``; classes that do not occur are never predicted.
        """
        present, numbers = np.unique(classes, return_inverse=True)
        targets = np.eye(len(present))[numbers]
        weight = (targets / targets.sum(axis=0)).mean(axis=1)
        mean = weight @ features
        centered = (features - mean).astype(np.float64)
        gram = centered.T @ (centered * weight[:, None])
        scale = np.sqrt(np.maximum(np.diag(gram), 1e-12))
        penalized = gram / np.outer(scale, scale) + PIXEL_PENALTY * np.eye(len(gram))
        bias = weight @ targets
        products = centered.T @ ((targets - bias) * weight[:, None]) / scale[:, None]
        return cls(present, mean, np.linalg.solve(penalized, products) / scale[:, None], bias)

    def __call__(self, features: Array) -> Array:
        """Return the class of each pixel."""
        scores = (features - self.mean) @ self.weights + self.bias
        return np.asarray(self.present[scores.argmax(axis=1)])


def compute_balanced_accuracy(predicted: Array, true: Array) -> float:
    """Return the mean recall over the classes that occur."""
    return float(np.mean([(predicted[true == label] == label).mean() for label in np.unique(true)]))


def separate(features: Array, sides: Array, others: Array) -> Array:
    """Return ridge regression's predictions ``(m,)`` of the sides of ``others`` (m, d).

    The penalty is the one with the smallest leave-one-out error on the labeled features, computed in closed form
    (Golub, Heath and Wahba 1979).

    Args:
        features: ``(n, d)``.
        sides: ``(n,)``, -1 or 1.
        others: ``(m, d)``.
    """
    mean, std = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-12)
    features, others = (features - mean) / std, (others - mean) / std
    eigenvalues, vectors = np.linalg.eigh(features @ features.T)
    rotated = vectors.T @ (sides - sides.mean())
    fits = []
    for penalty in PENALTIES * eigenvalues.mean():
        inverse = 1 / (np.maximum(eigenvalues, 0) + penalty)
        dual = vectors @ (inverse * rotated)
        # The hat matrix is 1 - penalty (K + penalty)^-1, plus 1 / n for the mean that was subtracted.
        residuals = penalty * dual / np.maximum(penalty * (vectors**2 @ inverse) - 1 / len(features), 1e-9)
        fits.append((float(np.square(residuals).mean()), dual))
    best = min(fits, key=lambda fit: fit[0])[1]
    return np.asarray(others @ (features.T @ best) + sides.mean())


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __format__(self, sign: str) -> str:
        """Return ``0.812 (0.790 to 0.834)``; with ``+`` as format, every number has its sign."""
        mean, low, high = (format(value, f"{sign}.3f") for value in self)
        return f"{mean} ({low} to {high})"


def compute_interval(table: Array, level: float = 0.95) -> Interval:
    """Return the mean of a table ``(seed, eye)`` with an interval over other seeds and other eyes.

    Seeds and eyes are crossed random factors, so the variances of the mean over either add up (the residual variance
    counts twice, which is conservative). Student's t with the degrees of freedom of the sum (Satterthwaite 1946).
    """
    from scipy.stats import t as student

    variances, degrees_of_freedom = [], []
    for means in (table.mean(axis=1), table.mean(axis=0)):
        variances.append(means.var(ddof=1) / len(means))
        degrees_of_freedom.append(len(means) - 1)
    total = float(sum(variances))
    mean = float(table.mean())
    if not total:
        return Interval(mean, mean, mean)
    degrees = total**2 / sum(variance**2 / n for variance, n in zip(variances, degrees_of_freedom, strict=True))
    half_width = float(student.ppf(0.5 + level / 2, degrees)) * total**0.5
    return Interval(mean, mean - half_width, mean + half_width)
