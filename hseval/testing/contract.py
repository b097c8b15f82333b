"""Parts shared by the checks of all kinds: counting, the error, and checks of names, options and signatures."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from hseval.core.capabilities import get_options
from hseval.core.options import NoOptions, build_options, describe_options, get_options_class
from hseval.core.plugin_manager import get_plugins
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.plural import format_count

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SET_PARAMETERS = ("real", "generated", "train")
RELATIVE_TOLERANCE = 1e-5  # what batch size, order and worker count may change


class ContractError(AssertionError):
    """A plugin does not fulfill the contract of its kind."""


@dataclasses.dataclass(frozen=True)
class CheckRecord:
    """What the checks of a plugin that fulfills its contract did; as text, one line.

    Attributes:
        subject: kind and name.
        checks: how many requirements were checked.
        skipped: those that were not, each with the reason.
    """

    subject: str
    checks: int
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        skipped = f", {len(self.skipped)} skipped: {'; '.join(self.skipped)}" if self.skipped else ""
        return f"{self.subject}: {format_count(self.checks, 'check')}{skipped}"


class Contract:
    """Checks of one plugin, counted; every message starts with its kind and name."""

    def __init__(self, kind: str, plugin: Any) -> None:
        self.kind, self.plugin = kind, plugin
        self.factory = plugin if isinstance(plugin, type) else type(plugin)
        self.subject = f"{kind} {self.get_member('name', self.factory.__name__)!r}"
        self.checks, self.skipped = 0, list[str]()

    def get_record(self) -> CheckRecord:
        """Return what was checked up to now."""
        return CheckRecord(self.subject, self.checks, tuple(self.skipped))

    def get_member(self, name: str, default: Any = None) -> Any:
        """Return a member of the class, or the default; its value may be of any type."""
        return getattr(self.factory, name, default)

    def require(self, condition: object, message: str) -> None:
        """Count a check, and raise ContractError with ``message`` unless ``condition`` is true."""
        self.checks += 1
        if not condition:
            raise ContractError(f"{self.subject}: {message}")

    def skip(self, check: str, reason: str) -> None:
        """Record a check that can't run."""
        self.skipped.append(f"{check} ({reason})")

    @contextlib.contextmanager
    def explain_errors(self, message: str, *types: type[Exception]) -> Iterator[None]:
        """Count a check: that a block raises none of ``types`` (left out: of all); ``{error}`` is what it raised."""
        self.checks += 1
        try:
            yield
        except Exception as error:
            if isinstance(error, ContractError) or not isinstance(error, types or Exception):
                raise
            raise ContractError(f"{self.subject}: {message.replace('{error}', format_error(error))}") from error

    def build(self) -> Any:
        """Return an instance: the plugin itself, or its class built with default options."""
        if not isinstance(self.plugin, type):
            return self.plugin
        with self.explain_errors("can't be built without arguments ({error}); __init__ takes options=None"):
            return self.plugin()

    def build_new(self) -> Any:
        """Return a new instance with the plugin's options, without any state in memory."""
        options = None if isinstance(self.plugin, type) else get_options(self.plugin)
        return self.factory() if options is None else self.factory(options)

    def copy_by_pickling(self, instance: Any, noun: str) -> Any:
        """Return a copy as a worker process gets it."""
        with self.explain_errors(
            f"{noun} can't be pickled ({{error}}), so it can't be sent to a worker process; "
            "store arrays rather than open files or local functions"
        ):
            return pickle.loads(pickle.dumps(instance))  # trusted bytes

    def get_method(self, instance: Any, name: str, signature: str) -> Callable[..., Any]:
        """Return a method of an instance; the error for a missing one shows its ``signature``."""
        method = getattr(instance, name, None)
        self.require(
            callable(method),
            f"has no method {name}; {self.kind}s have {signature}. docs/plugins.md describes its arguments",
        )
        return cast(Callable[..., Any], method)

    def check_attributes(self, *attributes: str) -> None:
        """Check the class attributes by which a plugin is listed and chosen."""
        name = self.get_member("name")
        self.require(
            isinstance(name, str) and NAME_PATTERN.fullmatch(name),
            f"its class attribute name is {name!r}; it is typed on the command line, so it has to be lower case "
            "letters and digits with single dashes, as in 'spectral-kl'",
        )
        for attribute in ("summary", *attributes):
            text = self.get_member(attribute)
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
        with self.explain_errors("its default options are refused ({error})", HsevalError):
            options = build_options(self.factory, {}, owner=self.subject)
        if options_class is not NoOptions:
            message = (
                "can't be built with its options ({error}); hseval calls the class with one argument: "
                "def __init__(self, options=None): self.options = options or self.Options()"
            )
            with self.explain_errors(message, TypeError):
                self.factory(options)

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

    def check_flag(self, attribute: str, default: bool) -> None:
        """Check that an optional class attribute is True or False."""
        value = self.get_member(attribute, default)
        self.require(
            isinstance(value, bool),
            f"its class attribute {attribute} is {value!r}; it has to be True or False (default {default})",
        )

    def check_mask(self, name: str, mask: Any, shape: tuple[int, ...]) -> None:
        """Check that a mask is bool and of this shape, ``(y, x)`` or ``(n, y, x)``."""
        axes = "(y, x)" if len(shape) == 2 else "(n, y, x)"
        self.require(
            mask.dtype == np.bool_ and mask.shape == shape,
            f"mask {name!r} is {mask.dtype} {mask.shape}; expected bool {shape}, as {axes}",
        )

    def check_refuses(self, action: Callable[[], object], description: str) -> None:
        """Check that a call raises HsevalError, and nothing else."""
        expected = "raise hseval.HsevalError with one line that states what was found and what was expected"
        with self.explain_errors(f"{description}: raised {{error}}; {expected}"):
            try:
                action()
            except HsevalError as error:
                self.require("\n" not in str(error), f"{description}: its error has several lines; expected one")
            else:
                raise ContractError(f"{self.subject}: {description}: nothing was raised; raise hseval.HsevalError")


def find_plugin(kind: str, name: str) -> Any:
    """Return the class that is registered under a name, as commands find it.

    Raises:
        HsevalError: there is none, or two distributions provide it.
    """
    return get_plugins().find(kind, name)


def is_close(a: Any, b: Any, tolerance: float = RELATIVE_TOLERANCE) -> bool:
    """Return whether arrays have one shape and agree to ``tolerance`` of their largest value; NaN equals NaN."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    scale = np.nanmax(np.abs(b), initial=0.0)
    return bool(np.all(np.nan_to_num(np.abs(a - b)) <= tolerance * scale + 1e-12))
