"""``hseval show``."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("report", metavar="REPORT.json")
@click.option("--html", "html_path", metavar="F", help="Write an HTML page instead, without images and points.")
@click.option(
    "--qualify", "qualify_path", metavar="Q", help="With --html: JSON of hseval qualify; scores as severities."
)
@click.option("--sweep", "sweep_path", metavar="S", help="With --html: results of hseval sweep; its Pareto plot.")
def show(report: str, html_path: str | None, qualify_path: str | None, sweep_path: str | None) -> None:
    """Show a saved report as tables or as an HTML page.

    A page with images needs the cubes: hseval score --html; with the cache it takes little longer than reading them.
    """
    from hseval.cli.html import check_output, check_page_inputs, save_html
    from hseval.core.plugin_manager import get_plugins
    from hseval.core.report import load_report

    check_page_inputs(html_path, qualify_path, sweep_path)
    if html_path is not None:
        check_output("--html", html_path, (report, qualify_path), operation="command")
    score_report = load_report(report)
    if html_path is None:
        get_plugins().build("renderer", "terminal").render(score_report, sys.stdout)
        return
    save_html(score_report, html_path, qualify=qualify_path, sweep=sweep_path)
