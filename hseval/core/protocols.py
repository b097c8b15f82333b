"""What a class of each kind has to have, and the records that its signatures name.

The Protocols hold what is required and nothing more; what a class may have besides is in
:mod:`hseval.core.capabilities`. Classes are duck-typed: none inherits from a Protocol. Arguments before ``/`` are
passed by position, so their names are free; those after ``*`` are passed by name. A class is instantiated with its
``Options``, or without arguments where it declares none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO, runtime_checkable

from hseval.core.plugin_api import OldPluginError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.core.report import Direction, Report


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


class Sample(NamedTuple):
    """One generated cube: float32 ``(band, y, x)``, masks bool ``(y, x)`` by structure, and an id."""

    cube: NDArray[Any]
    masks: Mapping[str, NDArray[Any]]
    id: str


@runtime_checkable
class Plugin(Protocol):
    """What classes of all kinds have."""

    @property
    def name(self) -> str:
        """By which it is chosen: lower case letters and digits with single dashes."""

    @property
    def summary(self) -> str:
        """One line, for lists."""


@runtime_checkable
class Reader(Plugin, Protocol):
    """Opens one kind of file or folder as a set of cubes."""

    def claims(self, path: Path, /) -> bool:
        """Return whether this reader opens ``path``, by its name and first bytes."""

    def open(self, path: Path, /, *, layout: str | None = None, wavelengths: NDArray[Any] | None = None) -> CubeSet:
        """Open ``path`` from its headers. ``layout`` is ``"byx"`` or ``"yxb"``, ``wavelengths`` nm by band as stored.

        Raises:
            HsevalError: the file is not readable; the message names what was found and what was expected.
        """


@runtime_checkable
class Extractor(Plugin, Protocol):
    """Maps a batch of cubes to features."""

    @property
    def version(self) -> str:
        """Part of the cache's key: raised whenever the same input gives other features."""

    def __call__(
        self, cubes: NDArray[np.float32], /, *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
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


@runtime_checkable
class Metric(Plugin, Protocol):
    """Compares the features of two sets."""

    @property
    def better(self) -> Direction:
        """``"lower"``, ``"higher"``, or ``"floor"`` where best is nearest the floor."""

    @property
    def needs(self) -> Needs:
        """What the core computes first (may depend on the options)."""

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None, rng: np.random.Generator
    ) -> float | ScoreParts:
        """Return the headline value, optionally with details.

        Raises:
            NotComputable: there is no value; the message gives the reason.
        """


@runtime_checkable
class Segmenter(Plugin, Protocol):
    """Finds structures in cubes that come without masks.

    Cubes are preprocessed as for extractors: cropped to the field of view's bounding box, invalid pixels NaN in every
    band. A fitted segmenter is pickled to worker processes.
    """

    @property
    def version(self) -> str:
        """Part of the cache's key: raised whenever the same cubes give other masks."""

    def fit(self, data: CubeSet, /) -> None:
        """Learn every structure of ``data`` but ``fov``; a cube without a mask of a structure does not contain it.

        The cubes are sorted by content and may differ in shape. The same cubes must give the same segmenter.
        """

    def segment(self, cubes: NDArray[np.float32], /, *, wavelengths: NDArray[Any]) -> Mapping[str, NDArray[np.bool_]]:
        """Return bool ``(n, y, x)`` for every fitted structure; mask i depends on cube i alone."""


@runtime_checkable
class Generator(Plugin, Protocol):
    """Yields cubes, after it has been fitted on a set or without fitting."""

    @property
    def version(self) -> str:
        """Raised whenever the same options and seed give other cubes."""

    @property
    def wavelengths(self) -> NDArray[Any] | None:
        """After ``load`` or ``fit``: the band centers in nm, ascending, of its cubes; None where they are unknown."""

    def load(self, path: Path | None, /) -> None:
        """Prepare for sampling, from the folder that ``fit`` wrote or, without fitting, from the options.

        One that takes ``device`` as well gets the device to sample on, and stores it in an attribute ``device``.
        """

    def sample(self, n: int, /, *, seed: int) -> Iterator[Sample]:
        """Yield cubes 0 to ``n - 1``; cube i depends on (seed, i) alone, not on n.

        One that takes ``start`` as well yields cubes ``start`` to ``n - 1``, and can be resumed.
        """


@runtime_checkable
class Renderer(Plugin, Protocol):
    """Writes a report in one format."""

    def render(self, report: Report, stream: TextIO, /) -> None:
        """Write the report to a text stream."""
