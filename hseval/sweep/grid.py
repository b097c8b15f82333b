"""From a ``[[generator]]`` table to its configurations: a grid, or a list, less what is excluded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hseval.core.options import build_options, options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.sweep.plan import RunConfig
from hseval.sweep.toml_table import TomlTable
from hseval.utils.errors import HsevalError

OptionValues = dict[str, Any]


def expand_runs(tables: Sequence[TomlTable], location: str) -> tuple[RunConfig, ...]:
    """Return the runs of all tables, in the order of the file.

    Raises:
        HsevalError: none, an unknown generator or option, or two runs of one label.
    """
    runs = [run for table in tables for run in _expand_table(table)]
    if not runs:
        raise HsevalError(f"{location}: names no run; expected [[generator]] tables, each with a name")
    for label, count in Counter(run.label for run in runs).items():
        if count > 1:
            raise HsevalError(
                f"{location}: {count} runs are called {label!r}; give the tables a label, and each run once"
            )
    return tuple(runs)


def _expand_table(table: TomlTable) -> Iterator[RunConfig]:
    name = table.get_required("name", str)
    part = table.get("label", str, name)
    fixed, grid, when_sampling = (dict(table.get_table(key).values) for key in ("set", "grid", "sampling"))
    listed = [dict(each.values) for each in table.get_tables("configurations")]
    excluded = [dict(each.values) for each in table.get_tables("exclude")]
    table.check_unknown_keys()
    _check_excluded(excluded, {*grid, *(key for each in listed for key in each)}, table.location)
    kept = [
        each
        for each in _iterate_combinations(grid, listed, table.location)
        if not any(_matches(each, rule) for rule in excluded)
    ]
    of_sampling = set(getattr(get_plugins().find("generator", name), "sampling", ()))
    for key in when_sampling:
        if key not in of_sampling:
            told = f"{table.location}, [sampling]: {key!r} decides more than sampling"
            raise HsevalError(f"{told} of {name!r} (what does not: {', '.join(sorted(of_sampling)) or 'nothing'})")
    for varied in kept:
        sampling = when_sampling | {key: value for key, value in varied.items() if key in of_sampling}
        options = fixed | {key: value for key, value in varied.items() if key not in of_sampling}
        _check_options(name, options | sampling, table.location)
        yield RunConfig(_format_label(part, varied), part, name, options, sampling, varied)


def _iterate_combinations(
    grid: OptionValues, explicit_configurations: Sequence[OptionValues], location: str
) -> Iterator[OptionValues]:
    """Yield what varies: each listed configuration, or one without anything, with every combination of the grid."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise HsevalError(f"{location}, [grid]: {key} is {values!r}, expected a list of values")
    for base in explicit_configurations or [{}]:
        for chosen in itertools.product(*grid.values()):
            yield {**base, **dict(zip(grid, chosen, strict=True))}


def _check_excluded(rules: Sequence[OptionValues], known: set[str], location: str) -> None:
    for rule in rules:
        for key in rule:
            if key not in known:
                told = f"{location}, [[exclude]]: {key!r} does not vary here"
                raise HsevalError(f"{told} (what does: {', '.join(sorted(known)) or 'nothing'})")


def _matches(varied_options: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Say whether a run is excluded: all of the rule's values are its own; a list in the rule stands for any of it."""
    return all(
        varied_options.get(key) in (value if isinstance(value, list) else [value]) for key, value in rule.items()
    )


def _check_options(name: str, options: Mapping[str, Any], location: str) -> None:
    try:
        build_options(get_plugins().find("generator", name), options, owner=f"generator {name!r}")
    except HsevalError as error:
        raise HsevalError(f"{location}: {error}") from error


def resolve_options(run: RunConfig, *, with_sampling: bool) -> OptionValues:
    """Return all options of a run with their defaults and presets filled in, with or without those of sampling."""
    factory = get_plugins().find("generator", run.generator)
    given = {**run.options, **(run.sampling if with_sampling else {})}
    built = build_options(factory, given, owner=f"generator {run.generator!r}")
    return options_to_dict(built)  # the fields alone: what else a class holds may read another way in each process


def _format_label(table_label: str, varied_options: Mapping[str, Any]) -> str:
    return " ".join([table_label, *(f"{key}={_format_value(value)}" for key, value in varied_options.items())])


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
