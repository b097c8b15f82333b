"""A TOML table read by its known keys: whatever else it holds is an error that names the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hseval.core.options import convert, type_name
from hseval.utils.errors import HsevalError, nearest


class Table:
    """One table of a file; every read key is checked, and :meth:`done` finds the keys that nobody read."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where
        self._known: set[str] = set()

    def get(self, key: str, kind: Any, default: Any = None) -> Any:
        """Return a value of a type; HsevalError where it is of another."""
        self._known.add(key)
        if key not in self.values:
            return default
        return convert(self.values[key], kind, owner=f"{self.where}: {key}")

    def at_least(self, key: str, least: int, default: int) -> int:
        """Return a whole number of ``least`` or more."""
        value = int(self.get(key, int, default))
        if value < least:
            raise HsevalError(f"{self.where}: {key} is {value}, expected {least} or more")
        return value

    def required(self, key: str, kind: Any) -> Any:
        """Return a value that has to be there."""
        value = self.get(key, kind)
        if value is None:
            raise HsevalError(f"{self.where}: {key} is missing (of type {type_name(kind)})")
        return value

    def table(self, key: str) -> Table:
        """Return a table inside; an empty one where there is none."""
        self._known.add(key)
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise HsevalError(f"{self.where}: {key} is {value!r}, expected a table")
        return Table(value, f"{self.where}, [{key}]")

    def tables(self, key: str) -> list[Table]:
        """Return the tables of an array of tables; none where there is none."""
        self._known.add(key)
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            raise HsevalError(f"{self.where}: {key} is {value!r:.60}, expected tables ([[{key}]])")
        return [Table(each, f"{self.where}, [[{key}]] {number}") for number, each in enumerate(value, start=1)]

    def done(self) -> None:
        """Raise HsevalError for a key that nobody asked for."""
        for key in self.values:
            if key not in self._known:
                raise HsevalError(f"{self.where}: there is no {key!r} here{nearest(key, self._known)}")
