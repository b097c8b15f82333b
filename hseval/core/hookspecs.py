"""The hooks that plugins implement, and the Protocols of the classes that hooks return.

Built-in classes are registered through the same hooks (:mod:`hseval.builtin`). A hook returns classes; a class is
instantiated with its ``Options`` dataclass when a command needs it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TextIO

import pluggy

from hseval.core.plugin_api import OldPluginError
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
        """Return whether this reader opens ``path``, by its name and first bytes."""

    def open(self, path: Path, *, layout: str | None = None, wavelengths: NDArray[Any] | None = None) -> CubeSet:
        """Open ``path`` from its headers. ``layout`` is ``"byx"`` or ``"yxb"``, ``wavelengths`` nm by band as stored.

        Raises:
            HsevalError: the file is not readable; the message names what was found and what was expected.
        """


class Extractor(Protocol):
    """Maps a batch of cubes to features.

    A class has a ``name``, a ``version`` (raise it whenever the same input gives other features: it is part of the
    cache key) and a ``summary``; ``Options`` is a frozen dataclass. Optional: ``fingerprint()`` returns what else
    decides the features (such as the hash of a weights file); ``reads_structures = False`` declares that they depend
    on no mask but ``fov``; ``needs_nm = True``, that they need wavelengths in nm; ``device`` is set by the core before
    the first call.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[Any] | Mapping[str, NDArray[Any]]:
        """Return the features of a batch.

        Args:
            cubes: float32 ``(n, band, y, x)``, cropped to the field of view's bounding box. Invalid pixels
                are NaN in every band and must not affect the features.
            wavelengths: ``(band,)``, ascending.
            masks: bool ``(n, y, x)`` by structure; ``masks["fov"]`` is always present and marks the valid pixels.

        Returns:
            float ``(n, ...)``, or a mapping of such arrays; row i depends on cube i alone.
        """


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a metric needs from the core.

    Attributes:
        features: names of extractors whose columns ``compare`` reads.
        pairs: number of seeded pairs of cubes to stream to ``describe_block`` (0: none). The feature table then
            has one row per block of cubes, and splits draw blocks.
        cubes: the metric reads cubes again: ``relate`` gets the sets as ``cubes``; the tables' ``ids`` name the cubes.
        train: the metric needs a training set.
        nm: the metric needs wavelengths in nm.
    """

    features: tuple[str, ...] = ()
    pairs: int = 0
    cubes: bool = False
    train: bool = False
    nm: bool = False

    def __new__(cls, *_: Any, **fields: Any) -> Needs:
        """Refuse fields of plugin API 1 with a message on what to rename, instead of a dataclass's TypeError."""
        if "rows" in fields:
            raise OldPluginError
        return super().__new__(cls)


@dataclasses.dataclass(frozen=True)
class ScoreParts:
    """A metric's result with details, which ``compare`` may return instead of a float.

    Attributes:
        value: the headline value.
        details: further results, by name.
        signed: the signed difference, where the headline is its absolute value. The interval is then that of an
            absolute value, which has a corner at 0.
    """

    value: float
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    signed: float | None = None

    @property
    def signed_value(self) -> float:
        """The signed difference where there is one, else the headline value."""
        return float(self.value if self.signed is None else self.signed)


class Metric(Protocol):
    """Compares the features of two sets.

    ``Options`` is a frozen dataclass; a metric with ``needs.pairs`` has a ``version`` (raise it whenever the same
    block gives another row: it is part of the cache key).

    Optional methods. ``relate(*, real, generated, train)`` gets the full feature tables once, before they are split,
    and returns them with added columns that need more than one set (nearest training cube, shared bin edges).
    ``describe_block(cubes, *, field, reference)`` receives the pairs of ``needs.pairs``: cubes ``(n, band, y, x)`` and
    their fields of view ``(n, y, x)``, with the reference's features; it returns one row for the block, a mapping of
    arrays whose first axis is 1. ``shown_values(*, real, generated)`` gets the tables that ``relate`` returned, and
    returns values of single cubes or pairs, label -> (real values, sample values), for histograms in HTML reports.

    Optional members for intervals: ``bounds``, the smallest and largest possible value (``(0, inf)`` marks a distance,
    whose interval is computed on the log scale); ``relates_anew = True`` declares that ``relate`` depends on which
    reference cubes there are (as a scale does) and has to run again when some are left out;
    ``headline(*, real, generated, train=None) -> float`` returns only the value of ``compare``, and is called thousands
    of times. ``expected(*, real, generated, size, draws, rngs) -> (draws, 2)`` replaces the jackknife where the value
    depends on a few extreme cubes: it draws from the posterior of the expected value at ``size`` cubes per side, and of
    its floor; ``rngs`` are the reference's (the same for all samples compared with it) and the samples'.
    See ``docs/intervals.md``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    better: ClassVar[Direction]

    @property
    def needs(self) -> Needs:
        """What the core computes first (may depend on the options)."""

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> float | ScoreParts:
        """Return the headline value, optionally with details.

        Raises:
            NotComputable: there is no value; the message gives the reason.
        """


class Segmenter(Protocol):
    """Finds structures in cubes that come without masks.

    ``name``, ``version`` and ``summary`` are as for extractors (raise ``version`` whenever the same cubes give other
    masks). Cubes are preprocessed as for extractors: cropped to the field of view's bounding box, invalid pixels NaN in
    every band. A fitted segmenter is pickled to worker processes. Optional: ``fingerprint()`` returns what else decides
    the masks; ``device`` is set by the core before ``fit``; ``state() -> Mapping[str, NDArray]`` and
    ``restore(state, structures)`` let the core store a fitted segmenter in its cache, as arrays.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]

    def fit(self, data: CubeSet) -> None:
        """Learn every structure of ``data`` but ``fov``; a cube without a mask of a structure does not contain it.

        The cubes are sorted by content and may differ in shape. The same cubes must give the same segmenter.
        """

    def segment(self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any]) -> Mapping[str, NDArray[np.bool_]]:
        """Return bool ``(n, y, x)`` for every fitted structure; mask i depends on cube i alone."""


class Sample(NamedTuple):
    """One generated cube: float32 ``(band, y, x)``, masks bool ``(y, x)`` by structure, and an id."""

    cube: NDArray[Any]
    masks: Mapping[str, NDArray[Any]]
    id: str


class Generator(Protocol):
    """Yields cubes after it has been fitted on a set, or without fitting.

    ``fit`` is omitted where there is nothing to fit. After ``load`` or ``fit`` the attribute ``wavelengths`` holds the
    band centers, in nm, of the cubes that ``sample`` yields.

    Optional, for sweeps over options. ``sampling`` names the options that only ``sample`` depends on: they vary
    without another fit. ``stages`` maps the stages of a fit that configurations may share, in order, to the names of
    the options that decide each (together with those of earlier stages). ``fit`` then takes ``until`` (the name of the
    last stage to run) and ``start`` (the folder of a fit with the same values of those options, seed and data: reuse
    its stages, and do not modify it). A ``fit`` that takes ``resume`` gets True, and resumes an interrupted fit from
    what is in ``out``; for other fits the folder is emptied first.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    wavelengths: NDArray[Any]

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0) -> None:
        """Fit on ``data`` and write everything that :meth:`load` needs to the folder ``out``."""

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Prepare for sampling, from the folder that ``fit`` wrote or, without fitting, from the options."""

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i depends on (seed, i) alone, not on n or start."""


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
