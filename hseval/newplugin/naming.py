"""What a new plugin can be called, and what follows from its name."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from typing import TYPE_CHECKING

from hseval.utils.errors import HsevalError, nearest

if TYPE_CHECKING:
    from hseval.core.plugin_manager import Plugins

KINDS = ("metric", "extractor", "generator", "reader")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 32  # characters; lines of the files that are written stay within 120
RESERVED = {"metric": ("all",)}  # words that an option takes in place of a name


@dataclasses.dataclass(frozen=True)
class Names:
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
    def cls(self) -> str:
        """The class: it ends with the kind, so that it is no name that the file needs otherwise."""
        camel = "".join(part.capitalize() for part in self.name.split("-"))
        kind = self.kind.capitalize()
        return camel if camel.endswith(kind) and camel != kind else camel + kind


def checked_names(kind: str, name: str, registry: Plugins) -> Names:
    """Return the names of a new plugin.

    Raises:
        HsevalError: another kind, a name that can't be typed or that is taken; with the nearest that can be had.
    """
    if kind not in KINDS:
        known = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise HsevalError(f"{kind!r} is no kind of plugin that can be begun; expected {known}{_near(kind, KINDS)}")
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        told = f"expected lower case letters and digits with single dashes, at most {LONGEST} characters"
        raise HsevalError(f"{name!r} is no name for a plugin; {told}{_instead(mended(name), kind, registry)}")
    names = Names(kind, name)
    if taken := _taken(names, registry):
        raise HsevalError(f"{taken}{_instead(f'my-{name}', kind, registry)}")
    return names


def mended(name: str) -> str:
    """Return the nearest name that can be typed; "" where nothing is left of it."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    words = re.findall(r"[a-z0-9]+", spaced.lower().removeprefix("hseval"))
    return "-".join(words).lstrip("0123456789-")[:LONGEST].rstrip("-")


def _taken(names: Names, registry: Plugins) -> str:
    """Return who has one of the names already; "" if nobody."""
    from hseval.core.plugin_manager import version_of

    if names.name in RESERVED.get(names.kind, ()):
        return f"{names.name!r} means something else where a {names.kind} is named"
    offers = registry.offers(names.kind).get(names.name, [])
    if offers:
        givers = " and ".join(sorted(offer.distribution for offer in offers))
        return f"{names.kind} {names.name!r} is given by {givers} already"
    if version_of(names.distribution) is not None:
        return f"a distribution {names.distribution!r} is installed already"
    if importlib.util.find_spec(names.module) is not None:
        return f"a module {names.module!r} is installed already"
    return ""


def _instead(name: str, kind: str, registry: Plugins) -> str:
    free = NAME.fullmatch(name) and len(name) <= LONGEST and not _taken(Names(kind, name), registry)
    return f" (did you mean {name!r}?)" if free else ""


def _near(kind: str, kinds: tuple[str, ...]) -> str:
    hint = nearest(kind, kinds)
    return hint if "did you mean" in hint else ""
