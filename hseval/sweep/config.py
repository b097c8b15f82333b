"""Reads the TOML file of a sweep; docs/sweep.md describes its format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.scoring.metric_choice import build_metrics
from hseval.sweep.grid import expand_runs
from hseval.sweep.plan import DataConfig, PlotConfig, ScoringConfig, SweepPlan, TimingConfig
from hseval.sweep.toml_table import TomlTable
from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.structured_files import read_toml

SPEED_QUANTITIES = ("samples/s", "seconds")  # quantities of the plot that are not scores


def read_plan(path: Path, *, out: Path | None = None, device: str | None = None) -> SweepPlan:
    """Read a sweep; paths in the file are relative to its folder.

    Args:
        path: of the TOML file.
        out: overrides the file's own.
        device: overrides the file's own.

    Raises:
        HsevalError: the file is missing, is not TOML, or contains an unknown key, name or option.
    """
    values = read_toml(path)
    top, folder = TomlTable(values, str(path)), path.parent
    name = top.get("name", str, path.stem)
    file_out = top.get("out", str)
    scoring = _read_scoring(top.get_table("score"))
    plan = SweepPlan(
        name=name,
        out=out or (folder / file_out if file_out else folder / f"{path.stem}.sweep"),
        seed=top.get_int("seed", 0, 0),
        sample_count=top.get_int("samples", 1, 256),
        device=device or top.get("device", str),
        data=_read_data(top.get_table("data"), folder),
        scoring=scoring,
        timing=_read_timing(top.get_table("timing")),
        plot=_read_plot(top.get_table("plot"), scoring),
        runs=expand_runs(top.get_tables("generator"), str(path)),
    )
    top.check_unknown_keys()
    _check_plot_options(plan, f"{path}, [plot]")
    return plan


def _check_plot_options(plan: SweepPlan, location: str) -> None:
    known = ["generator", "part", *dict.fromkeys(name for run in plan.runs for name in run.varied_options)]
    for channel in ("color", "style", "marker"):
        option = getattr(plan.plot, channel)
        if option is not None and option not in known:
            raise HsevalError(f"{location}: {channel}: no option {option!r} varies{format_suggestion(option, known)}")


def list_score_names(scoring: ScoringConfig) -> tuple[str, ...]:
    """Return the names of all scores: ``fid``, ``spectral-kl``, ``spectral-kl:vein`` ..."""
    per_structure = (f"{metric}:{structure}" for metric, names in scoring.by_structure.items() for structure in names)
    return (*scoring.metrics, *per_structure)


def _read_data(table: TomlTable, folder: Path) -> DataConfig:
    train = table.get("train", str)
    config = DataConfig(
        ref=folder / table.get_required("ref", str),
        train=None if train is None else folder / train,
        layout=table.get("layout", str),
        wavelengths=table.get("wavelengths", str),
    )
    table.check_unknown_keys()
    return config


def _read_timing(table: TomlTable) -> TimingConfig:
    defaults = TimingConfig()
    config = TimingConfig(
        table.get_int("cubes", 1, defaults.cubes),
        table.get_int("repeats", 1, defaults.repeats),
        table.get_int("warmup", 0, defaults.warmup),
    )
    table.check_unknown_keys()
    return config


def _read_scoring(table: TomlTable) -> ScoringConfig:
    by_structure = table.get_table("by_structure")
    options = table.get_table("options").values
    config = ScoringConfig(
        metrics=table.get("metrics", tuple[str, ...], ScoringConfig.metrics),
        by_structure={metric: by_structure.get(metric, tuple[str, ...]) for metric in by_structure.values},
        options={
            name: dict(_require_mapping(values, f"{table.location}: options.{name}"))
            for name, values in options.items()
        },
        seed=table.get_int("seed", 0, 0),
        extractor=table.get("extractor", str),
        segmenter=table.get("segmenter", str),
    )
    table.check_unknown_keys()
    for metric in config.by_structure:
        if metric not in config.metrics:
            raise HsevalError(
                f"{by_structure.location}: {metric!r} is not among metrics{format_suggestion(metric, config.metrics)}"
            )
    settings = {name: dict(values) for name, values in config.options.items()}
    build_metrics(config.metrics, extractor=config.extractor, settings=settings)  # reports bad options early
    return config


def _read_plot(table: TomlTable, scoring: ScoringConfig) -> PlotConfig:
    names = list_score_names(scoring)
    config = PlotConfig(
        x=table.get("x", str, PlotConfig.x),
        y=table.get("y", tuple[str, ...], names),
        color=table.get("color", str, table.get("colour", str)),  # key of earlier files
        **{key: table.get(key, str) for key in ("style", "marker", "title")},
    )
    table.check_unknown_keys()
    for name in (config.x, *config.y):
        if name not in (*names, *SPEED_QUANTITIES):
            suggestion = format_suggestion(name, (*names, *SPEED_QUANTITIES))
            raise HsevalError(f"{table.location}: there is no score {name!r}{suggestion}")
    return config


def _require_mapping(value: Any, location: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise HsevalError(f"{location} is {value!r}, expected a table of options")
    return value
