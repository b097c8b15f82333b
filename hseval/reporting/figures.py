"""Builds a report's figure data: the few cubes in its images are read again, everything else comes from features."""

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
from hseval.core.options import get_option_values
from hseval.data.field_of_view import find_valid_pixels
from hseval.data.preprocessing import get_fov_mask
from hseval.reporting.preview.render import MAX_SIDE, CubeRenderer, mask_invalid
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.evaluation import HistogramValues
    from hseval.core.feature_table import FeatureTable
    from hseval.core.protocols import Metric
    from hseval.core.report import Score
    from hseval.pipeline.context import ExtractedInputs
    from hseval.pipeline.extract import ExtractedSet

MEAN_COLUMN, PIXEL_COUNT_COLUMN = "spectra/mean", "spectra/pixels"
LOW_PERCENTILE, HIGH_PERCENTILE = 10.0, 90.0  # percentiles over cubes: the range of mean spectra
MIN_STD_RATIO = 0.03  # of the median standard deviation: lower bound of a feature's, as in the metrics of features
MAX_POINTS = 1000  # of a set in the plane
MAX_VALUES = 20_000  # of a side in a histogram


def build_spectra(real: FeatureTable, generated: FeatureTable) -> Iterator[StructureSpectra]:
    """Yield the mean spectra of each structure that both sides have; nothing where no metric needed spectra."""
    if MEAN_COLUMN not in real.columns or MEAN_COLUMN not in generated.columns:
        return
    for name in real.structures:
        if name in generated.structures:
            sides = [_summarize_spectra(features, name) for features in (real, generated)]
            if sides[0] is not None and sides[1] is not None:
                yield StructureSpectra(name, sides[0], sides[1])


def _summarize_spectra(features: FeatureTable, structure: str) -> SpectrumSummary | None:
    index = features.structures.index(structure)
    has_structure = features[PIXEL_COUNT_COLUMN][:, index] > 0
    if not has_structure.any():
        return None
    mean = np.asarray(features[MEAN_COLUMN][has_structure, index], dtype=np.float64)
    low, high = np.percentile(mean, (LOW_PERCENTILE, HIGH_PERCENTILE), axis=0)
    return SpectrumSummary(mean.mean(axis=0), low, high, int(has_structure.sum()))


def build_embedding(
    extractor: str | None, extracted_sets: Mapping[str, ExtractedSet], *, seed: int
) -> Embedding | None:
    """Return features in the plane of the two directions of largest variance over real cubes and samples together.

    Features are standardized by the reference, never by all cubes. The directions are spherical principal components
    (Locantore et al. 1999): only a cube's direction from the center counts, so that a few outliers do not dominate.
    Both sides have the same weight, and the training set is projected afterwards. Up to :data:`MAX_POINTS` cubes of a
    set are drawn by content.

    Args:
        extractor: name of the feature extractor, or None.
        extracted_sets: the sets' features by role, with ``reference`` and ``samples``.
        seed: of the draws.

    Returns:
        None where the extractor does not give one finite vector per cube, or there are fewer than three cubes per side.
    """
    if extractor is None or any(
        extractor not in extracted_sets[role].features.columns for role in ("reference", "samples")
    ):
        return None
    features: dict[str, NDArray[Any]] = {}
    ids: dict[str, tuple[str, ...]] = {}
    for role, extracted in extracted_sets.items():
        table = extracted.features
        if extractor not in table.columns:
            continue
        sampled = np.sort(create_rng(seed, f"embedding of {role}").permutation(len(table))[:MAX_POINTS])
        features[role] = table[extractor][sampled].reshape(len(sampled), -1).astype(np.float64)
        ids[role] = tuple(str(cube_id) for cube_id in table.ids[sampled])
    if not all(np.isfinite(vectors).all() for vectors in features.values()) or min(map(len, features.values())) < 3:
        return None
    mean, std = features["reference"].mean(axis=0), features["reference"].std(axis=0, ddof=1)
    varies = std > 1e-6 * np.abs(features["reference"]).max(axis=0)
    if not varies.any():
        return None
    scale = np.maximum(std, MIN_STD_RATIO * np.median(std[varies]))
    scaled = {role: (vectors - mean) / scale for role, vectors in features.items()}
    center, axes, explained = _fit_plane(scaled["reference"], scaled["samples"])
    points = tuple(
        EmbeddedPoints(role, (vectors - center) @ axes.T, ids[role], len(extracted_sets[role].features))
        for role, vectors in scaled.items()
    )
    return Embedding(extractor, scaled["samples"].shape[1], explained, points)


def _fit_plane(real: NDArray[Any], generated: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[float, float]]:
    """Return the center, two spherical principal axes ``(2, d)`` of both sides at equal weight, and their shares."""
    from scipy.linalg import svd

    center = (np.median(real, axis=0) + np.median(generated, axis=0)) / 2
    directions = np.concatenate([_normalize_rows(side - center) / np.sqrt(len(side)) for side in (real, generated)])
    _, lengths, axes = svd(directions, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)  # signs by convention
    shares = lengths**2 / max(float((lengths**2).sum()), 1e-300)
    if len(axes) < 2:  # one feature alone
        axes, shares = np.concatenate([axes, np.zeros_like(axes)]), np.array([*shares, 0.0])
    return center, axes, (float(shares[0]), float(shares[1]))


def _normalize_rows(vectors: NDArray[Any]) -> NDArray[Any]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))


def build_histograms(values_by_metric: Mapping[str, HistogramValues], *, seed: int) -> Iterator[MetricValues]:
    """Yield the values of single cubes or pairs that metrics measured: finite ones, up to ``MAX_VALUES`` per side."""
    for metric, values_by_label in values_by_metric.items():
        for label, sides in values_by_label.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                real, generated = (_subsample(np.asarray(side, dtype=np.float64), seed) for side in sides)
            if len(real) > 1 and len(generated) > 1:
                yield MetricValues(metric, label, real, generated)


