"""The reference of everything that is installed, made from what it declares: summaries, needs, options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hseval.core.options import OptionInfo, describe_options
from hseval.core.plugin_manager import Registration, get_plugins
from hseval.core.protocols import Needs

PLACEHOLDER = re.compile(r"^<!-- declared: (\w+) -->$", re.MULTILINE)
DIRECTION_LABELS = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}


def fill_placeholders(markdown: str, docs: Path) -> str:
    """Return a page with ``<!-- declared: KIND -->`` replaced by all plugins of that kind."""
    return PLACEHOLDER.sub(lambda match: "\n".join(_format_kind(match[1], docs)), markdown)


def _format_kind(kind: str, docs: Path) -> Iterator[str]:
    registry = get_plugins()
    for name in registry.get_names(kind):
        yield from format_entry(registry.get_registrations(kind)[name][0], docs)


def format_entry(registration: Registration, docs: Path) -> Iterator[str]:
    """Yield the lines on what a plugin is and on its options."""
    yield f"## `{registration.name}`\n"
    yield f"{_format_sentence(registration.factory.summary)}\n"
    facts = list(_list_facts(registration, docs))
    if facts:
        yield " · ".join(facts) + "\n"
    options = list(describe_options(registration.factory))
    if options:
        yield "| `--set`, with its default | | type |\n| --- | --- | --- |"
        yield "\n".join(format_option(registration.name, option) for option in options) + "\n"
    else:
        yield "Nothing to set.\n"


def format_option(owner: str, option: OptionInfo) -> str:
    """Return an option as a row of a table."""
    text = option.help.replace("|", "&#124;")
    return f"| `{owner}.{option.name}={format_default(option.default)}` | {text} | `{option.type}` |"


def format_default(default: Any) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return "none" if default is None else str(default)


def _list_facts(registration: Registration, docs: Path) -> Iterator[str]:
    if registration.kind == "metric":
        yield DIRECTION_LABELS[registration.factory.better]
        yield from _list_needs(get_plugins().build("metric", registration.name).needs)
    if registration.distribution != "hseval":
        yield f"from `{registration.distribution}`"
    if (docs / "metrics" / f"{registration.name}.md").exists() and registration.kind == "metric":
        yield f"[what it is](../metrics/{registration.name}.md)"


def _list_needs(needs: Needs) -> Iterator[str]:
    if needs.features:
        yield "features of " + ", ".join(f"`{name}`" for name in needs.features)
    for flag, text in (
        (needs.pairs, "compares pairs of cubes"),
        (needs.cubes, "reads cubes again"),
        (needs.train, "needs `--train`"),
        (needs.nm, "needs wavelengths in nm"),
    ):
        if flag:
            yield text


def _format_sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
