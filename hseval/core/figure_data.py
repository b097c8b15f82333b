"""What a report shows besides its scores: pictures, spectra and points, small enough to travel in one file.

Records alone. :mod:`hseval.reporting.figures` fills them, renderers draw them; a report read from JSON has none.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bytes = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """One cube as it is shown.

    Attributes:
        id: what the set calls it.
        colour: uint8 ``(y, x, 3)`` sRGB by the CIE observer; None where the bands do not tell it.
        composite: uint8 ``(y, x, 3)``, three bands as false colour.
        grey: uint8 ``(shown band, y, x)``, one picture a band.
        valid: bool ``(y, x)``; pixels that are not are shown as nothing.
        spectrum: ``(band,)`` mean over the valid pixels.
    """

    id: str
    colour: Bytes | None
    composite: Bytes
    grey: Bytes
    valid: NDArray[np.bool_]
    spectrum: Floats


@dataclasses.dataclass(frozen=True)
class Look:
    """How pictures were made; one for all pictures of a report.

    Attributes:
        colour: what the colour pictures are called: ``"true colour"``, ``"rough colour"``; None: there are none.
        colour_told: sentences on how, and on what of it is not measured.
        composite: which bands are red, green and blue.
        bands: ``(shown band,)`` centres of the bands of ``Shown.grey``.
        all_bands: how many bands the cubes have.
        stretch: how values became grey.
        reduced: how many times a picture's side was divided to fit, at most.
    """

    colour: str | None
    colour_told: str
    composite: str
    bands: tuple[float, ...]
    all_bands: int
    stretch: str
    reduced: int


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A sample beside the training cube that it is nearest to; the sample is turned as it fits best."""

    sample: Shown
    training: Shown
    distance: float | None
    placement: str


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """Cubes' mean spectra of a structure: their mean and 10th and 90th percentile over cubes, ``(band,)`` each."""

    mean: Floats
    low: Floats
    high: Floats
    cubes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Spectra:
    """The mean spectra of one structure on both sides."""

    structure: str
    real: Spread
    fake: Spread


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Some cubes of a set in the plane: ``places`` ``(n, 2)``, of ``total``."""

    role: str
    places: Floats
    ids: tuple[str, ...]
    total: int


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Feature rows seen from where they spread most.

    Attributes:
        extractor: whose rows.
        dimension: of a row.
        explained: share of the directions' spread along the two axes.
        points: one entry a set.
    """

    extractor: str
    dimension: int
    explained: tuple[float, float]
    points: tuple[Points, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Values:
    """What a metric measured of single cubes or pairs, on both sides: for a histogram.

    Attributes:
        metric: its name.
        label: what the values are.
        real: ``(n,)``.
        fake: ``(m,)``.
    """

    metric: str
    label: str
    real: Floats
    fake: Floats


@dataclasses.dataclass(frozen=True)
class Qualified:
    """What ``hseval qualify`` says of the scores.

    Attributes:
        source: the file it was read from.
        sentences: one a score, as doses.
        warnings: what is to be held against them.
        columns: the metrics that were qualified.
        rows: of each degradation its name, the unit of its dose, and what every metric sees of it.
        legend: how to read these.
    """

    source: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    legend: str


@dataclasses.dataclass(frozen=True)
class Swept:
    """Quality against speed over the runs of a sweep.

    Attributes:
        source: the sweep's folder or file.
        x: what the plot's panels share.
        heads: the figures of the table, ``x`` first.
        rows: of each run its name, the figures in words, and whether it is on a front.
        picture: the plot as SVG.
    """

    source: str
    x: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], bool], ...]
    picture: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Exhibits:
    """Everything that is shown.

    Attributes:
        wavelengths: ``(band,)``.
        look: how the pictures were made; None: there are none.
        real: reference cubes, drawn by content.
        fake: samples, drawn by content.
        pairs: the nearest pairs of samples and training cubes.
        spectra: one entry a structure.
        embedding: None where no extractor gives one vector a cube.
        values: what metrics measured of single cubes or pairs.
        qualified: what ``hseval qualify`` says, where its file was given.
        swept: a sweep's plot, where its results were given.
    """

    wavelengths: NDArray[Any] | None = None
    look: Look | None = None
    real: tuple[Shown, ...] = ()
    fake: tuple[Shown, ...] = ()
    pairs: tuple[Pair, ...] = ()
    spectra: tuple[Spectra, ...] = ()
    embedding: Embedding | None = None
    values: tuple[Values, ...] = ()
    qualified: Qualified | None = None
    swept: Swept | None = None
