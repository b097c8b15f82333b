"""What a plugin's class may have besides what its kind requires, and what holds for a class without it.

No other code looks for a member by its name: methods are Protocols (a class that has ``headline`` is a
:class:`SupportsHeadline`), and a function reads each attribute that has a default, of the type that it returns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.cubes import CubeSet
    from hseval.core.feature_table import FeatureTable

UNBOUNDED = (-math.inf, math.inf)


# Of several kinds.


@runtime_checkable
class HasVersion(Protocol):
    """A metric whose rows of pairs are cached (extractors, segmenters and generators have to have a version)."""

    @property
    def version(self) -> str:
        """Raised whenever the same block of cubes gives another row."""


@runtime_checkable
class SupportsFingerprint(Protocol):
    """An extractor or segmenter whose results depend on more than code and options."""

    def fingerprint(self) -> str:
        """Return what else decides the results, such as the hash of a file of weights: part of the cache's key."""


@runtime_checkable
class AcceptsDevice(Protocol):
    """An extractor or segmenter that computes on a device."""

    device: str
    """Set by the core, before the first call or ``fit``: ``"cpu"``, ``"cuda"``, ``"cuda:1"``."""


def get_options(plugin: object) -> Any:
    """Return an instance's ``options``, part of provenance and of cache keys, or None.

    They are those that it was built with, or those of its checkpoint.
    """
    return getattr(plugin, "options", None)


def get_plugin_version(plugin: object) -> str | None:
    """Return a plugin's version, or None."""
    version = plugin.version if isinstance(plugin, HasVersion) else None
    return None if version is None else str(version)


def compute_fingerprint(plugin: object) -> str | None:
    """Return what decides a plugin's results besides code and options; None: nothing."""
    return plugin.fingerprint() if isinstance(plugin, SupportsFingerprint) else None


def set_device(plugin: object, device: str) -> None:
    """Choose the device of a plugin that computes on one."""
    if isinstance(plugin, AcceptsDevice):
        plugin.device = device


# Of extractors.


class Fitter(Protocol):
    """Fits an extractor on real cubes; built with its own ``Options``."""

    def fit(self, data: CubeSet, out: Path, /) -> None:
        """Fit on ``data`` and write the weights to the file ``out``, a safetensors file.

        One that takes ``seed``, ``device`` or ``progress(task, done, total)`` as well gets them.
        """


@runtime_checkable
class HasFitter(Protocol):
    """An extractor that ``hseval fit-extractor`` can fit."""

    @property
    def Fitter(self) -> type[Fitter]:  # noqa: N802 - a class
        """The class that fits it."""


def reads_structures(extractor: object) -> bool:
    """Return an extractor's ``reads_structures``; default: True.

    False: the features depend on no mask but ``fov``, and are cached for whatever masks.
    """
    return getattr(extractor, "reads_structures", True)


def needs_nm(extractor: object) -> bool:
    """Return ``needs_nm`` of an extractor or its class: it is not run where wavelengths are unknown; default: False."""
    return getattr(extractor, "needs_nm", False)


# Of metrics.


class SetsByRole(Protocol):
    """The sets of a score, for a metric that reads cubes again."""

    @property
    def samples(self) -> CubeSet:
        """The generated cubes."""

    @property
    def reference(self) -> CubeSet:
        """The real cubes."""

    @property
    def train(self) -> CubeSet | None:
        """The training set, where it is known."""


