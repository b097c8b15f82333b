"""Exhibits that come from rows alone: mean spectra by structure, features in the plane, histograms' values."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.exhibits import Embedding, Points, Spectra, Spread, Values
from hseval.seeds import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.describe import Description
    from hseval.rows import Rows

MEAN, PIXELS = "spectra/mean", "spectra/pixels"
LOW, HIGH = 10.0, 90.0  # percentiles over cubes: the spread of mean spectra
STEADY = 0.03  # of the median deviation: no feature counts as steadier, as in the metrics of features
POINTS = 1000  # of a set that are drawn in the plane
MOST_VALUES = 20_000  # of a side that a histogram is made of


def spectra(real: Rows, fake: Rows) -> Iterator[Spectra]:
    """Yield the mean spectra of each structure that both sides have; nothing where no metric needed spectra."""
    if MEAN not in real.columns or MEAN not in fake.columns:
        return
    for name in real.structures:
        if name in fake.structures:
            sides = [_spread(rows, name) for rows in (real, fake)]
            if sides[0] is not None and sides[1] is not None:
                yield Spectra(name, sides[0], sides[1])


def _spread(rows: Rows, structure: str) -> Spread | None:
    place = rows.structures.index(structure)
    having = rows[PIXELS][:, place] > 0
    if not having.any():
        return None
    mean = np.asarray(rows[MEAN][having, place], dtype=np.float64)
    low, high = np.percentile(mean, (LOW, HIGH), axis=0)
    return Spread(mean.mean(axis=0), low, high, int(having.sum()))


def embedding(extractor: str | None, sets: Mapping[str, Description], *, seed: int) -> Embedding | None:
    """Return features in the plane of the two directions in which real cubes and samples together spread most.

    Features are standardised by the reference, never by all cubes. The directions are spherical principal components
    (Locantore et al. 1999): every cube counts by its direction from the centre alone, so that a few wild samples do
    not decide. Both sides weigh the same in them, and the training set is laid on afterwards. Up to :data:`POINTS`
    cubes of a set are drawn by content.

    Args:
        extractor: whose rows; None: there is none.
        sets: described sets by role; ``reference`` and ``samples`` are there.
        seed: of the draws.

    Returns:
        None where the extractor does not give one finite vector a cube, or there are fewer than three cubes a side.
    """
    if extractor is None or any(extractor not in sets[role].rows.columns for role in ("reference", "samples")):
        return None
    features: dict[str, NDArray[Any]] = {}
    ids: dict[str, tuple[str, ...]] = {}
    for role, described in sets.items():
        rows = described.rows
        if extractor not in rows.columns:
            continue
        picked = np.sort(stream(seed, f"embedding of {role}").permutation(len(rows))[:POINTS])
        features[role] = rows[extractor][picked].reshape(len(picked), -1).astype(np.float64)
        ids[role] = tuple(str(each) for each in rows.ids[picked])
    if not all(np.isfinite(each).all() for each in features.values()) or min(map(len, features.values())) < 3:
        return None
    mean, deviation = features["reference"].mean(axis=0), features["reference"].std(axis=0, ddof=1)
    varies = deviation > 1e-6 * np.abs(features["reference"]).max(axis=0)
    if not varies.any():
        return None
    scale = np.maximum(deviation, STEADY * np.median(deviation[varies]))
    scaled = {role: (each - mean) / scale for role, each in features.items()}
    centre, axes, explained = _plane(scaled["reference"], scaled["samples"])
    points = tuple(
        Points(role, (each - centre) @ axes.T, ids[role], len(sets[role].rows)) for role, each in scaled.items()
    )
    return Embedding(extractor, scaled["samples"].shape[1], explained, points)


def _plane(real: NDArray[Any], fake: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float]]:
    """Return the centre, two spherical principal axes ``(2, d)`` of both sides at equal weight, and their shares."""
    from scipy.linalg import svd

    centre = (np.median(real, axis=0) + np.median(fake, axis=0)) / 2
    both = np.concatenate([_directions(side - centre) / np.sqrt(len(side)) for side in (real, fake)])
    _, lengths, axes = svd(both, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)  # signs are a matter of convention
    shares = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    if len(axes) < 2:  # one feature alone
        axes, shares = np.concatenate([axes, np.zeros_like(axes)]), np.array([*shares, 0.0])
    return centre, axes, (float(shares[0]), float(shares[1]))


def _directions(rows: NDArray[Any]) -> NDArray[Any]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def values(shown: Mapping[str, Mapping[str, Any]], *, seed: int) -> Iterator[Values]:
    """Yield what metrics measured of single cubes or pairs, finite values alone, up to 20,000 of a side."""
    for metric, found in shown.items():
        for label, sides in found.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                real, fake = (_some(np.asarray(side, dtype=np.float64), seed) for side in sides)
            if len(real) > 1 and len(fake) > 1:
                yield Values(metric, label, real, fake)


def _some(side: NDArray[Any], seed: int) -> NDArray[Any]:
    finite = np.sort(side[np.isfinite(side)])
    if len(finite) <= MOST_VALUES:
        return finite
    picked = stream(seed, "shown values").permutation(len(finite))[:MOST_VALUES]
    return np.sort(finite[picked])
