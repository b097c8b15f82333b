"""Figure data of a report: pictures, spectra and points, small enough for one HTML file.

Only records: :mod:`hseval.reporting.figures` builds them, renderers draw them; a report read from JSON has none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Float64Array = NDArray[np.float64]
    Bytes = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class RenderedCube:
    """One cube, rendered.

    Attributes:
        id: its id in the set.
        color: uint8 ``(y, x, 3)`` sRGB by the CIE observer; None where the bands do not determine it.
        composite: uint8 ``(y, x, 3)``, three bands as false color.
        gray: uint8 ``(rendered band, y, x)``, one picture a band.
        valid_mask: bool ``(y, x)``; invalid pixels are transparent.
        spectrum: ``(band,)`` mean over the valid pixels.
    """

    id: str
    color: Bytes | None
    composite: Bytes
    gray: Bytes
    valid_mask: NDArray[np.bool_]
    spectrum: Float64Array


@dataclasses.dataclass(frozen=True)
class RenderStyle:
    """How pictures were rendered, the same for all pictures of a report.

    Attributes:
        color_label: name of the color pictures: ``"true color"``, ``"rough color"``; None: there are none.
        color_note: sentences on how colors were computed, and which part of them is not measured.
        composite: which bands are red, green and blue.
        band_centers: ``(rendered band,)`` centers of the bands of ``RenderedCube.gray``.
        band_count: number of bands of the cubes.
        stretch: how values were mapped to gray levels.
        downsampling_factor: largest factor by which the side of a picture was reduced.
    """

    color_label: str | None
    color_note: str
    composite: str
    band_centers: tuple[float, ...]
    band_count: int
    stretch: str
    downsampling_factor: int


@dataclasses.dataclass(frozen=True, eq=False)
class NearestPair:
    """A sample and its nearest training cube; the sample is rotated, flipped and shifted to match it best."""

    sample: RenderedCube
    training: RenderedCube
    distance: float | None
    placement: str


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumSummary:
    """Mean spectra of a structure: mean, 10th and 90th percentile over cubes, ``(band,)`` each."""

    mean: Float64Array
    low: Float64Array
    high: Float64Array
    cube_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class StructureSpectra:
    """The mean spectra of one structure, of real cubes and of samples."""

    structure: str
    real: SpectrumSummary
    generated: SpectrumSummary


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedPoints:
    """Some of a set's ``total_count`` cubes in the plane: ``coordinates`` ``(n, 2)``."""

    role: str
    coordinates: Float64Array
    ids: tuple[str, ...]
    total_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Feature vectors projected onto the plane of their largest variance.

    Attributes:
        extractor: name of the extractor.
        dimension: of the feature vectors.
        explained_variance_ratio: share of the variance of unit vectors along the two axes.
        points: one entry a set.
    """

    extractor: str
    dimension: int
    explained_variance_ratio: tuple[float, float]
    points: tuple[EmbeddedPoints, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class MetricValues:
    """A metric's values of single cubes or pairs, real and generated, for a histogram.

    Attributes:
        metric: its name.
        label: description of the values.
        real: ``(n,)``.
        generated: ``(m,)``.
    """

    metric: str
    label: str
    real: Float64Array
    generated: Float64Array


@dataclasses.dataclass(frozen=True)
class SensitivitySection:
    """The results of ``hseval qualify`` on the sensitivity of the scores.

    Attributes:
        source: the file they were read from.
        sentences: one a score, as equivalent severities.
        warnings: limits of these sentences.
        columns: the qualified metrics.
        rows: for each degradation its name, the unit of its severity, and the result of every metric.
        legend: how to read the cells.
    """

    source: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    legend: str


@dataclasses.dataclass(frozen=True)
class ParetoSection:
    """Quality against speed over the runs of a sweep.

    Attributes:
        source: the sweep's folder or file.
        x: name of the shared x axis.
        headers: column heads of the table, ``x`` first.
        rows: for each run its name, the formatted values, and whether it is on a front.
        plot_svg: the plot as SVG.
    """

    source: str
    x: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], bool], ...]
    plot_svg: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class FigureData:
    """All figure data of a report.

    Attributes:
        wavelengths: ``(band,)``.
        style: how the pictures were rendered; None: there are none.
        real: reference cubes, selected by content.
        generated: samples, selected by content.
        nearest_pairs: the nearest pairs of samples and training cubes.
        spectra: one entry a structure.
        embedding: None where no extractor returns one vector per cube.
        metric_values: values of single cubes or pairs.
        sensitivity: results of ``hseval qualify``, where its file was passed.
        pareto: a sweep's plot, where its results were passed.
    """

    wavelengths: NDArray[Any] | None = None
    style: RenderStyle | None = None
    real: tuple[RenderedCube, ...] = ()
    generated: tuple[RenderedCube, ...] = ()
    nearest_pairs: tuple[NearestPair, ...] = ()
    spectra: tuple[StructureSpectra, ...] = ()
    embedding: Embedding | None = None
    metric_values: tuple[MetricValues, ...] = ()
    sensitivity: SensitivitySection | None = None
    pareto: ParetoSection | None = None