@runtime_checkable
class SupportsRelate(Protocol):
    """A metric with columns that need more than one set, such as the nearest training cube, or shared bin edges."""

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Return the full tables with added columns; called once, before they are split.

        With ``Needs(cubes=True)`` it gets the sets as well, to be read again: ``cubes``, a :class:`SetsByRole`.
        """


@runtime_checkable
class SupportsDescribeBlock(Protocol):
    """A metric with ``Needs(pairs=k)``."""

    def describe_block(
        self, cubes: NDArray[np.float32], /, *, field: NDArray[np.bool_], reference: FeatureTable
    ) -> Mapping[str, NDArray[Any]]:
        """Return the row of a block of cubes, to be compared each with each: arrays whose first axis is 1.

        Args:
            cubes: ``(n, band, y, x)``, invalid pixels NaN.
            field: bool ``(n, y, x)``, their fields of view.
            reference: the reference's features that ``needs`` names.
        """


@runtime_checkable
class SupportsHeadline(Protocol):
    """A metric with a faster way to its value alone, which intervals need thousands of times."""

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> float:
        """Return only the value of ``compare`` (signed, where that is the absolute value of a difference)."""


@runtime_checkable
class SupportsExpected(Protocol):
    """A metric whose value depends on a few extreme cubes, so that the jackknife fails (``docs/intervals.md``)."""

    def expected(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        size: int,
        draws: int,
        rngs: tuple[np.random.Generator, np.random.Generator],
    ) -> NDArray[np.float64]:
        """Return draws ``(draws, 2)`` from the posterior of the expected value at ``size`` a side, and of its floor.

        ``rngs`` are the reference's (the same for all samples that are compared with it) and the samples'.
        """


@runtime_checkable
class SupportsShownValues(Protocol):
    """A metric with values of single cubes or pairs, for histograms in HTML reports."""

    def shown_values(
        self, *, real: FeatureTable, generated: FeatureTable
    ) -> Mapping[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Return label -> (real values, sample values), of the tables that ``relate`` returned."""


def get_bounds(metric: object) -> tuple[float, float]:
    """Return a metric's ``bounds``, its smallest and largest possible value; default: none.

    ``(0, inf)`` marks a distance, with intervals on the log scale.
    """
    return getattr(metric, "bounds", UNBOUNDED)


def relates_anew(metric: object) -> bool:
    """Return a metric's ``relates_anew``; default: False.

    True: ``relate`` depends on which reference cubes there are, as a scale does, and runs again when some are left out.
    """
    return getattr(metric, "relates_anew", False)


# Of segmenters.


@runtime_checkable
class SupportsState(Protocol):
    """A segmenter that the cache can store once it is fitted; of others, only the masks are cached."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Return all that ``fit`` learned, as numpy arrays."""

    def restore(self, state: Mapping[str, NDArray[Any]], structures: tuple[str, ...], /) -> None:
        """Become the segmenter that returned ``state``, fitted on ``structures`` (sorted)."""


# Of generators.


@runtime_checkable
class SupportsFit(Protocol):
    """A generator that is fitted on a set (``hseval train``)."""

    def fit(self, data: CubeSet, out: Path, /) -> None:
        """Fit on ``data`` and write all that ``load`` needs to the folder ``out``.

        One that takes ``seed`` or ``device`` as well gets them. For sweeps: ``until`` is the last of its ``stages`` to
        run; ``start`` is the folder of a fit with the same options, seed and data up to there, whose stages it reuses
        and does not modify; ``resume`` is True, and asks for an interrupted fit in ``out`` to be resumed (for fits that
        do not take it, the folder is emptied first).
        """


def get_device(plugin: object) -> Any:
    """Return a plugin's ``device`` (of a generator: after ``load``; a str, or torch's).

    Default: None, and ``--device`` is refused.
    """
    return getattr(plugin, "device", None)


def get_units(generator: object) -> str | None:
    """Return ``units`` of a generator's cubes, such as ``"reflectance"``, after ``load``; default: None, unknown."""
    return getattr(generator, "units", None)


def get_sampling(generator: object) -> tuple[str, ...]:
    """Return ``sampling`` of a generator or its class: the names of the options that only ``sample`` depends on.

    In a sweep they vary without another fit; default: none.
    """
    return getattr(generator, "sampling", ())


def get_stages(generator: object) -> Mapping[str, tuple[str, ...]]:
    """Return ``stages`` of a generator or its class: those of a fit that configurations may share; default: none.

    Stage -> names of the options that decide it together with those of earlier stages.
    """
    return getattr(generator, "stages", {})
