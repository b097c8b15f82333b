"""The reference of everything that is installed, made from what it declares: summaries, needs, options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hseval.core.hookspecs import Needs
from hseval.core.options import OptionInfo, describe_options
from hseval.core.plugin_manager import Registration, get_plugins

PLACE = re.compile(r"^<!-- declared: (\w+) -->$", re.MULTILINE)
BETTER = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}


def expanded(markdown: str, docs: Path) -> str:
    """Return a page with ``<!-- declared: KIND -->`` replaced by all plugins of that kind."""
    return PLACE.sub(lambda match: "\n".join(_kind(match[1], docs)), markdown)


def _kind(kind: str, docs: Path) -> Iterator[str]:
    registry = get_plugins()
    for name in registry.get_names(kind):
        yield from entry(registry.get_registrations(kind)[name][0], docs)


def entry(offer: Registration, docs: Path) -> Iterator[str]:
    """Yield the lines that say what a plugin is and what can be set."""
    yield f"## `{offer.name}`\n"
    yield f"{_sentence(offer.factory.summary)}\n"
    facts = list(_facts(offer, docs))
    if facts:
        yield " · ".join(facts) + "\n"
    options = list(describe_options(offer.factory))
    if options:
        yield "| `--set`, with its default | | type |\n| --- | --- | --- |"
        yield "\n".join(row(offer.name, option) for option in options) + "\n"
    else:
        yield "Nothing to set.\n"


def row(owner: str, option: OptionInfo) -> str:
    """Return an option as a row of a table."""
    told = option.help.replace("|", "&#124;")
    return f"| `{owner}.{option.name}={shown(option.default)}` | {told} | `{option.type}` |"


def shown(default: Any) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return "none" if default is None else str(default)


def _facts(offer: Registration, docs: Path) -> Iterator[str]:
    if offer.kind == "metric":
        yield BETTER[offer.factory.better]
        yield from _needs(get_plugins().build("metric", offer.name).needs)
    if offer.distribution != "hseval":
        yield f"from `{offer.distribution}`"
    if (docs / "metrics" / f"{offer.name}.md").exists() and offer.kind == "metric":
        yield f"[what it is](../metrics/{offer.name}.md)"


def _needs(needs: Needs) -> Iterator[str]:
    if needs.features:
        yield "rows of " + ", ".join(f"`{name}`" for name in needs.features)
    for flag, told in (
        (needs.pairs, "compares pairs of cubes"),
        (needs.cubes, "reads cubes again"),
        (needs.train, "needs `--train`"),
        (needs.nm, "needs wavelengths in nm"),
    ):
        if flag:
            yield told


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
