"""From a ``[[generator]]`` table to its configurations: a grid, or a list, less what is excluded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hseval.core.options import as_dict, build_options
from hseval.core.plugin_manager import plugins
from hseval.sweep.plan import Configuration
from hseval.sweep.toml_table import Table
from hseval.utils.errors import HsevalError

Values = dict[str, Any]


def configurations(tables: Sequence[Table], where: str) -> tuple[Configuration, ...]:
    """Return the runs of all tables, in the order of the file.

    Raises:
        HsevalError: none, an unknown generator or option, or two runs of one label.
    """
    runs = [run for table in tables for run in _of_table(table)]
    if not runs:
        raise HsevalError(f"{where}: names no run; expected [[generator]] tables, each with a name")
    for label, count in Counter(run.label for run in runs).items():
        if count > 1:
            raise HsevalError(f"{where}: {count} runs are called {label!r}; give the tables a label, and each run once")
    return tuple(runs)


def _of_table(table: Table) -> Iterator[Configuration]:
    name = table.required("name", str)
    part = table.get("label", str, name)
    fixed, grid, when_sampling = (dict(table.table(key).values) for key in ("set", "grid", "sampling"))
    listed = [dict(each.values) for each in table.tables("configurations")]
    excluded = [dict(each.values) for each in table.tables("exclude")]
    table.done()
    _check_excluded(excluded, {*grid, *(key for each in listed for key in each)}, table.where)
    kept = [each for each in _varied(grid, listed, table.where) if not any(_matches(each, rule) for rule in excluded)]
    of_sampling = set(getattr(plugins().find("generator", name), "sampling", ()))
    for key in when_sampling:
        if key not in of_sampling:
            told = f"{table.where}, [sampling]: {key!r} decides more than sampling"
            raise HsevalError(f"{told} of {name!r} (what does not: {', '.join(sorted(of_sampling)) or 'nothing'})")
    for varied in kept:
        sampling = when_sampling | {key: value for key, value in varied.items() if key in of_sampling}
        options = fixed | {key: value for key, value in varied.items() if key not in of_sampling}
        _check_options(name, options | sampling, table.where)
        yield Configuration(_label(part, varied), part, name, options, sampling, varied)


def _varied(grid: Values, listed: Sequence[Values], where: str) -> Iterator[Values]:
    """Yield what varies: each listed configuration, or one without anything, with every combination of the grid."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise HsevalError(f"{where}, [grid]: {key} is {values!r}, expected a list of values")
    for base in listed or [{}]:
        for chosen in itertools.product(*grid.values()):
            yield {**base, **dict(zip(grid, chosen, strict=True))}


def _check_excluded(rules: Sequence[Values], known: set[str], where: str) -> None:
    for rule in rules:
        for key in rule:
            if key not in known:
                told = f"{where}, [[exclude]]: {key!r} does not vary here"
                raise HsevalError(f"{told} (what does: {', '.join(sorted(known)) or 'nothing'})")


def _matches(varied: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Say whether a run is excluded: all of the rule's values are its own; a list in the rule stands for any of it."""
    return all(varied.get(key) in (value if isinstance(value, list) else [value]) for key, value in rule.items())


def _check_options(name: str, options: Mapping[str, Any], where: str) -> None:
    try:
        build_options(plugins().find("generator", name), options, owner=f"generator {name!r}")
    except HsevalError as error:
        raise HsevalError(f"{where}: {error}") from error


def resolved(run: Configuration, *, sampling: bool) -> Values:
    """Return all options of a run with their defaults and presets filled in, with or without those of sampling."""
    factory = plugins().find("generator", run.generator)
    given = {**run.options, **(run.sampling if sampling else {})}
    built = build_options(factory, given, owner=f"generator {run.generator!r}")
    return as_dict(built)  # the fields alone: what else a class holds may read another way in each process


def _label(part: str, varied: Mapping[str, Any]) -> str:
    return " ".join([part, *(f"{key}={_text(value)}" for key, value in varied.items())])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
