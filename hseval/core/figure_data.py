"""What a report shows besides its scores: pictures, spectra and points, small enough to travel in one file.

Records alone. :mod:`hseval.reporting.figures` fills them, renderers draw them; a report read from JSON has none.
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
    """One cube as it is shown.

    Attributes:
        id: what the set calls it.
        color: uint8 ``(y, x, 3)`` sRGB by the CIE observer; None where the bands do not tell it.
        composite: uint8 ``(y, x, 3)``, three bands as false colour.
        gray: uint8 ``(shown band, y, x)``, one picture a band.
        valid_mask: bool ``(y, x)``; pixels that are not are shown as nothing.
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
    """How pictures were made; one for all pictures of a report.

    Attributes:
        color_label: what the colour pictures are called: ``"true colour"``, ``"rough colour"``; None: there are none.
        color_note: sentences on how, and on what of it is not measured.
        composite: which bands are red, green and blue.
        band_centers: ``(shown band,)`` centres of the bands of ``Shown.grey``.
        band_count: how many bands the cubes have.
        stretch: how values became grey.
        downsampling_factor: how many times a picture's side was divided to fit, at most.
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
    """A sample beside the training cube that it is nearest to; the sample is turned as it fits best."""

    sample: RenderedCube
    training: RenderedCube
    distance: float | None
    placement: str


@dataclasses.dataclass(frozen=True, eq=False)
class SpectrumSummary:
    """Cubes' mean spectra of a structure: their mean and 10th and 90th percentile over cubes, ``(band,)`` each."""

    mean: Float64Array
    low: Float64Array
    high: Float64Array
    cube_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class StructureSpectra:
    """The mean spectra of one structure on both sides."""

    structure: str
    real: SpectrumSummary
    generated: SpectrumSummary


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedPoints:
    """Some cubes of a set in the plane: ``coordinates`` ``(n, 2)``, of ``total_count``."""

    role: str
    coordinates: Float64Array
    ids: tuple[str, ...]
    total_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Feature rows seen from where they spread most.

    Attributes:
        extractor: whose rows.
        dimension: of a row.
        explained_variance_ratio: share of the directions' spread along the two axes.
        points: one entry a set.
    """

    extractor: str
    dimension: int
    explained_variance_ratio: tuple[float, float]
    points: tuple[EmbeddedPoints, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class MetricValues:
    """What a metric measured of single cubes or pairs, on both sides: for a histogram.

    Attributes:
        metric: its name.
        label: what the values are.
        real: ``(n,)``.
        generated: ``(m,)``.
    """

    metric: str
    label: str
    real: Float64Array
    generated: Float64Array


@dataclasses.dataclass(frozen=True)
class SensitivitySection:
    """What ``hseval qualify`` says of the scores.

    Attributes:
        source: the file it was read from.
        sentences: one a score, as severities.
        warnings: what is to be held against them.
        columns: the metrics that were qualified.
        rows: of each degradation its name, the unit of its severity, and what every metric sees of it.
        legend: how to read these.
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
        x: what the plot's panels share.
        headers: the figures of the table, ``x`` first.
        rows: of each run its name, the figures in words, and whether it is on a front.
        plot_svg: the plot as SVG.
    """

    source: str
    x: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], bool], ...]
    plot_svg: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class FigureData:
    """Everything that is shown.

    Attributes:
        wavelengths: ``(band,)``.
        style: how the pictures were made; None: there are none.
        real: reference cubes, drawn by content.
        generated: samples, drawn by content.
        nearest_pairs: the nearest pairs of samples and training cubes.
        spectra: one entry a structure.
        embedding: None where no extractor gives one vector a cube.
        metric_values: what metrics measured of single cubes or pairs.
        sensitivity: what ``hseval qualify`` says, where its file was given.
        pareto: a sweep's plot, where its results were given.
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