def _subsample(measurements: NDArray[Any], seed: int) -> NDArray[Any]:
    finite = np.sort(measurements[np.isfinite(measurements)])
    if len(finite) <= MAX_VALUES:
        return finite
    sampled = create_rng(seed, "shown values").permutation(len(finite))[:MAX_VALUES]
    return np.sort(finite[sampled])


MAX_CUBES = 4  # of each side in the figures
MAX_PAIRS = 6  # nearest pairs in the figures


def build_figure_data(
    inputs: ExtractedInputs,
    scores: Sequence[Score],
    histogram_values: Mapping[str, HistogramValues],
    *,
    extractor: str | None,
    seed: int,
) -> FigureData:
    """Return the data for a report's figures.

    Args:
        inputs: the sets and their features.
        scores: their scores; the first with ``nearest_pairs`` decides which pairs are in the figures.
        histogram_values: by metric, what it measured of single cubes or pairs.
        extractor: whose features are projected onto the plane, or None.
        seed: of the draws.
    """
    info = inputs.sets.reference.info
    real, generated = (_sample_cubes(inputs, role, seed) for role in ("reference", "samples"))
    shape = tuple(np.max([cube.shape[1:] for _, cube in (*real, *generated)], axis=0).tolist())
    cubes = [cube for _, cube in real]
    render_options: dict[str, Any] = {"wavelengths_known": info.wavelengths_known, "units": info.units, "shape": shape}
    renderer = CubeRenderer.from_reference(cubes, info.wavelengths, **render_options)
    pair_renderer = CubeRenderer.from_reference(cubes, info.wavelengths, **render_options, max_side=MAX_SIDE // 2)
    order = [role for role in ("train", "reference", "samples") if role in inputs.extracted]
    return FigureData(
        wavelengths=info.wavelengths,
        style=renderer.build_style(),
        real=tuple(renderer.render_cube(cube, id) for id, cube in real),
        generated=tuple(renderer.render_cube(cube, id) for id, cube in generated),
        nearest_pairs=tuple(_iter_nearest_pairs(inputs, scores, pair_renderer)),
        spectra=tuple(build_spectra(inputs.reference.features, inputs.samples.features)),
        embedding=build_embedding(extractor, {role: inputs.extracted[role] for role in order}, seed=seed),
        metric_values=tuple(build_histograms(histogram_values, seed=seed)),
    )


def find_embedding_extractor(metrics: Sequence[Metric]) -> str | None:
    """Return the feature extractor of the plane: that of the first metric with an option for it."""
    extractors = (get_option_values(metric).get("extractor") for metric in metrics)
    return next((extractor for extractor in extractors if isinstance(extractor, str)), None)


def apply_placement(data: NDArray[Any], placement: str) -> NDArray[Any]:
    """Return a cube ``(band, y, x)`` rotated and mirrored by a metric's ``placement``.

    Args:
        data: the cube.
        placement: such as ``"turned 90 degrees, mirrored, shifted by (1, 0) cells"``; shifts are ignored.
    """
    angle = re.search(r"turned (90|180|270) degrees", placement)
    rotated = np.rot90(data, int(angle[1]) // 90 if angle else 0, axes=(-2, -1))
    return rotated[..., ::-1] if "mirrored" in placement else rotated


def _sample_cubes(inputs: ExtractedInputs, role: str, seed: int) -> list[tuple[str, NDArray[Any]]]:
    """Return ids and pixels of random cubes, drawn by content."""
    extracted = inputs.extracted[role]
    rows = create_rng(seed, f"pictures of {role}").permutation(len(extracted.index))[:MAX_CUBES]
    return [_read_cube(inputs, role, int(extracted.index[row])) for row in rows]


def _read_cube(inputs: ExtractedInputs, role: str, index: int) -> tuple[str, NDArray[Any]]:
    cube = inputs.sets[role][index]
    return cube.id, mask_invalid(cube.data, find_valid_pixels(cube.data, get_fov_mask(cube, inputs.plans[role].field)))


def _iter_nearest_pairs(
    inputs: ExtractedInputs, scores: Sequence[Score], renderer: CubeRenderer
) -> Iterator[NearestPair]:
    """Yield the nearest pairs that a score lists by their ids."""
    if inputs.sets.train is None:
        return
    index_by_id = {
        "sample": ("samples", {id: i for i, id in enumerate(inputs.sets.samples.ids)}),
        "training": ("train", {id: i for i, id in enumerate(inputs.sets.train.ids)}),
    }
    for pair in _get_nearest_pairs(scores)[:MAX_PAIRS]:
        if not all(pair[side] in ids for side, (_, ids) in index_by_id.items()):
            continue
        cubes = {side: _read_cube(inputs, role, ids[pair[side]]) for side, (role, ids) in index_by_id.items()}
        placement = pair["placement"]
        sample, training = (
            _render_cube(renderer, cubes["sample"], placement),
            _render_cube(renderer, cubes["training"], ""),
        )
        yield NearestPair(sample, training, pair["distance"], placement)


def _render_cube(renderer: CubeRenderer, cube: tuple[str, NDArray[Any]], placement: str) -> RenderedCube:
    id, data = cube
    return renderer.render_cube(apply_placement(data, placement), id)


def _get_nearest_pairs(scores: Sequence[Score]) -> list[Mapping[str, Any]]:
    """Return the pairs of the first score that has some."""
    return next((pairs for score in scores if (pairs := score.details.get("nearest_pairs"))), [])
