"""Results of ``benchmarks/evidence/qualify.py``, written between markers of the pages, and their pictures."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from hseval.core.report import to_jsonable
from hseval.qualification.plots import save_plots
from hseval.qualification.report import FORMAT, VERSION, QualifyReport
from hseval.qualification.tables import format_cell, format_markdown, shorten_unit
from hseval.utils.atomic_files import write_text

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, METRICS, IMAGES = DOCS / "qualify.md", DOCS / "metrics", DOCS / "images"
DIGITS, WIDTH = 5, 130
MONOTONE = 0.95
UNDETECTED = math.inf
TITLES = {
    "phantom": "eyes",
    "indian-pines": "Indian Pines",
    "indian-pines-held-back": "Indian Pines, held back",
}


def save_compact(report: QualifyReport, path: Path) -> None:
    """Write a compact report for ``hseval qualify --load``, with file names in place of paths."""
    data = to_jsonable({"format": FORMAT, "version": VERSION, **dataclasses.asdict(report)})
    text = json.dumps(_round(data), separators=(",", ":"))
    write_text(path, re.sub(r'(?<=["=])/[^"=]*/', "", text) + "\n")


def join_reports(reports: Sequence[QualifyReport]) -> QualifyReport:
    """Return reports on the same cubes, or on some of them, as one report with the columns of all."""
    first, *rest = reports
    notes = [f"{', '.join(column.label for column in report.columns)}: {report.notes[0]}" for report in rest]
    return dataclasses.replace(
        first,
        columns=tuple(column for report in reports for column in report.columns),
        curves=tuple(curve for report in reports for curve in report.curves),
        notes=(*first.notes, *(note for note, report in zip(notes, rest, strict=True) if report.notes != first.notes)),
    )


def write_set_tables(name: str, report: QualifyReport, by_extractor: QualifyReport | None, folder: Path) -> None:
    """Write tables and pictures of one data set.

    Args:
        name: of the data set.
        report: on all metrics.
        by_extractor: on ``fid`` with several extractors; None: not run.
        folder: for all pictures, some of which are copied to the docs.
    """
    pictures = folder / f"{name}-plots"
    pictures.mkdir(parents=True, exist_ok=True)
    save_plots(report, pictures)
    published = [("sees", f"What each metric detects on {name}")]
    if name == "phantom":
        published.append(("curves-fid", "fid against severity"))
    for picture, _ in published:
        shutil.copyfile(pictures / f"{picture}.png", IMAGES / f"qualify-{name}-{picture}.png")
    images = "\n\n".join(f"![{alt}](images/qualify-{name}-{picture}.png)" for picture, alt in published)
    fill_markers(PAGE, name, f"\n{images}\n\n{format_markdown(report)}")
    fill_markers(PAGE, f"{name} by default", format_default_monotonicity(report))
    if by_extractor is not None:
        fill_markers(PAGE, f"{name} by extractor", format_extractor_ranking(by_extractor))


def write_metric_pages(reports: Mapping[str, QualifyReport]) -> None:
    """Write the table of each metric into its page, if that has a marker."""
    columns = {column.label: None for report in reports.values() for column in report.columns}
    for metric in columns:
        page = METRICS / f"{metric}.md"
        if not page.exists() or "<!-- qualify -->" not in page.read_text(encoding="utf-8"):
            print(f"{page}: has no marker <!-- qualify -->, so nothing was written")
            continue
        _fill_between(page, "<!-- qualify -->", "<!-- end of qualify -->", format_metric_table(metric, reports))


def format_metric_table(metric: str, reports: Mapping[str, QualifyReport]) -> str:
    """Return the table of one metric: degradations by data sets."""
    rows = {row.name: row for report in reports.values() for row in report.rows}
    lines = [
        "Smallest severity that differs significantly from the floor, and in parentheses "
        "Spearman's correlation of value",
        "and severity, by `benchmarks/evidence/qualify.py`:",
        f"{'; '.join(_format_sizes(name, metric, report) for name, report in reports.items())}.",
        "[Qualify](../qualify.md) describes the method.",
        "",
        _format_row(["degradation", "unit of the severity", *(TITLES[name] for name in reports)]),
        _format_row(["---", "---", *("---:" for _ in reports)]),
    ]
    for name, row in rows.items():
        cells = [_format_cell(report, metric, name) for report in reports.values()]
        lines.append(_format_row([name, shorten_unit(row.unit), *cells]))
    return "\n".join(["", *lines, ""])


def format_extractor_ranking(report: QualifyReport) -> str:
    """Return the table of ``fid`` by extractor: smallest severities detected, the best in bold, and mean ranks."""
    labels = [column.label for column in report.columns]
    heads = [f"`{column.extractor}`" for column in report.columns]
    clean, degraded = report.curves[0].sizes
    lines = [
        f"`fid` by extractor, {clean} clean against {degraded} degraded cubes: smallest severity detected (Spearman).",
        "",
        _format_row(["degradation", "unit of the severity", *heads]),
        _format_row(["---", "---", *("---:" for _ in heads)]),
    ]
    ranks = []
    for row in report.rows:
        curves = [report.get_curve(label, row.name) for label in labels]
        severities = [
            UNDETECTED if curve.detection_threshold is None else curve.detection_threshold for curve in curves
        ]
        ranks.append(rankdata(severities))
        best = min(severities)
        cells = [
            f"**{format_cell(curve)}**" if severity == best < UNDETECTED else format_cell(curve)
            for curve, severity in zip(curves, severities, strict=True)
        ]
        lines.append(_format_row([row.name, shorten_unit(row.unit), *cells]))
    means = [f"**{rank:.2f}**" for rank in np.mean(ranks, axis=0)]
    lines.append(_format_row(["**mean rank**", "", *means]))
    return "\n".join(["", *lines, ""])


def format_default_monotonicity(report: QualifyReport) -> str:
    """Return how ``fid`` with the default extractor follows the severity of all degradations except planted copies."""
    curves = [report.get_curve("fid", row.name) for row in report.rows if row.kind != "copies"]
    correlations = {curve.degradation: curve.spearman for curve in curves}
    below = [name for name, value in correlations.items() if value is None or value < MONOTONE]
    undetected = [curve.degradation for curve in curves if curve.detection_threshold is None]
    values = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in correlations.items())
    text = (
        f"Spearman's correlation of `fid` (default extractor) with the severity: {values}. "
        f"{len(correlations) - len(below)} of {len(correlations)} degradations reach {MONOTONE:g}"
        f"{'' if not below else f' (not {_join_names(below)})'}, and "
        f"{f'it is insensitive to {_join_names(undetected)}' if undetected else 'all are detected'}."
    )
    return f"\n{textwrap.fill(text, WIDTH, break_on_hyphens=False)}\n"


def fill_markers(page: Path, name: str, text: str) -> None:
    """Write a text between the markers of a name.

    Raises:
        SystemExit: the page has no such markers.
    """
    first, last = f"<!-- {name}: written by benchmarks/evidence/qualify.py -->", f"<!-- end of {name} -->"
    if first not in page.read_text(encoding="utf-8"):
        raise SystemExit(f"{page}: has no markers {first} and {last}")
    _fill_between(page, first, last, text)


def _fill_between(page: Path, first: str, last: str, text: str) -> None:
    """Write a text between two markers; a missing last marker is added."""
    content = page.read_text(encoding="utf-8")
    if last not in content:
        content = content.replace(first, f"{first}\n{last}")
    between = re.compile(re.escape(first) + ".*?" + re.escape(last), flags=re.DOTALL)
    write_text(page, between.sub(lambda _: f"{first}\n{text}\n{last}", content))


def _format_cell(report: QualifyReport, metric: str, degradation: str) -> str:
    try:
        return format_cell(report.get_curve(metric, degradation))
    except KeyError:  # not applicable to these data
        return "-"


def _format_sizes(name: str, metric: str, report: QualifyReport) -> str:
    sizes = [curve.sizes for curve in report.curves if curve.metric == metric]
    return f"{TITLES[name]}, {' and '.join(f'{clean} against {degraded}' for clean, degraded in sorted(set(sizes)))}"


def _join_names(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _format_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _round(data: Any) -> Any:
    """Return JSON data with floats rounded to ``DIGITS`` significant digits."""
    if isinstance(data, float):
        return float(f"{data:.{DIGITS}g}")
    if isinstance(data, dict):
        return {name: _round(value) for name, value in data.items()}
    return [_round(value) for value in data] if isinstance(data, list) else data
