"""From a ``[[generator]]`` table to its configurations: a grid or a list, without what is excluded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hseval.core.capabilities import get_sampling
from hseval.core.options import build_options, options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.sweep.plan import RunConfig
from hseval.sweep.toml_table import TomlTable
from hseval.utils.errors import HsevalError

OptionValues = dict[str, Any]


def expand_runs(tables: Sequence[TomlTable], location: str) -> tuple[RunConfig, ...]:
    """Return the runs of all tables, in the order of the file.

    Raises:
        HsevalError: there is no run, an unknown generator or option, or two runs with the same label.
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
    table_label = table.get("label", str, name)
    fixed, grid, fixed_sampling = (dict(table.get_table(key).values) for key in ("set", "grid", "sampling"))
    configurations = [dict(entry.values) for entry in table.get_tables("configurations")]
    rules = [dict(rule.values) for rule in table.get_tables("exclude")]
    table.check_unknown_keys()
    varied_names = {*grid, *(key for configuration in configurations for key in configuration)}
    _check_exclude_rules(rules, varied_names, table.location)
    included = [
        varied
        for varied in _iterate_combinations(grid, configurations, table.location)
        if not any(_matches(varied, rule) for rule in rules)
    ]
    sampling_names = set(get_sampling(get_plugins().find("generator", name)))
    for key in fixed_sampling:
        if key not in sampling_names:
            choices = ", ".join(sorted(sampling_names)) or "none"
            raise HsevalError(
                f"{table.location}, [sampling]: {key!r} is no sampling option of {name!r} (sampling options: {choices})"
            )
    for varied in included:
        sampling = fixed_sampling | {key: value for key, value in varied.items() if key in sampling_names}
        options = fixed | {key: value for key, value in varied.items() if key not in sampling_names}
        _check_options(name, options | sampling, table.location)
        yield RunConfig(_format_label(table_label, varied), table_label, name, options, sampling, varied)


def _iterate_combinations(
    grid: OptionValues, configurations: Sequence[OptionValues], location: str
) -> Iterator[OptionValues]:
    """Yield the varied options: each listed configuration (or an empty one) with every combination of the grid."""
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise HsevalError(f"{location}, [grid]: {key} is {values!r}, expected a list of values")
    for base in configurations or [{}]:
        for combination in itertools.product(*grid.values()):
            yield {**base, **dict(zip(grid, combination, strict=True))}


def _check_exclude_rules(rules: Sequence[OptionValues], varied_names: set[str], location: str) -> None:
    for rule in rules:
        for key in rule:
            if key not in varied_names:
                choices = ", ".join(sorted(varied_names)) or "none"
                raise HsevalError(f"{location}, [[exclude]]: {key!r} does not vary (options that vary: {choices})")


def _matches(varied_options: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    """Return whether a rule excludes a run: the run has all of its values; a list matches any of its elements."""
    return all(
        varied_options.get(key) in (value if isinstance(value, list) else [value]) for key, value in rule.items()
    )


def _check_options(name: str, options: Mapping[str, Any], location: str) -> None:
    try:
        build_options(get_plugins().find("generator", name), options, owner=f"generator {name!r}")
    except HsevalError as error:
        raise HsevalError(f"{location}: {error}") from error


def resolve_options(run: RunConfig, *, with_sampling: bool) -> OptionValues:
    """Return all options of a run including defaults and presets, with or without the run's options of sampling."""
    factory = get_plugins().find("generator", run.generator)
    values = {**run.options, **(run.sampling if with_sampling else {})}
    options = build_options(factory, values, owner=f"generator {run.generator!r}")
    return options_to_dict(options)  # only the fields: the repr of other members may differ between processes


def _format_label(table_label: str, varied_options: Mapping[str, Any]) -> str:
    return " ".join([table_label, *(f"{key}={_format_value(value)}" for key, value in varied_options.items())])


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
