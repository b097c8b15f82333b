"""What a sweep is to do: read from its TOML file by :mod:`.toml`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The sets: ``train`` for fits and authenticity, ``ref`` for scores."""

    ref: Path
    train: Path | None = None
    layout: str | None = None
    wavelengths: str | None = None

    def list_paths(self) -> tuple[Path, ...]:
        """Return the files and folders that the sweep reads."""
        return tuple(path for path in (self.train, self.ref) if path is not None)


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """What is scored.

    Attributes:
        metrics: names.
        by_structure: metric -> structures that it is scored on once more, each alone (``spectral-kl:vein``).
        options: plugin -> option -> value.
        seed: of splits and pairs.
        extractor: in place of every metric's default one.
        segmenter: whose masks tell structures.
    """

    metrics: tuple[str, ...] = ("fid", "ms-ssim", "spectral-kl")
    by_structure: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    seed: int = 0
    extractor: str | None = None
    segmenter: str | None = None


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """How seconds a sample are measured: ``repeats`` draws of ``cubes`` cubes, after ``warmup`` that do not count."""

    cubes: int = 8
    repeats: int = 3
    warmup: int = 1


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """The Pareto plot: one panel for each of ``y``, all against ``x``; the others name options, or are None."""

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
        label: what tables and the plot call it; unique in a sweep.
        table_label: the table of the TOML file that it comes from.
        generator: name.
        options: given to fit and to sample.
        sampling: given to sample alone; runs that differ in nothing else share their fit.
        varied_options: the values that tell the runs of a table apart.
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
        out: folder of all that it leaves.
        seed: of fits and of sampling.
        sample_count: cubes drawn of each configuration.
        device: of fit, sample and score; None: each one's own choice.
        data: the sets.
        scoring: the scores.
        timing: of the speed.
        plot: of the result.
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
