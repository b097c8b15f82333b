"""What ``--html`` and ``--qualify`` of several commands share."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

from hseval.errors import HsevalError

if TYPE_CHECKING:
    from hseval.report import Report


def check_output(option: str, path: str, inputs: tuple[str | None, ...], *, of: str = "score") -> None:
    """Refuse a file that can't be written, or that is an input.

    Raises:
        HsevalError: which, and why.
    """
    from hseval.files import check_writable

    check_writable(path)
    for given in inputs:
        if given is not None and Path(given).exists() and Path(path).resolve() == Path(given).resolve():
            raise HsevalError(f"{option} {path}: is an input of this {of}; name another file")


def save_html(report: Report, path: str) -> None:
    """Write a report as a page, whole or not at all."""
    from hseval.files import write_text
    from hseval.plugins import plugins

    page = io.StringIO()
    plugins().build("renderer", "html").render(report, page)
    write_text(path, page.getvalue())


def with_qualify(report: Report, path: str) -> Report:
    """Return a report with what a JSON file of ``hseval qualify`` says of its scores, for a page.

    Raises:
        HsevalError: the file is no such report.
    """
    from hseval.exhibits import Exhibits, Qualified
    from hseval.qualifying.cells import LEGEND, rows_of, sentence
    from hseval.qualifying.equivalent import translated
    from hseval.qualifying.report import load_qualify

    qualified = load_qualify(path)
    found = translated(report, qualified)
    shown = Qualified(
        source=path,
        sentences=tuple(sentence(each) for each in found),
        warnings=tuple(dict.fromkeys(warning for each in found for warning in each.warnings)),
        columns=tuple(column.label for column in qualified.columns),
        rows=tuple((name, unit, tuple(cells)) for name, unit, cells in rows_of(qualified)),
        legend=LEGEND,
    )
    return dataclasses.replace(report, exhibits=dataclasses.replace(report.exhibits or Exhibits(), qualified=shown))
