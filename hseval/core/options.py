"""Options, declared once as the fields of a frozen dataclass.

Command line (``--set fid.extractor=...``), TOML, provenance and docs are all derived from the fields: their names,
types, defaults and the line of help passed to :func:`option`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union

from hseval.core.capabilities import get_options
from hseval.utils.errors import HsevalError, format_suggestion

INTEGER_BITS = 64


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field with its default and one line of help."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a plugin that has none."""


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One declared option, for help, docs and completion."""

    name: str
    type: str
    default: Any
    help: str


def get_options_class(plugin: type) -> type[Any]:
    """Return the dataclass that declares a plugin's options (its ``Options``), or :class:`NoOptions`."""
    return getattr(plugin, "Options", NoOptions)


def describe_options(plugin: type) -> Iterator[OptionInfo]:
    """Yield the options that a plugin class declares."""
    options_class = get_options_class(plugin)
    hints = typing.get_type_hints(options_class)
    for field in dataclasses.fields(options_class):
        default = None if field.default is dataclasses.MISSING else field.default
        yield OptionInfo(field.name, format_type(hints[field.name]), default, field.metadata.get("help", ""))


def build_options(plugin: type, values: Mapping[str, Any], *, owner: str) -> Any:
    """Return an instance of the plugin's options with these ``values`` (typed, or strings to be converted).

    Raises:
        HsevalError: an unknown option (the message names the nearest one) or a value of another type.
    """
    options_class = get_options_class(plugin)
    hints = typing.get_type_hints(options_class)
    known = {field.name for field in dataclasses.fields(options_class)}
    parsed = {}
    for name, value in values.items():
        key = name.replace("-", "_")
        if key not in known:
            raise HsevalError(f"{owner} has no option {name!r}{format_suggestion(key, known)}")
        parsed[key] = convert_value(value, hints[key], owner=f"{owner}, option {key}")
    try:
        return options_class(**parsed)
    except (TypeError, ValueError) as error:
        raise HsevalError(f"{owner}: {error}") from error


def options_to_dict(options: Any) -> dict[str, Any]:
    """Return an options instance as a JSON-serializable mapping."""
    return dataclasses.asdict(options) if dataclasses.is_dataclass(options) else {}  # type: ignore[arg-type]


def get_option_values(plugin: object) -> dict[str, Any]:
    """Return the options that a plugin's instance stores as a JSON-serializable mapping; empty where it has none."""
    return options_to_dict(get_options(plugin))


def check_ranges(options: Any, ranges: Mapping[str, tuple[float, float]], *, owner: str) -> None:
    """Refuse numbers outside their range.

    Args:
        options: an options instance.
        ranges: option -> the smallest and the largest allowed value.
        owner: of the options, for the message.

    Raises:
        HsevalError: the first such option, with its value and range.
    """
    for name, (low, high) in ranges.items():
        if not low <= getattr(options, name) <= high:  # NaN is out of range, too
            raise HsevalError(f"{owner}: {name} = {getattr(options, name)}, expected {low} to {high}")


def convert_value(value: Any, declared_type: Any, *, owner: str) -> Any:
    """Return ``value`` (typed, or a string from the command line) converted to the declared type.

    Raises:
        HsevalError: it can't be converted.
    """
    if isinstance(value, int):
        _check_size(value, owner)
    origin, arguments = typing.get_origin(declared_type), typing.get_args(declared_type)
    if origin in (Union, types.UnionType):
        is_none = value is None or (isinstance(value, str) and value.lower() == "none")
        if is_none and type(None) in arguments:
            return None
        inner = next(argument for argument in arguments if argument is not type(None))
        return convert_value(value, inner, owner=owner)
    if origin is Literal:
        if value in arguments:
            return value
        suggestion = format_suggestion(str(value), map(str, arguments))
        raise HsevalError(f"{owner}: {value!r} is not a valid value{suggestion}")
    if origin is tuple:
        if not isinstance(value, str | list | tuple):
            raise HsevalError(f"{owner}: {value!r} is not of type {format_type(declared_type)}")
        elements = value.split(",") if isinstance(value, str) else list(value)
        return tuple(convert_value(element, arguments[0], owner=owner) for element in elements)
    return _convert_scalar(value, declared_type, owner=owner)


def format_type(declared_type: Any) -> str:
    """Return a declared type as help texts show it (``int``, ``float or none``, ``a|b``)."""
    origin, arguments = typing.get_origin(declared_type), typing.get_args(declared_type)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if a is type(None) else format_type(a) for a in arguments)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        return f"{format_type(arguments[0])},..."
    return getattr(declared_type, "__name__", str(declared_type))


_BOOLEAN_WORDS = dict.fromkeys(("true", "yes", "1", "on"), True) | dict.fromkeys(("false", "no", "0", "off"), False)


def _convert_scalar(value: Any, declared_type: Any, *, owner: str) -> Any:
    if declared_type is bool and isinstance(value, str) and value.lower() in _BOOLEAN_WORDS:
        return _BOOLEAN_WORDS[value.lower()]
    mismatch = isinstance(value, bool) != (declared_type is bool)
    if declared_type in (int, float) and not mismatch:
        try:
            number = declared_type(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is not None and (declared_type is float or isinstance(value, str) or number == value):
            _check_size(number, owner)
            return number
    elif isinstance(value, declared_type) and not mismatch:
        return value
    raise HsevalError(f"{owner}: {value!r:.80} is not of type {format_type(declared_type)}")


def _check_size(number: float, owner: str) -> None:
    """Refuse what JSON can't store, NaN and infinity, and integers that fit into no array (or error message)."""
    if isinstance(number, int) and number.bit_length() >= INTEGER_BITS:
        bits = number.bit_length() + 1
        raise HsevalError(f"{owner}: an integer of {bits} bits, expected at most {INTEGER_BITS}")
    if not math.isfinite(number):
        raise HsevalError(f"{owner}: {number}, expected a finite number")
