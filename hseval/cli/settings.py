"""``--set scope.key=value`` and ``--config F.toml``: two ways to write the same options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError, format_reason, format_suggestion

if TYPE_CHECKING:
    from pathlib import Path

UNSCOPED = ""  # the scope of ``--set key=value``: the one plugin that a command is about

ScopedSettings = dict[str, dict[str, Any]]


def parse_settings(assignments: Iterable[str]) -> ScopedSettings:
    """Return ``{"fid": {"extractor": "x"}, "": {"size": "224"}}`` for ``fid.extractor=x`` and ``size=224``.

    Values stay strings: the plugin's options say what type they are. A later assignment wins.

    Raises:
        HsevalError: no ``=``, or nothing before it.
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
    """Return the tables of a TOML file: ``[fid]`` and below it ``extractor = "x"``.

    Raises:
        HsevalError: the file is missing or no TOML, or has a value outside a plugin's table.
    """
    import tomllib
    from pathlib import Path

    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as TOML: {format_reason(error)}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise HsevalError(f"{path}: {name!r} stands outside a table; expected [plugin] and below it key = value")
    return tables


def merge_settings(assignments: Iterable[str], config: str | Path | None = None) -> ScopedSettings:
    """Return both, by plugin; the command line wins over the file.

    Raises:
        HsevalError: as the two above, or an assignment that names no plugin.
    """
    merged = read_config(config) if config is not None else {}
    for scope, values in parse_settings(assignments).items():
        if scope == UNSCOPED:
            raise HsevalError(f"--set {next(iter(values))}=...: say whose, as in --set fid.extractor=torchvision")
        merged.setdefault(scope, {}).update(values)
    return merged


def parse_plugin_settings(name: str, assignments: Iterable[str]) -> Mapping[str, Any]:
    """Return the settings of the one plugin that a command is about; ``name.key=value`` says the same as ``key=value``.

    Raises:
        HsevalError: an assignment to another plugin.
    """
    scopes = parse_settings(assignments)
    for scope in scopes:
        if scope not in (UNSCOPED, name):
            raise HsevalError(f"--set {scope}.{next(iter(scopes[scope]))}: this command is about {name!r}"
                              f"{format_suggestion(scope, [name])}")  # fmt: skip
    return {**scopes.get(UNSCOPED, {}), **scopes.get(name, {})}
