"""The TOML file of a sweep; docs/sweep.md tells what it may hold."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.scoring.score import build_metrics
from hseval.sweep.grid import expand_runs
from hseval.sweep.plan import DataConfig, PlotConfig, ScoringConfig, SweepPlan, TimingConfig
from hseval.sweep.toml_table import TomlTable
from hseval.utils.errors import HsevalError, format_reason, format_suggestion

SPEED_QUANTITIES = ("samples/s", "seconds")  # what the plot may name beside scores


def read_plan(path: Path, *, out: Path | None = None, device: str | None = None) -> SweepPlan:
    """Read a sweep; relative paths in it are relative to its folder.

    Args:
        path: of the TOML file.
        out: in place of the file's own.
        device: in place of the file's own.

    Raises:
        HsevalError: it is missing or no TOML, or names what there is not; nothing was computed yet.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as TOML: {format_reason(error)}") from error
    top, home = TomlTable(values, str(path)), path.parent
    name = top.get("name", str, path.stem)
    own = top.get("out", str)
    scoring = _read_scoring(top.get_table("score"))
    plan = SweepPlan(
        name=name,
        out=out or (home / own if own else home / f"{path.stem}.sweep"),
        seed=top.get_int("seed", 0, 0),
        sample_count=top.get_int("samples", 1, 256),
        device=device or top.get("device", str),
        data=_read_data(top.get_table("data"), home),
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
    for what in ("color", "style", "marker"):
        option = getattr(plan.plot, what)
        if option is not None and option not in known:
            raise HsevalError(f"{location}: {what}: no option {option!r} varies{format_suggestion(option, known)}")


def list_score_names(scoring: ScoringConfig) -> tuple[str, ...]:
    """Return the names of all scores: ``fid``, ``spectral-kl``, ``spectral-kl:vein`` ..."""
    alone = (f"{metric}:{structure}" for metric, names in scoring.by_structure.items() for structure in names)
    return (*scoring.metrics, *alone)


def _read_data(table: TomlTable, folder: Path) -> DataConfig:
    train = table.get("train", str)
    found = DataConfig(
        ref=folder / table.get_required("ref", str),
        train=None if train is None else folder / train,
        layout=table.get("layout", str),
        wavelengths=table.get("wavelengths", str),
    )
    table.check_unknown_keys()
    return found


def _read_timing(table: TomlTable) -> TimingConfig:
    usual = TimingConfig()
    found = TimingConfig(
        table.get_int("cubes", 1, usual.cubes),
        table.get_int("repeats", 1, usual.repeats),
        table.get_int("warmup", 0, usual.warmup),
    )
    table.check_unknown_keys()
    return found


def _read_scoring(table: TomlTable) -> ScoringConfig:
    by_structure = table.get_table("by_structure")
    options = table.get_table("options").values
    found = ScoringConfig(
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
    for metric in found.by_structure:
        if metric not in found.metrics:
            raise HsevalError(
                f"{by_structure.location}: {metric!r} is not among metrics{format_suggestion(metric, found.metrics)}"
            )
    settings = {name: dict(values) for name, values in found.options.items()}
    build_metrics(found.metrics, extractor=found.extractor, settings=settings)  # what can't be shows now
    return found


def _read_plot(table: TomlTable, scoring: ScoringConfig) -> PlotConfig:
    names = list_score_names(scoring)
    found = PlotConfig(
        x=table.get("x", str, PlotConfig.x),
        y=table.get("y", tuple[str, ...], names),
        color=table.get("color", str, table.get("colour", str)),  # the spelling of earlier files
        **{key: table.get(key, str) for key in ("style", "marker", "title")},
    )
    table.check_unknown_keys()
    for name in (found.x, *found.y):
        if name not in (*names, *SPEED_QUANTITIES):
            told = f"{table.location}: there is no score {name!r}"
            raise HsevalError(told + format_suggestion(name, (*names, *SPEED_QUANTITIES)))
    return found


def _require_mapping(value: Any, location: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise HsevalError(f"{location} is {value!r}, expected a table of options")
    return value
