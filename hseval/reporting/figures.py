"""From described sets to exhibits: the few cubes that are shown are read again, all else comes from rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.figure_data import (
    EmbeddedPoints,
    Embedding,
    FigureData,
    MetricValues,
    NearestPair,
    RenderedCube,
    SpectrumSummary,
    StructureSpectra,
)
from hseval.data.preprocessing import compute_valid_mask
from hseval.reporting.preview.render import MAX_SIDE, CubeRenderer, mask_invalid
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable
    from hseval.core.hookspecs import Metric
    from hseval.core.report import Score
    from hseval.pipeline.context import ExtractedInputs, RunContext
    from hseval.pipeline.extract import ExtractedSet

MEAN_COLUMN, PIXEL_COUNT_COLUMN = "spectra/mean", "spectra/pixels"
LOW_PERCENTILE, HIGH_PERCENTILE = 10.0, 90.0  # percentiles over cubes: the spread of mean spectra
MIN_STD_RATIO = 0.03  # of the median deviation: no feature counts as steadier, as in the metrics of features
MAX_POINTS = 1000  # of a set that are drawn in the plane
MAX_VALUES = 20_000  # of a side that a histogram is made of


def build_spectra(real: FeatureTable, generated: FeatureTable) -> Iterator[StructureSpectra]:
    """Yield the mean spectra of each structure that both sides have; nothing where no metric needed spectra."""
    if MEAN_COLUMN not in real.columns or MEAN_COLUMN not in generated.columns:
        return
    for name in real.structures:
        if name in generated.structures:
            sides = [_summarize_spectra(rows, name) for rows in (real, generated)]
            if sides[0] is not None and sides[1] is not None:
                yield StructureSpectra(name, sides[0], sides[1])


def _summarize_spectra(features: FeatureTable, structure: str) -> SpectrumSummary | None:
    place = features.structures.index(structure)
    having = features[PIXEL_COUNT_COLUMN][:, place] > 0
    if not having.any():
        return None
    mean = np.asarray(features[MEAN_COLUMN][having, place], dtype=np.float64)
    low, high = np.percentile(mean, (LOW_PERCENTILE, HIGH_PERCENTILE), axis=0)
    return SpectrumSummary(mean.mean(axis=0), low, high, int(having.sum()))


def build_embedding(
    extractor: str | None, extracted_sets: Mapping[str, ExtractedSet], *, seed: int
) -> Embedding | None:
    """Return features in the plane of the two directions in which real cubes and samples together spread most.

    Features are standardised by the reference, never by all cubes. The directions are spherical principal components
    (Locantore et al. 1999): every cube counts by its direction from the centre alone, so that a few wild samples do
    not decide. Both sides weigh the same in them, and the training set is laid on afterwards. Up to :data:`MAX_POINTS`
    cubes of a set are drawn by content.

    Args:
        extractor: whose rows; None: there is none.
        extracted_sets: described sets by role; ``reference`` and ``samples`` are there.
        seed: of the draws.

    Returns:
        None where the extractor does not give one finite vector a cube, or there are fewer than three cubes a side.
    """
    if extractor is None or any(
        extractor not in extracted_sets[role].features.columns for role in ("reference", "samples")
    ):
        return None
    features: dict[str, NDArray[Any]] = {}
    ids: dict[str, tuple[str, ...]] = {}
    for role, described in extracted_sets.items():
        rows = described.features
        if extractor not in rows.columns:
            continue
        picked = np.sort(create_rng(seed, f"embedding of {role}").permutation(len(rows))[:MAX_POINTS])
        features[role] = rows[extractor][picked].reshape(len(picked), -1).astype(np.float64)
        ids[role] = tuple(str(each) for each in rows.ids[picked])
    if not all(np.isfinite(each).all() for each in features.values()) or min(map(len, features.values())) < 3:
        return None
    mean, deviation = features["reference"].mean(axis=0), features["reference"].std(axis=0, ddof=1)
    varies = deviation > 1e-6 * np.abs(features["reference"]).max(axis=0)
    if not varies.any():
        return None
    scale = np.maximum(deviation, MIN_STD_RATIO * np.median(deviation[varies]))
    scaled = {role: (each - mean) / scale for role, each in features.items()}
    centre, axes, explained = _fit_plane(scaled["reference"], scaled["samples"])
    points = tuple(
        EmbeddedPoints(role, (each - centre) @ axes.T, ids[role], len(extracted_sets[role].features))
        for role, each in scaled.items()
    )
    return Embedding(extractor, scaled["samples"].shape[1], explained, points)


def _fit_plane(real: NDArray[Any], generated: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float]]:
    """Return the centre, two spherical principal axes ``(2, d)`` of both sides at equal weight, and their shares."""
    from scipy.linalg import svd

    centre = (np.median(real, axis=0) + np.median(generated, axis=0)) / 2
    both = np.concatenate([_normalize_rows(side - centre) / np.sqrt(len(side)) for side in (real, generated)])
    _, lengths, axes = svd(both, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)  # signs are a matter of convention
    shares = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    if len(axes) < 2:  # one feature alone
        axes, shares = np.concatenate([axes, np.zeros_like(axes)]), np.array([*shares, 0.0])
    return centre, axes, (float(shares[0]), float(shares[1]))


def _normalize_rows(rows: NDArray[Any]) -> NDArray[Any]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def build_histograms(values_by_metric: Mapping[str, Mapping[str, Any]], *, seed: int) -> Iterator[MetricValues]:
    """Yield what metrics measured of single cubes or pairs, finite values alone, up to 20,000 of a side."""
    for metric, found in values_by_metric.items():
        for label, sides in found.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                real, generated = (_subsample(np.asarray(side, dtype=np.float64), seed) for side in sides)
            if len(real) > 1 and len(generated) > 1:
                yield MetricValues(metric, label, real, generated)


def _subsample(measurements: NDArray[Any], seed: int) -> NDArray[Any]:
    finite = np.sort(measurements[np.isfinite(measurements)])
    if len(finite) <= MAX_VALUES:
        return finite
    picked = create_rng(seed, "shown values").permutation(len(finite))[:MAX_VALUES]
    return np.sort(finite[picked])


MAX_CUBES = 4  # of each side that are shown
MAX_PAIRS = 6  # nearest pairs that are shown


def build_figure_data(
    inputs: ExtractedInputs, scores: Sequence[Score], context: RunContext, *, extractor: str | None
) -> FigureData:
    """Return what a report shows besides its scores.

    Args:
        inputs: the sets.
        scores: their scores; those with ``nearest_pairs`` say which pairs are shown.
        context: its seed draws, and what metrics left in ``run.shown`` becomes histograms.
        extractor: whose rows are laid in the plane, or None.
    """
    info = inputs.sets.reference.info
    real, generated = (_sample_cubes(inputs, role, context.seed) for role in ("reference", "samples"))
    shape = tuple(np.max([cube.shape[1:] for _, cube in (*real, *generated)], axis=0).tolist())
    cubes = [cube for _, cube in real]
    known: dict[str, Any] = {"wavelengths_known": info.wavelengths_known, "units": info.units, "shape": shape}
    painter = CubeRenderer.from_reference(cubes, info.wavelengths, **known)
    small = CubeRenderer.from_reference(cubes, info.wavelengths, **known, max_side=MAX_SIDE // 2)
    sets = {role: getattr(inputs, role) for role, _ in inputs.sets.items()}
    order = [role for role in ("train", "reference", "samples") if role in sets]
    return FigureData(
        wavelengths=info.wavelengths,
        style=painter.build_style(),
        real=tuple(painter.render_cube(cube, id) for id, cube in real),
        generated=tuple(painter.render_cube(cube, id) for id, cube in generated),
        nearest_pairs=tuple(_iter_nearest_pairs(inputs, scores, small)),
        spectra=tuple(build_spectra(inputs.reference.features, inputs.samples.features)),
        embedding=build_embedding(extractor, {role: sets[role] for role in order}, seed=context.seed),
        metric_values=tuple(build_histograms(context.histogram_values or {}, seed=context.seed)),
    )


def find_embedding_extractor(metrics: Sequence[Metric]) -> str | None:
    """Return the feature extractor whose rows are to be shown in the plane: that of the first metric with a choice."""
    chosen = (getattr(getattr(metric, "options", None), "extractor", None) for metric in metrics)
    return next((each for each in chosen if isinstance(each, str)), None)


def apply_placement(data: NDArray[Any], placement: str) -> NDArray[Any]:
    """Return a cube ``(band, y, x)`` turned and mirrored as a metric says that it fits best.

    Args:
        data: the cube.
        placement: in words, as ``"turned 90 degrees, mirrored, shifted by (1, 0) cells"``; shifts are left out.
    """
    angle = re.search(r"turned (90|180|270) degrees", placement)
    found = np.rot90(data, int(angle[1]) // 90 if angle else 0, axes=(-2, -1))
    return found[..., ::-1] if "mirrored" in placement else found


def _sample_cubes(inputs: ExtractedInputs, role: str, seed: int) -> list[tuple[str, NDArray[Any]]]:
    """Return ids and pixels of some cubes, drawn by content."""
    found = getattr(inputs, role)
    picked = create_rng(seed, f"pictures of {role}").permutation(len(found.index))[:MAX_CUBES]
    return [_read_cube(inputs, role, int(found.index[row])) for row in picked]


def _read_cube(inputs: ExtractedInputs, role: str, index: int) -> tuple[str, NDArray[Any]]:
    cube = getattr(inputs.sets, role)[index]
    return cube.id, mask_invalid(cube.data, compute_valid_mask(cube, inputs.plans[role].field))


def _iter_nearest_pairs(
    inputs: ExtractedInputs, scores: Sequence[Score], painter: CubeRenderer
) -> Iterator[NearestPair]:
    """Yield the nearest pairs that a score names by their ids."""
    if inputs.sets.train is None:
        return
    places = {
        "sample": ("samples", {id: i for i, id in enumerate(inputs.sets.samples.ids)}),
        "training": ("train", {id: i for i, id in enumerate(inputs.sets.train.ids)}),
    }
    for named in _get_nearest_pairs(scores)[:MAX_PAIRS]:
        if not all(named.get(side) in ids for side, (_, ids) in places.items()):
            continue
        read = {side: _read_cube(inputs, role, ids[named[side]]) for side, (role, ids) in places.items()}
        placement = str(named.get("placement", ""))
        sample, training = _render_cube(painter, read["sample"], placement), _render_cube(painter, read["training"], "")
        distance = named.get("distance")
        yield NearestPair(sample, training, distance if isinstance(distance, float) else None, placement)


def _render_cube(painter: CubeRenderer, cube: tuple[str, NDArray[Any]], placement: str) -> RenderedCube:
    id, data = cube
    return painter.render_cube(apply_placement(data, placement), id)


def _get_nearest_pairs(scores: Sequence[Score]) -> list[Mapping[str, Any]]:
    """Return the first score's pairs that name a sample and a training cube."""
    for score in scores:
        pairs = [pair for pair in score.details.get("nearest_pairs") or [] if {"sample", "training"} <= pair.keys()]
        if pairs:
            return pairs
    return []
