"""A TOML table read by its known keys: whatever else it holds is an error that names the nearest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hseval.core.options import convert_value, format_type
from hseval.utils.errors import HsevalError, format_suggestion


class TomlTable:
    """One table of a file; every read key is checked, and :meth:`check_unknown_keys` finds the keys that nobody read."""

    def __init__(self, values: Mapping[str, Any], location: str) -> None:
        self.values, self.location = values, location
        self._known_keys: set[str] = set()

    def get(self, key: str, value_type: Any, default: Any = None) -> Any:
        """Return a value of a type; HsevalError where it is of another."""
        self._known_keys.add(key)
        if key not in self.values:
            return default
        return convert_value(self.values[key], value_type, owner=f"{self.location}: {key}")

    def get_int(self, key: str, minimum: int, default: int) -> int:
        """Return a whole number of ``minimum`` or more."""
        value = int(self.get(key, int, default))
        if value < minimum:
            raise HsevalError(f"{self.location}: {key} is {value}, expected {minimum} or more")
        return value

    def get_required(self, key: str, value_type: Any) -> Any:
        """Return a value that has to be there."""
        value = self.get(key, value_type)
        if value is None:
            raise HsevalError(f"{self.location}: {key} is missing (of type {format_type(value_type)})")
        return value

    def get_table(self, key: str) -> TomlTable:
        """Return a table inside; an empty one where there is none."""
        self._known_keys.add(key)
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise HsevalError(f"{self.location}: {key} is {value!r}, expected a table")
        return TomlTable(value, f"{self.location}, [{key}]")

    def get_tables(self, key: str) -> list[TomlTable]:
        """Return the tables of an array of tables; none where there is none."""
        self._known_keys.add(key)
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            raise HsevalError(f"{self.location}: {key} is {value!r:.60}, expected tables ([[{key}]])")
        return [TomlTable(each, f"{self.location}, [[{key}]] {number}") for number, each in enumerate(value, start=1)]

    def check_unknown_keys(self) -> None:
        """Raise HsevalError for a key that nobody asked for."""
        for key in self.values:
            if key not in self._known_keys:
                raise HsevalError(
                    f"{self.location}: there is no {key!r} here{format_suggestion(key, self._known_keys)}"
                )
