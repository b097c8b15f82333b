"""A TOML table that is read key by key; unknown keys are errors that name the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hseval.core.options import convert_value, format_type
from hseval.utils.errors import HsevalError, format_suggestion


class TomlTable:
    """One table of a file: values are checked when read; :meth:`check_unknown_keys` refuses keys that were not read."""

    def __init__(self, values: Mapping[str, Any], location: str) -> None:
        self.values, self.location = values, location
        self._known_keys: set[str] = set()

    def get(self, key: str, value_type: Any, default: Any = None) -> Any:
        """Return a value converted to a type; HsevalError if it is of another type."""
        self._known_keys.add(key)
        if key not in self.values:
            return default
        value = convert_value(self.values[key], value_type, owner=f"{self.location}: {key}")
        if isinstance(value, str) and "\0" in value:  # no file name
            raise HsevalError(f"{self.location}: {key} is {value!r:.80}, expected text without null characters")
        return value

    def get_int(self, key: str, minimum: int, default: int) -> int:
        """Return an integer; HsevalError if it is less than ``minimum``."""
        value = int(self.get(key, int, default))
        if value < minimum:
            raise HsevalError(f"{self.location}: {key} is {value}, expected {minimum} or more")
        return value

    def get_required(self, key: str, value_type: Any) -> Any:
        """Return a value; HsevalError if it is missing."""
        value = self.get(key, value_type)
        if value is None:
            raise HsevalError(f"{self.location}: {key} is missing (of type {format_type(value_type)})")
        return value

    def get_table(self, key: str) -> TomlTable:
        """Return a nested table; an empty one if it is missing."""
        self._known_keys.add(key)
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise HsevalError(f"{self.location}: {key} is {value!r}, expected a table")
        return TomlTable(value, f"{self.location}, [{key}]")

    def get_tables(self, key: str) -> list[TomlTable]:
        """Return the tables of an array of tables; an empty list if it is missing."""
        self._known_keys.add(key)
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
            raise HsevalError(f"{self.location}: {key} is {value!r:.60}, expected tables ([[{key}]])")
        return [TomlTable(table, f"{self.location}, [[{key}]] {number}") for number, table in enumerate(value, start=1)]

    def check_unknown_keys(self) -> None:
        """Raise HsevalError for a key that was not read."""
        for key in self.values:
            if key not in self._known_keys:
                raise HsevalError(f"{self.location}: unknown key {key!r}{format_suggestion(key, self._known_keys)}")
