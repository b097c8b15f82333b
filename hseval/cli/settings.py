"""``--set scope.key=value`` and ``--config F.toml``: two ways to write the same options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.structured_files import read_toml

if TYPE_CHECKING:
    from pathlib import Path

UNSCOPED = ""  # the scope of ``--set key=value`` in commands that run one plugin

ScopedSettings = dict[str, dict[str, Any]]


def parse_settings(assignments: Iterable[str]) -> ScopedSettings:
    """Return ``{"fid": {"extractor": "x"}, "": {"size": "224"}}`` for ``fid.extractor=x`` and ``size=224``.

    Values stay strings: the plugin's options declare the types. A later assignment wins.

    Raises:
        HsevalError: an assignment has no ``=``, or no key before it.
    """
    scopes: ScopedSettings = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        scope, _, key = path.strip().rpartition(".")
        if not equals or not key:
            raise HsevalError(f"--set {assignment!r}: expected key=value or plugin.key=value")
        scopes.setdefault(scope, {})[key] = value.strip()
    return scopes


def read_config(path: str | Path) -> ScopedSettings:
    """Return the tables of a TOML file, such as ``[fid]`` followed by ``extractor = "x"``.

    Raises:
        HsevalError: the file is missing, is no TOML, or has a value outside a plugin's table.
    """
    tables = read_toml(path)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise HsevalError(f"{path}: {name!r} is outside a table; expected [plugin] followed by key = value")
    return tables


def merge_settings(assignments: Iterable[str], config: str | Path | None = None) -> ScopedSettings:
    """Return the settings of command line and file by plugin; the command line wins.

    Raises:
        HsevalError: as the two functions above, or an assignment names no plugin.
    """
    merged = read_config(config) if config is not None else {}
    for scope, values in parse_settings(assignments).items():
        if scope == UNSCOPED:
            raise HsevalError(f"--set {next(iter(values))}=...: name the plugin, as in --set fid.extractor=torchvision")
        merged.setdefault(scope, {}).update(values)
    return merged


def parse_plugin_settings(name: str, assignments: Iterable[str]) -> Mapping[str, Any]:
    """Return the settings of the one plugin that a command runs; ``name.key=value`` is the same as ``key=value``.

    Raises:
        HsevalError: an assignment names another plugin.
    """
    scopes = parse_settings(assignments)
    for scope in scopes:
        if scope not in (UNSCOPED, name):
            raise HsevalError(f"--set {scope}.{next(iter(scopes[scope]))}: this command takes options of {name!r} only"
                              f"{format_suggestion(scope, [name])}")  # fmt: skip
    return {**scopes.get(UNSCOPED, {}), **scopes.get(name, {})}
