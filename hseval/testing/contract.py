"""Parts shared by the checks of all kinds: the error, and checks of names, options and signatures."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from hseval.core.options import build_options, describe_options, get_options_class
from hseval.utils.errors import HsevalError, format_error

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SET_PARAMETERS = ("real", "generated", "train")
RELATIVE_TOLERANCE = 1e-5  # what batch size, order and worker count may change


class ContractError(AssertionError):
    """A plugin does not fulfill the contract of its kind."""


class Contract:
    """Checks of one plugin; every message starts with its kind and name."""

    def __init__(self, kind: str, plugin: Any) -> None:
        self.kind = kind
        self.factory = plugin if isinstance(plugin, type) else type(plugin)
        self.subject = f"{kind} {getattr(self.factory, 'name', self.factory.__name__)!r}"

    def require(self, condition: object, message: str) -> None:
        """Raise ContractError with ``message`` unless ``condition`` is true."""
        if not condition:
            raise ContractError(f"{self.subject}: {message}")

    def build(self, plugin: Any) -> Any:
        """Return an instance: the plugin itself, or its class built with default options."""
        if not isinstance(plugin, type):
            return plugin
        try:
            return plugin()
        except Exception as error:
            raise ContractError(
                f"{self.subject}: can't be built without arguments ({format_error(error)}); __init__ takes options=None"
            ) from error

    def get_method(self, plugin: Any, name: str, signature: str) -> Callable[..., Any]:
        """Return a method of a plugin; the error for a missing one shows its ``signature``."""
        method = getattr(plugin, name, None)
        self.require(
            callable(method),
            f"has no method {name}; {self.kind}s have {signature}. docs/plugins.md describes its arguments",
        )
        return cast(Callable[..., Any], method)

    def check_attributes(self, *attributes: str) -> None:
        """Check the class attributes by which a plugin is listed and chosen."""
        name = getattr(self.factory, "name", None)
        self.require(
            isinstance(name, str) and NAME_PATTERN.fullmatch(name),
            f"its class attribute name is {name!r}; it is typed on the command line, so it has to be lower case "
            "letters and digits with single dashes, as in 'spectral-kl'",
        )
        for attribute in ("summary", *attributes):
            text = getattr(self.factory, attribute, None)
            self.require(
                isinstance(text, str) and text.strip() and "\n" not in text,
                f"its class attribute {attribute} is {text!r}; it has to be one line of text",
            )

    def check_options(self) -> None:
        """Check that options are declared once, as a frozen dataclass with types, defaults and help."""
        options_class = get_options_class(self.factory)
        self.require(
            dataclasses.is_dataclass(options_class) and options_class.__dataclass_params__.frozen,  # type: ignore[attr-defined]
            "its Options is not a frozen dataclass; declare it with @dataclasses.dataclass(frozen=True)",
        )
        for field in dataclasses.fields(options_class):
            self.require(
                field.default is not dataclasses.MISSING,
                f"option {field.name!r} has no default; a plugin has to run without options: option(default, help)",
            )
        for option in describe_options(self.factory):
            self.require(option.help, f"option {option.name!r} has no help; declare it as option(default, 'help text')")
        try:
            options = build_options(self.factory, {}, owner=self.subject)
        except HsevalError as error:
            raise ContractError(f"{self.subject}: its default options are refused ({error})") from error
        if hasattr(self.factory, "Options"):
            try:
                self.factory(options)
            except TypeError as error:
                raise ContractError(
                    f"{self.subject}: can't be built with its options ({error}); hseval calls the class with one "
                    "argument: def __init__(self, options=None): self.options = options or self.Options()"
                ) from error

    def check_keyword_only(self, method: Callable[..., Any], names: Sequence[str]) -> None:
        """Check that a method takes ``names`` as keyword-only arguments."""
        parameters = inspect.signature(method).parameters
        for name in names:
            self.require(
                name in parameters, f"{method.__name__} does not take {name!r}; docs/plugins.md shows its signature"
            )
            noun = "sets" if name in SET_PARAMETERS else "arguments"
            self.require(
                parameters[name].kind is inspect.Parameter.KEYWORD_ONLY,
                f"{method.__name__} takes {name!r} by position; write a * before it, as swapped {noun} go unnoticed",
            )

    def check_flag(self, attribute: str, default: bool) -> bool:
        """Check that an optional class attribute is True or False, and return it."""
        value = getattr(self.factory, attribute, default)
        self.require(
            isinstance(value, bool),
            f"its class attribute {attribute} is {value!r}; it has to be True or False (default {default})",
        )
        return bool(value)

    def check_refuses(self, action: Callable[[], object], description: str) -> None:
        """Check that a call raises HsevalError, and nothing else."""
        try:
            action()
        except HsevalError as error:
            self.require("\n" not in str(error), f"{description}: its error has several lines; expected one")
        except Exception as error:
            raise ContractError(
                f"{self.subject}: {description}: raised {format_error(error)}; raise hseval.HsevalError with one line "
                "that states what was found and what was expected"
            ) from error
        else:
            raise ContractError(f"{self.subject}: {description}: nothing was raised; raise hseval.HsevalError")


def is_close(a: Any, b: Any, tolerance: float = RELATIVE_TOLERANCE) -> bool:
    """Return whether arrays have one shape and agree to ``tolerance`` of their largest value; NaN equals NaN."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    scale = np.nanmax(np.abs(b), initial=0.0)
    return bool(np.all(np.nan_to_num(np.abs(a - b)) <= tolerance * scale + 1e-12))
