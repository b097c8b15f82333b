"""JSON and TOML files that come from elsewhere: read, and checked against the types of records, or refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from hseval.utils.errors import HsevalError, format_reason
from hseval.utils.input_files import read_text

if TYPE_CHECKING:
    import os

RecordT = TypeVar("RecordT")

MAX_DEPTH = 100  # of nested objects, arrays and tables: no file of hseval's is nearly as deep
MAX_INTEGER_BITS = 64


def load_json(path: str | os.PathLike[str], subject: str) -> Any:
    """Return the content of a JSON file; ``subject`` is what it should be, for messages, such as ``"a report"``.

    Raises:
        HsevalError: the file is missing or is not JSON (NaN is none).
    """
    import msgspec

    return _parse(path, msgspec.json.decode, subject)


def read_json(
    path: str | os.PathLike[str], subject: str, *, format: str, version: int, hint: str = "make it again"
) -> dict[str, Any]:
    """Return the object in a JSON file of a format and version.

    Args:
        path: the file.
        subject: what the file should be, for messages.
        format: expected value of ``"format"``.
        version: expected value of ``"version"``.
        hint: how to get a file of this version.

    Raises:
        HsevalError: the file is missing, is not JSON, or is of another format or version.
    """
    data = load_json(path, subject)
    if not isinstance(data, dict) or data.get("format") != format:
        raise HsevalError(f'{path}: is not {subject} (expected "format": "{format}")')
    if data.get("version") != version:
        raise HsevalError(f"{path}: is {subject} of version {data.get('version')!r:.40}, expected {version}; {hint}")
    return data


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        HsevalError: the file is missing or is not TOML.
    """
    tables: dict[str, Any] = _parse(path, tomllib.loads, "TOML")
    return tables


def convert_record(data: Any, record_type: type[RecordT], path: str | os.PathLike[str]) -> RecordT:
    """Return JSON data as a record of a type: a dataclass or TypedDict, whose fields are records or JSON types.

    Raises:
        HsevalError: a value is missing or of another type; the message names its place.
    """
    import msgspec

    try:
        return msgspec.convert(data, record_type)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter of half a surrogate pair
        raise HsevalError(f"{path}: {format_reason(error)}") from error


def _parse(path: str | os.PathLike[str], parse: Callable[[str], Any], subject: str) -> Any:
    import msgspec

    try:
        data = parse(read_text(path))
        check_depth(data)
        _check_integers(data)
    except RecursionError as error:
        raise HsevalError(f"{path}: can't be read as {subject}: it is nested too deeply") from error
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise HsevalError(f"{path}: can't be read as {subject}: {format_reason(error)}") from error
    return data


def check_depth(data: Any, limit: int = MAX_DEPTH) -> None:
    """Raise RecursionError where JSON data is nested deeper than ``limit``."""
    level: list[Any] = [[data]]
    for _ in range(limit):
        containers = [value.values() if isinstance(value, dict) else value for value in level]
        level = [item for items in containers for item in items if isinstance(item, dict | list)]
    if level:
        raise RecursionError(f"nested deeper than {limit}")


def _check_integers(data: Any) -> None:
    """Raise ValueError for an integer of more bits than both formats guarantee: Python can't even print a long one."""
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _check_integers(value)
    if isinstance(data, int) and data.bit_length() > MAX_INTEGER_BITS:
        raise ValueError(f"it has an integer of {data.bit_length()} bits; at most {MAX_INTEGER_BITS} expected")
