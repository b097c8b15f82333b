"""The hooks that plugins implement, and the shapes of what the hooks return.

Everything built in is registered through these same hooks (:mod:`hseval.builtin`). A hook returns classes;
a class is built with an instance of its ``Options`` dataclass when a command needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TextIO

import pluggy

from hseval.core.report import Direction

if TYPE_CHECKING:
    import click
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.core.report import Report

hookspec = pluggy.HookspecMarker("hseval")
hookimpl = pluggy.HookimplMarker("hseval")


class Reader(Protocol):
    """Opens one kind of file or folder as a set of cubes."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def claims(self, path: Path) -> bool:
        """Say, from the name and first bytes, whether this reader is the one for ``path``."""

    def open(self, path: Path, *, layout: str | None = None, wavelengths: NDArray[Any] | None = None) -> CubeSet:
        """Open ``path`` from its headers. ``layout`` is ``"byx"`` or ``"yxb"``, ``wavelengths`` nm by band as stored.

        Raises:
            HsevalError: what was found, and what was expected.
        """


class Extractor(Protocol):
    """Maps a batch of cubes to rows.

    A class names itself (``name``), its ``version`` (raised whenever the same input gives other rows: the cache
    keys on it) and a ``summary``; ``Options`` is a frozen dataclass. Optional: ``fingerprint()`` returns what else
    decides the rows (the hash of a weights file, say); ``reads_structures = False`` says that they depend on no mask
    but ``fov``; ``needs_nm = True``, that there are none without wavelengths in nm; ``device`` is set by the core
    before the first call.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
        """Describe a batch.

        Args:
            cubes: float32 ``(n, band, y, x)``, cropped to the field of view's bounding box. Invalid pixels
                are NaN in every band: handle them, never count them.
            wavelengths: ``(band,)``, ascending.
            masks: bool ``(n, y, x)`` by structure; ``masks["fov"]`` is always there and marks the valid pixels.

        Returns:
            float rows ``(n, ...)``, or a mapping of them; row i depends on cube i alone.
        """


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a metric asks of the core.

    Attributes:
        features: names of extractors whose columns ``compare`` reads.
        pairs: number of seeded pairs of cubes to stream to ``describe_block`` (0: none). The set of rows is
            then one row a block of cubes, and blocks are what splits draw.
        cubes: the metric re-reads cubes: ``relate`` gets the sets as ``cubes``, and ``rows.ids`` name the cubes.
        train: there is no value without a training set.
        nm: there is no value without wavelengths in nm.
    """

    features: tuple[str, ...] = ()
    pairs: int = 0
    cubes: bool = False
    train: bool = False
    nm: bool = False


@dataclasses.dataclass(frozen=True)
class ScoreParts:
    """What ``compare`` returns where a bare float is not enough.

    Attributes:
        value: the headline.
        details: what stands behind it, by name.
        signed_difference: where the headline is the absolute value of a difference: the difference. Its interval is then that
            of an absolute value, which has a corner at 0.
    """

    value: float
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    signed: float | None = None


