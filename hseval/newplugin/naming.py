"""Valid names of new plugins, and the names derived from them."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from typing import TYPE_CHECKING

from hseval.utils.errors import HsevalError, format_suggestion

if TYPE_CHECKING:
    from hseval.core.plugin_manager import PluginManager

TEMPLATE_KINDS = ("metric", "extractor", "generator", "reader")
NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_NAME_LENGTH = 32  # characters; keeps lines of the written files within 120
RESERVED_NAMES = {"metric": ("all",)}  # words with a meaning of their own where a name is expected


@dataclasses.dataclass(frozen=True)
class PluginNames:
    """A plugin's kind and name, and the names derived from them."""

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        """Name of the distribution, for pip."""
        return f"hseval-{self.name}"

    @property
    def module(self) -> str:
        """Name of the module, for ``import``."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """Name of the class; it ends with the kind, so that it does not collide with other names in the file."""
        camel = "".join(part.capitalize() for part in self.name.split("-"))
        kind = self.kind.capitalize()
        return camel if camel.endswith(kind) and camel != kind else camel + kind


def validate_names(kind: str, name: str, registry: PluginManager) -> PluginNames:
    """Return the names of a new plugin.

    Raises:
        HsevalError: unknown kind, or a name that is malformed or taken; the error suggests the nearest valid one.
    """
    if kind not in TEMPLATE_KINDS:
        expected = f"{', '.join(TEMPLATE_KINDS[:-1])} or {TEMPLATE_KINDS[-1]}"
        suggestion = format_suggestion(kind, TEMPLATE_KINDS)
        hint = suggestion if "did you mean" in suggestion else ""
        raise HsevalError(f"there is no template for plugins of kind {kind!r}; expected {expected}{hint}")
    if not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        expected = f"expected lower case letters and digits with single dashes, at most {MAX_NAME_LENGTH} characters"
        hint = _format_suggestion(suggest_name(name), kind, registry)
        raise HsevalError(f"{name!r} is not a valid plugin name; {expected}{hint}")
    names = PluginNames(kind, name)
    if conflict := _find_conflict(names, registry):
        raise HsevalError(f"{conflict}{_format_suggestion(f'my-{name}', kind, registry)}")
    return names


def suggest_name(name: str) -> str:
    """Return the nearest valid name; "" if no character of ``name`` is valid."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.findall(r"[a-z0-9]+", spaced.lower().removeprefix("hseval"))
    return "-".join(words).lstrip("0123456789-")[:MAX_NAME_LENGTH].rstrip("-")


def _find_conflict(names: PluginNames, registry: PluginManager) -> str:
    """Return a message that one of the names is taken; "" if all are free."""
    from hseval.core.plugin_manager import get_version

    if names.name in RESERVED_NAMES.get(names.kind, ()):
        return f"{names.name!r} is reserved: it has a meaning of its own where a {names.kind} is named"
    registrations = registry.get_registrations(names.kind).get(names.name, [])
    if registrations:
        distributions = " and ".join(sorted(registration.distribution for registration in registrations))
        return f"{names.kind} {names.name!r} is already provided by {distributions}"
    if get_version(names.distribution) is not None:
        return f"a distribution {names.distribution!r} is already installed"
    if importlib.util.find_spec(names.module) is not None:
        return f"a module {names.module!r} is already installed"
    return ""


def _format_suggestion(name: str, kind: str, registry: PluginManager) -> str:
    is_valid = NAME_PATTERN.fullmatch(name) and len(name) <= MAX_NAME_LENGTH
    is_free = is_valid and not _find_conflict(PluginNames(kind, name), registry)
    return f" (did you mean {name!r}?)" if is_free else ""
