"""A report as one HTML file that needs no network and can be printed."""

from __future__ import annotations

from typing import ClassVar, TextIO

from hseval.core.report import Report


class HtmlRenderer:
    """Writes a page of tables, and of images and plots if the report has figure data."""

    name: ClassVar[str] = "html"
    summary: ClassVar[str] = "one page for people: verdict, tables, images, plots; opens without a network"

    def render(self, report: Report, stream: TextIO) -> None:
        """Write the page."""
        from hseval.renderers.html.page import render_page

        stream.write(render_page(report))
