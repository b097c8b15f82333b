"""HTML of records in notebooks: formatters are registered from outside, so that records import no templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_html_formatters: dict[str, Callable[[Any], str]] = {}


def register_html(kind: str, formatter: Callable[[Any], str]) -> None:
    """Register the function that renders records of a kind (``"report"``, ``"score"``, ``"set"``) as HTML."""
    _html_formatters[kind] = formatter


def render_html(kind: str, record: Any) -> str | None:
    """Return a record as HTML; None, for which notebooks show its ``repr``, where no formatter is registered."""
    formatter = _html_formatters.get(kind)
    return None if formatter is None else formatter(record)
