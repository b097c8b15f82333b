"""From described sets to exhibits: the few cubes that are shown are read again, all else comes from rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.figure_data import Embedding, Exhibits, Pair, Points, Shown, Spectra, Spread, Values
from hseval.data.preprocessing import valid_pixels
from hseval.reporting.preview.render import SIDE, Painter, masked
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows
    from hseval.core.hookspecs import Metric
    from hseval.core.report import Score
    from hseval.pipeline.context import Described, Run
    from hseval.pipeline.extract import Description

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


CUBES = 4  # of each side that are shown
PAIRS = 6  # nearest pairs that are shown


def exhibits_of(described: Described, scores: Sequence[Score], run: Run, *, extractor: str | None) -> Exhibits:
    """Return what a report shows besides its scores.

    Args:
        described: the sets.
        scores: their scores; those with ``nearest_pairs`` say which pairs are shown.
        run: its seed draws, and what metrics left in ``run.shown`` becomes histograms.
        extractor: whose rows are laid in the plane, or None.
    """
    info = described.sets.reference.info
    real, fake = (_drawn(described, role, run.seed) for role in ("reference", "samples"))
    shape = tuple(np.max([cube.shape[1:] for _, cube in (*real, *fake)], axis=0).tolist())
    cubes = [cube for _, cube in real]
    known: dict[str, Any] = {"known": info.wavelengths_known, "units": info.units, "shape": shape}
    painter = Painter.of(cubes, info.wavelengths, **known)
    small = Painter.of(cubes, info.wavelengths, **known, side=SIDE // 2)
    sets = {role: getattr(described, role) for role, _ in described.sets.named()}
    order = [role for role in ("train", "reference", "samples") if role in sets]
    return Exhibits(
        wavelengths=info.wavelengths,
        look=painter.look(),
        real=tuple(painter.shown(cube, id) for id, cube in real),
        fake=tuple(painter.shown(cube, id) for id, cube in fake),
        pairs=tuple(_pairs(described, scores, small)),
        spectra=tuple(spectra(described.reference.rows, described.samples.rows)),
        embedding=embedding(extractor, {role: sets[role] for role in order}, seed=run.seed),
        values=tuple(values(run.shown or {}, seed=run.seed)),
    )


def embedded_by(metrics: Sequence[Metric]) -> str | None:
    """Return the feature extractor whose rows are to be shown in the plane: that of the first metric with a choice."""
    chosen = (getattr(getattr(metric, "options", None), "extractor", None) for metric in metrics)
    return next((each for each in chosen if isinstance(each, str)), None)


def turned(data: NDArray[Any], placement: str) -> NDArray[Any]:
    """Return a cube ``(band, y, x)`` turned and mirrored as a metric says that it fits best.

    Args:
        data: the cube.
        placement: in words, as ``"turned 90 degrees, mirrored, shifted by (1, 0) cells"``; shifts are left out.
    """
    angle = re.search(r"turned (90|180|270) degrees", placement)
    found = np.rot90(data, int(angle[1]) // 90 if angle else 0, axes=(-2, -1))
    return found[..., ::-1] if "mirrored" in placement else found


def _drawn(described: Described, role: str, seed: int) -> list[tuple[str, NDArray[Any]]]:
    """Return ids and pixels of some cubes, drawn by content."""
    found = getattr(described, role)
    picked = stream(seed, f"pictures of {role}").permutation(len(found.index))[:CUBES]
    return [_read(described, role, int(found.index[row])) for row in picked]


def _read(described: Described, role: str, place: int) -> tuple[str, NDArray[Any]]:
    cube = getattr(described.sets, role)[place]
    return cube.id, masked(cube.data, valid_pixels(cube, described.plans[role].field))


def _pairs(described: Described, scores: Sequence[Score], painter: Painter) -> Iterator[Pair]:
    """Yield the nearest pairs that a score names by their ids."""
    if described.sets.train is None:
        return
    places = {
        "sample": ("samples", {id: i for i, id in enumerate(described.sets.samples.ids)}),
        "training": ("train", {id: i for i, id in enumerate(described.sets.train.ids)}),
    }
    for named in _named_pairs(scores)[:PAIRS]:
        if not all(named.get(side) in ids for side, (_, ids) in places.items()):
            continue
        read = {side: _read(described, role, ids[named[side]]) for side, (role, ids) in places.items()}
        placement = str(named.get("placement", ""))
        sample, training = _shown(painter, read["sample"], placement), _shown(painter, read["training"], "")
        distance = named.get("distance")
        yield Pair(sample, training, distance if isinstance(distance, float) else None, placement)


def _shown(painter: Painter, read: tuple[str, NDArray[Any]], placement: str) -> Shown:
    id, data = read
    return painter.shown(turned(data, placement), id)


def _named_pairs(scores: Sequence[Score]) -> list[Mapping[str, Any]]:
    """Return the first score's pairs that name a sample and a training cube."""
    for score in scores:
        pairs = [pair for pair in score.details.get("nearest_pairs") or [] if {"sample", "training"} <= pair.keys()]
        if pairs:
            return pairs
    return []
