"""What ``--html``, ``--qualify`` and ``--sweep`` of several commands share."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.report import Report


def check_output(option: str, path: str, inputs: tuple[str | None, ...], *, operation: str = "score") -> None:
    """Refuse a file that can't be written, or that is an input.

    Raises:
        HsevalError: which, and why.
    """
    from hseval.utils.atomic_files import check_writable

    check_writable(path)
    for given in inputs:
        if given is not None and Path(given).exists() and Path(path).resolve() == Path(given).resolve():
            raise HsevalError(f"{option} {path}: is an input of this {operation}; name another file")


def check_page_inputs(html_path: str | None, qualify_path: str | None, sweep_path: str | None) -> None:
    """Refuse, before any work, what a page can't show, or what there is no page for.

    Raises:
        HsevalError: a file is not what it should be.
        click.UsageError: there is no page.
    """
    from hseval.qualification.report import load_qualify
    from hseval.sweep.results import load_results

    if html_path is None and qualify_path is not None:
        raise click.UsageError("--qualify goes with --html; hseval qualify --load Q --report F prints the same")
    if html_path is None and sweep_path is not None:
        raise click.UsageError("--sweep goes with --html; hseval pareto S --out F.png draws the same")
    if qualify_path is not None:
        load_qualify(qualify_path)
    if sweep_path is not None:
        load_results(Path(sweep_path))


def save_html(report: Report, path: str, *, qualify: str | None = None, sweep: str | None = None) -> None:
    """Write a report as a page, whole or not at all, with what ``hseval qualify`` and ``hseval sweep`` found."""
    from hseval.core.plugin_manager import get_plugins
    from hseval.utils.atomic_files import write_text

    shown = report if qualify is None else add_sensitivity_section(report, qualify)
    shown = shown if sweep is None else add_pareto_section(shown, sweep)
    page = io.StringIO()
    get_plugins().build("renderer", "html").render(shown, page)
    write_text(path, page.getvalue())


def add_sensitivity_section(report: Report, path: str) -> Report:
    """Return a report with what a JSON file of ``hseval qualify`` says of its scores, for a page.

    Raises:
        HsevalError: the file is no such report.
    """
    from hseval.core.figure_data import FigureData, SensitivitySection
    from hseval.qualification.equivalent_severity import compute_equivalents
    from hseval.qualification.report import load_qualify
    from hseval.qualification.tables import LEGEND, build_table_rows, format_equivalents

    qualified = load_qualify(path)
    found = compute_equivalents(report, qualified)
    shown = SensitivitySection(
        source=path,
        sentences=tuple(format_equivalents(each) for each in found),
        warnings=tuple(dict.fromkeys(warning for each in found for warning in each.warnings)),
        columns=tuple(column.label for column in qualified.columns),
        rows=tuple((name, unit, tuple(cells)) for name, unit, cells in build_table_rows(qualified)),
        legend=LEGEND,
    )
    return dataclasses.replace(report, exhibits=dataclasses.replace(report.exhibits or FigureData(), sensitivity=shown))


def add_pareto_section(report: Report, path: str) -> Report:
    """Return a report with the plot of a sweep's results (``hseval sweep``), for a page.

    Raises:
        HsevalError: there are no such results.
    """
    from hseval.core.figure_data import FigureData, ParetoSection
    from hseval.reporting.summary import format_number
    from hseval.sweep.pareto.front import build_table
    from hseval.sweep.pareto.plot import plot_pareto, render_svg
    from hseval.sweep.results import load_results

    found = load_results(Path(path))
    heads = (found.plot.x, *found.plot.y)
    rows = build_table(found, found.plot.x, found.plot.y)
    shown = ParetoSection(
        source=path,
        x=found.plot.x,
        headers=heads,
        rows=tuple(
            (
                row["run"],
                tuple(format_number((row["figures"][head] or {}).get("value")) for head in heads),
                bool(row["front"]),
            )
            for row in rows
        ),
        plot_svg=render_svg(plot_pareto(found)),
    )
    return dataclasses.replace(report, exhibits=dataclasses.replace(report.exhibits or FigureData(), pareto=shown))
