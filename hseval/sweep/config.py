"""The TOML file of a sweep; docs/sweep.md tells what it may hold."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.scoring.score import build_metrics
from hseval.sweep.grid import configurations
from hseval.sweep.plan import Data, Plan, Plot, Scoring, Timing
from hseval.sweep.toml_table import Table
from hseval.utils.errors import HsevalError, nearest, reason

SPEED = ("samples/s", "seconds")  # what the plot may name beside scores


def read_plan(path: Path, *, out: Path | None = None, device: str | None = None) -> Plan:
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
        raise HsevalError(f"{path}: can't be read as TOML: {reason(error)}") from error
    top, home = Table(values, str(path)), path.parent
    name = top.get("name", str, path.stem)
    own = top.get("out", str)
    scoring = _scoring(top.table("score"))
    plan = Plan(
        name=name,
        out=out or (home / own if own else home / f"{path.stem}.sweep"),
        seed=top.at_least("seed", 0, 0),
        samples=top.at_least("samples", 1, 256),
        device=device or top.get("device", str),
        data=_data(top.table("data"), home),
        scoring=scoring,
        timing=_timing(top.table("timing")),
        plot=_plot(top.table("plot"), scoring),
        runs=configurations(top.tables("generator"), str(path)),
    )
    top.done()
    _check_looks(plan, f"{path}, [plot]")
    return plan


def _check_looks(plan: Plan, where: str) -> None:
    known = ["generator", "part", *dict.fromkeys(name for run in plan.runs for name in run.varied)]
    for what in ("colour", "style", "marker"):
        option = getattr(plan.plot, what)
        if option is not None and option not in known:
            raise HsevalError(f"{where}: {what}: no option {option!r} varies{nearest(option, known)}")


def score_names(scoring: Scoring) -> tuple[str, ...]:
    """Return the names of all scores: ``fid``, ``spectral-kl``, ``spectral-kl:vein`` ..."""
    alone = (f"{metric}:{structure}" for metric, names in scoring.by_structure.items() for structure in names)
    return (*scoring.metrics, *alone)


def _data(table: Table, home: Path) -> Data:
    train = table.get("train", str)
    found = Data(
        ref=home / table.required("ref", str),
        train=None if train is None else home / train,
        layout=table.get("layout", str),
        wavelengths=table.get("wavelengths", str),
    )
    table.done()
    return found


def _timing(table: Table) -> Timing:
    usual = Timing()
    found = Timing(
        table.at_least("cubes", 1, usual.cubes),
        table.at_least("repeats", 1, usual.repeats),
        table.at_least("warmup", 0, usual.warmup),
    )
    table.done()
    return found


def _scoring(table: Table) -> Scoring:
    by_structure = table.table("by_structure")
    options = table.table("options").values
    found = Scoring(
        metrics=table.get("metrics", tuple[str, ...], Scoring.metrics),
        by_structure={metric: by_structure.get(metric, tuple[str, ...]) for metric in by_structure.values},
        options={name: dict(_mapping(values, f"{table.where}: options.{name}")) for name, values in options.items()},
        seed=table.at_least("seed", 0, 0),
        extractor=table.get("extractor", str),
        segmenter=table.get("segmenter", str),
    )
    table.done()
    for metric in found.by_structure:
        if metric not in found.metrics:
            raise HsevalError(f"{by_structure.where}: {metric!r} is not among metrics{nearest(metric, found.metrics)}")
    settings = {name: dict(values) for name, values in found.options.items()}
    build_metrics(found.metrics, extractor=found.extractor, settings=settings)  # what can't be shows now
    return found


def _plot(table: Table, scoring: Scoring) -> Plot:
    names = score_names(scoring)
    found = Plot(
        x=table.get("x", str, Plot.x),
        y=table.get("y", tuple[str, ...], names),
        **{key: table.get(key, str) for key in ("colour", "style", "marker", "title")},
    )
    table.done()
    for name in (found.x, *found.y):
        if name not in (*names, *SPEED):
            told = f"{table.where}: there is no score {name!r}"
            raise HsevalError(told + nearest(name, (*names, *SPEED)))
    return found


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise HsevalError(f"{where} is {value!r}, expected a table of options")
    return value
