"""A report as JSON, the format that other commands and programs read."""

from __future__ import annotations

from typing import ClassVar, TextIO

from hseval.core.report import Report


class JsonRenderer:
    """Writes ``{"format": "hseval-report", "version": 1, ...}``."""

    name: ClassVar[str] = "json"
    summary: ClassVar[str] = "the whole report as JSON, for programs"

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the report."""
        stream.write(report.to_json())
