"""``--html``, ``--qualify`` and ``--sweep``, as several commands have them."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hseval.core.report import Report


qualify_option = click.option(
    "--qualify",
    "qualify_path",
    type=click.Path(),
    metavar="Q",
    help="For the page: JSON of hseval qualify.",
)
sweep_option = click.option(
    "--sweep", "sweep_path", type=click.Path(), metavar="S", help="For the page: results of hseval sweep."
)


def check_page_inputs(html_path: str | None, qualify_path: str | None, sweep_path: str | None) -> None:
    """Refuse, before any work, inputs that a page can't show, or that are given without a page.

    Raises:
        HsevalError: a file has another format.
        click.UsageError: no page is to be written.
    """
    if html_path is None and qualify_path is not None:
        raise click.UsageError("--qualify needs --html; hseval qualify --load Q --report F prints the same")
    if html_path is None and sweep_path is not None:
        raise click.UsageError("--sweep needs --html; hseval pareto S --out F.png draws the same")
    if qualify_path is not None:
        from hseval.qualification.report import load_qualify

        load_qualify(qualify_path)
    if sweep_path is not None:
        from hseval.sweep.results import load_results

        load_results(Path(sweep_path))


def save_html(report: Report, path: str, *, qualify: str | None = None, sweep: str | None = None) -> None:
    """Write a report as a page, atomically, with the results of ``hseval qualify`` and ``hseval sweep``."""
    from hseval.core.plugin_manager import get_plugins
    from hseval.utils.atomic_files import write_text

    if qualify is not None:
        report = add_sensitivity_section(report, qualify)
    if sweep is not None:
        report = add_pareto_section(report, sweep)
    page = io.StringIO()
    get_plugins().build("renderer", "html").render(report, page)
    write_text(path, page.getvalue())


def add_sensitivity_section(report: Report, path: str) -> Report:
    """Return a report with its scores as severities, from a JSON file of ``hseval qualify``, for a page.

    Raises:
        HsevalError: the file is not a report of ``hseval qualify``.
    """
    from hseval.core.figure_data import FigureData, SensitivitySection
    from hseval.qualification.equivalent_severity import compute_equivalents
    from hseval.qualification.report import load_qualify
    from hseval.qualification.tables import LEGEND, build_table_rows, format_equivalents

    qualify_report = load_qualify(path)
    equivalents = compute_equivalents(report, qualify_report)
    section = SensitivitySection(
        source=path,
        sentences=tuple(format_equivalents(score) for score in equivalents),
        warnings=tuple(dict.fromkeys(warning for score in equivalents for warning in score.warnings)),
        columns=tuple(column.label for column in qualify_report.columns),
        rows=tuple((name, unit, tuple(cells)) for name, unit, cells in build_table_rows(qualify_report)),
        legend=LEGEND,
    )
    figure_data = dataclasses.replace(report.exhibits or FigureData(), sensitivity=section)
    return dataclasses.replace(report, exhibits=figure_data)


def add_pareto_section(report: Report, path: str) -> Report:
    """Return a report with the plot of a sweep's results (``hseval sweep``), for a page.

    Raises:
        HsevalError: ``path`` is not the results of a sweep.
    """
    from hseval.core.figure_data import FigureData, ParetoSection
    from hseval.reporting.summary import format_number
    from hseval.sweep.pareto.front import build_table
    from hseval.sweep.pareto.plot import plot_pareto, render_svg
    from hseval.sweep.results import load_results

    results = load_results(Path(path))
    plot = results.plot
    headers = (plot.x, *plot.y)
    section = ParetoSection(
        source=path,
        x=plot.x,
        headers=headers,
        rows=tuple(
            (
                row["run"],
                tuple(format_number((row["figures"][header] or {}).get("value")) for header in headers),
                bool(row["front"]),
            )
            for row in build_table(results, plot.x, plot.y)
        ),
        plot_svg=render_svg(plot_pareto(results)),
    )
    figure_data = dataclasses.replace(report.exhibits or FigureData(), pareto=section)
    return dataclasses.replace(report, exhibits=figure_data)
