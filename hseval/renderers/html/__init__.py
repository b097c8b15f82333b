"""A report as one HTML file: opens anywhere, needs no network, prints."""

from __future__ import annotations

from typing import ClassVar, TextIO

from hseval.core.report import Report


class HtmlRenderer:
    """Writes a page of tables, and of pictures and plots where the report brings exhibits."""

    name: ClassVar[str] = "html"
    summary: ClassVar[str] = "one page for people: verdict, tables, pictures, plots; opens without a network"

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the page."""
        from hseval.renderers.html.page import render_page

        stream.write(render_page(report))
