"""The plan of a sweep, read from its TOML file by :mod:`.config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The sets: ``train`` for fits and for metrics that need a training set, ``ref`` for scores."""

    ref: Path
    train: Path | None = None
    layout: str | None = None
    wavelengths: str | None = None

    def list_paths(self) -> tuple[Path, ...]:
        """Return the files and folders that the sweep reads."""
        return tuple(path for path in (self.train, self.ref) if path is not None)


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """How runs are scored.

    Attributes:
        metrics: names.
        by_structure: metric -> structures that are also scored one by one (``spectral-kl:vein``).
        options: plugin -> option -> value.
        seed: of splits and pairs.
        extractor: overrides every metric's default one.
        segmenter: that finds structures, as for ``hseval score``; ``"none"``: the masks in the files.
    """

    metrics: tuple[str, ...] = ("fid", "ms-ssim", "spectral-kl")
    by_structure: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    seed: int = 0
    extractor: str | None = None
    segmenter: str | None = None


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """How sampling is timed: ``repeats`` draws of ``cubes`` cubes, after ``warmup`` draws that do not count."""

    cubes: int = 8
    repeats: int = 3
    warmup: int = 1


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """The Pareto plot: one panel for each of ``y``, all against ``x``.

    ``color``, ``style`` and ``marker`` are names of options that vary, or None.
    """

    x: str = "samples/s"
    y: tuple[str, ...] = ()
    color: str | None = None
    style: str | None = None
    marker: str | None = None
    title: str | None = None


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run: a generator with its options.

    Attributes:
        label: its name in tables and the plot; unique in a sweep.
        table_label: label of the ``[[generator]]`` table that it comes from.
        generator: name.
        options: of fitting and sampling.
        sampling: options of sampling alone; runs that differ in nothing else share their fit.
        varied_options: the options in which the runs of a table differ.
    """

    label: str
    table_label: str
    generator: str
    options: Mapping[str, Any]
    sampling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    varied_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """A whole sweep.

    Attributes:
        name: of the sweep.
        out: folder of all results.
        seed: of fits and of sampling.
        sample_count: number of samples of each configuration.
        device: of fitting, sampling and scoring; None: each one's default.
        data: the sets.
        scoring: how runs are scored.
        timing: how runs are timed.
        plot: the Pareto plot.
        runs: the configurations, in order.
    """

    name: str
    out: Path
    seed: int
    sample_count: int
    device: str | None
    data: DataConfig
    scoring: ScoringConfig
    timing: TimingConfig
    plot: PlotConfig
    runs: tuple[RunConfig, ...]
