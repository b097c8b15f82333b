"""``hseval show``."""

from __future__ import annotations

import sys

import click

from hseval.cli.html import qualify_option, sweep_option
from hseval.cli.output_files import check_output


@click.command()
@click.argument("report", metavar="REPORT.json", type=click.Path())
@click.option("--details", is_flag=True, help="Also show values, intervals, floors and remarks.")
@click.option("--html", "html_path", type=click.Path(), metavar="F", help="Write a page, without images.")
@qualify_option
@sweep_option
def show(report: str, details: bool, html_path: str | None, qualify_path: str | None, sweep_path: str | None) -> None:
    """Show a saved report, or make an HTML page of it.

    A page with images needs the cubes: hseval score --html.
    """
    from hseval.cli.html import check_page_inputs, save_html
    from hseval.core.plugin_manager import get_plugins
    from hseval.core.report_file import load_report

    if details and html_path is not None:
        raise click.UsageError("--details has no effect with --html: a page has all details")
    check_page_inputs(html_path, qualify_path, sweep_path)
    if html_path is not None:
        check_output("--html", html_path, (report, qualify_path))
    score_report = load_report(report)
    if html_path is None:
        get_plugins().build("renderer", "terminal", {"details": details}).render(score_report, sys.stdout)
    else:
        save_html(score_report, html_path, qualify=qualify_path, sweep=sweep_path)