class Metric(Protocol):
    """Compares two sets of rows.

    ``Options`` is a frozen dataclass; a metric with ``needs.pairs`` has a ``version`` (raised whenever the same block
    gives another row: the cache keys on it).

    Optional methods. ``relate(*, real, generated, train)`` gets the full sets once, before they are split, and
    returns them with columns added that need more than one set (nearest training cube, shared bin edges).
    ``describe_block(cubes, *, field, reference)`` is what ``needs.pairs`` streams to: cubes ``(n, band, y, x)`` and
    their fields ``(n, y, x)``, with the reference's rows; it returns one row for the block, a mapping of arrays
    whose first axis is 1. ``shown_values(*, real, generated)`` gets the related rows and returns what the metric measured
    of single cubes or pairs, label -> (real values, sample values), for the histograms of an HTML report.

    What intervals can use, all of it optional: ``bounds``, the least and largest value that there can be (``(0, inf)``
    marks a distance, whose interval is taken on the logarithm's scale); ``relates_anew = True`` says that ``relate``
    depends on which reference cubes there are (as a scale does) and has to be run again with some left out;
    ``headline(*, real, generated, train=None) -> float`` returns the value of ``compare`` alone, as it is called some
    thousand times. ``expected(*, real, generated, size, draws, rngs) -> (draws, 2)`` stands in for the jackknife where the
    value hangs on a few extreme cubes: it draws what the data say of the expected value at ``size`` cubes a side, and
    of its floor; ``rngs`` are the reference's (the same for all samples that are held against it) and the samples'.
    See ``docs/intervals.md``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    better: ClassVar[Direction]

    @property
    def needs(self) -> Needs:
        """What the core has to compute first (may depend on the options)."""

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> float | ScoreParts:
        """Return the headline, with details where there are any.

        Raises:
            NotComputable: why there is no value.
        """


class Segmenter(Protocol):
    """Finds structures in cubes that come without masks.

    A class names itself as an extractor does (``version`` is raised whenever the same cubes give other masks).
    Cubes come as extractors get them: cropped to the field of view's bounding box, invalid pixels NaN in every band.
    What was fitted travels to worker processes by pickling. Optional: ``fingerprint()`` returns what else decides the
    masks; ``device`` is set by the core before ``fit``; ``state() -> Mapping[str, NDArray]`` and
    ``restore(state, structures)`` let the core keep a fitted segmenter in its cache, as arrays.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]

    def fit(self, data: CubeSet) -> None:
        """Learn every structure of ``data`` but ``fov``; a cube without a mask has none of that structure.

        The cubes come in the order of their content and may differ in shape. The same cubes give the same segmenter.
        """

    def segment(self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any]) -> Mapping[str, NDArray[np.bool_]]:
        """Return bool ``(n, y, x)`` by structure, for every structure it was fitted on; mask i by cube i alone."""


class Sample(NamedTuple):
    """What a generator yields: float32 ``(band, y, x)``, bool ``(y, x)`` by structure, and an id."""

    cube: NDArray[Any]
    masks: Mapping[str, NDArray[Any]]
    id: str


class Generator(Protocol):
    """Something that is fitted on a set (or needs no fitting) and then yields cubes.

    ``fit`` is left out where there is nothing to fit. After ``load`` or ``fit`` the attribute ``wavelengths``
    holds the band centres in nm of what ``sample`` yields.

    Optional, for sweeps over options. ``sampling`` names the options that ``sample`` alone depends on: they vary
    without another fit. ``stages`` maps the stages of a fit that configurations may share, in order, to the names of
    the options that decide each (with those of the stages before it). ``fit`` then takes ``until`` (the name of the
    last stage to do) and ``start`` (a folder that a fit left which had all those options, seed and data in common: take
    its stages over, and leave it as it is). A ``fit`` that takes ``resume`` gets True, and goes on with what it finds
    in ``out`` of a fit that was cut off; without, the folder is emptied first.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    wavelengths: NDArray[Any]

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0) -> None:
        """Fit on ``data`` and leave all that :meth:`load` needs in the folder ``out``."""

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Make ready to sample: from the folder that ``fit`` left, or, without fitting, from the options."""

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i depends on (seed, i) alone, whatever n and start are."""


class Renderer(Protocol):
    """Writes a report in one format."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the report to a text stream."""


@hookspec
def hseval_readers() -> Sequence[type[Reader]]:  # type: ignore[empty-body]
    """Return reader classes."""


@hookspec
def hseval_extractors() -> Sequence[type[Extractor]]:  # type: ignore[empty-body]
    """Return extractor classes."""


@hookspec
def hseval_metrics() -> Sequence[type[Metric]]:  # type: ignore[empty-body]
    """Return metric classes."""


@hookspec
def hseval_segmenters() -> Sequence[type[Segmenter]]:  # type: ignore[empty-body]
    """Return segmenter classes."""


@hookspec
def hseval_generators() -> Sequence[type[Generator]]:  # type: ignore[empty-body]
    """Return generator classes."""


@hookspec
def hseval_renderers() -> Sequence[type[Renderer]]:  # type: ignore[empty-body]
    """Return renderer classes."""


@hookspec
def hseval_commands(cli: click.Group) -> None:
    """Add click commands to the command line."""
