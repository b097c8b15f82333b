"""How records show as text and in notebooks: formatters are registered from outside, so that records import none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

_formatters: dict[tuple[str, str], Callable[[Any], str]] = {}


def register_display(kind: str, format: Literal["html", "text"], formatter: Callable[[Any], str]) -> None:
    """Register the function that formats records of a kind (``"report"``, ``"score"``, ``"set"``)."""
    _formatters[kind, format] = formatter


def render_html(kind: str, record: Any) -> str | None:
    """Return a record as HTML; None, for which notebooks show its ``repr``, where no formatter is registered."""
    formatter = _formatters.get((kind, "html"))
    return None if formatter is None else formatter(record)


def render_text(kind: str, record: Any) -> str:
    """Return a record as text; a record of a kind that no formatter is registered for by the kind alone."""
    formatter = _formatters.get((kind, "text"))
    return f"<{kind}>" if formatter is None else formatter(record)
