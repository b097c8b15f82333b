"""What a new plugin can be called, and what follows from its name."""

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
MAX_NAME_LENGTH = 32  # characters; lines of the files that are written stay within 120
RESERVED_NAMES = {"metric": ("all",)}  # words that an option takes in place of a name


@dataclasses.dataclass(frozen=True)
class PluginNames:
    """A plugin's kind and name, and what is called after it."""

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        """What pip calls it."""
        return f"hseval-{self.name}"

    @property
    def module(self) -> str:
        """What Python imports."""
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """The class: it ends with the kind, so that it is no name that the file needs otherwise."""
        camel = "".join(part.capitalize() for part in self.name.split("-"))
        kind = self.kind.capitalize()
        return camel if camel.endswith(kind) and camel != kind else camel + kind


def validate_names(kind: str, name: str, registry: PluginManager) -> PluginNames:
    """Return the names of a new plugin.

    Raises:
        HsevalError: another kind, a name that can't be typed or that is taken; with the nearest that can be had.
    """
    if kind not in TEMPLATE_KINDS:
        known = f"{', '.join(TEMPLATE_KINDS[:-1])} or {TEMPLATE_KINDS[-1]}"
        raise HsevalError(
            f"{kind!r} is no kind of plugin that can be begun; expected {known}{_format_kind_hint(kind, TEMPLATE_KINDS)}"
        )
    if not NAME_PATTERN.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        told = f"expected lower case letters and digits with single dashes, at most {MAX_NAME_LENGTH} characters"
        raise HsevalError(
            f"{name!r} is no name for a plugin; {told}{_format_suggestion(suggest_name(name), kind, registry)}"
        )
    names = PluginNames(kind, name)
    if taken := _find_conflict(names, registry):
        raise HsevalError(f"{taken}{_format_suggestion(f'my-{name}', kind, registry)}")
    return names


def suggest_name(name: str) -> str:
    """Return the nearest name that can be typed; "" where nothing is left of it."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.findall(r"[a-z0-9]+", spaced.lower().removeprefix("hseval"))
    return "-".join(words).lstrip("0123456789-")[:MAX_NAME_LENGTH].rstrip("-")


def _find_conflict(names: PluginNames, registry: PluginManager) -> str:
    """Return who has one of the names already; "" if nobody."""
    from hseval.core.plugin_manager import get_version

    if names.name in RESERVED_NAMES.get(names.kind, ()):
        return f"{names.name!r} means something else where a {names.kind} is named"
    offers = registry.get_registrations(names.kind).get(names.name, [])
    if offers:
        givers = " and ".join(sorted(offer.distribution for offer in offers))
        return f"{names.kind} {names.name!r} is given by {givers} already"
    if get_version(names.distribution) is not None:
        return f"a distribution {names.distribution!r} is installed already"
    if importlib.util.find_spec(names.module) is not None:
        return f"a module {names.module!r} is installed already"
    return ""


def _format_suggestion(name: str, kind: str, registry: PluginManager) -> str:
    free = (
        NAME_PATTERN.fullmatch(name)
        and len(name) <= MAX_NAME_LENGTH
        and not _find_conflict(PluginNames(kind, name), registry)
    )
    return f" (did you mean {name!r}?)" if free else ""


def _format_kind_hint(kind: str, kinds: tuple[str, ...]) -> str:
    hint = format_suggestion(kind, kinds)
    return hint if "did you mean" in hint else ""
