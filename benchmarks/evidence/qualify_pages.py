"""What ``benchmarks/evidence/qualify.py`` found, written between the markers of the pages; and the pictures beside them."""

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
BLIND = math.inf
TITLES = {
    "phantom": "eyes",
    "indian-pines": "Indian Pines",
    "indian-pines-held-back": "Indian Pines, held back",
}


def keep(report: QualifyReport, path: Path) -> None:
    """Write a report in little space, to be read by ``hseval qualify --load``; of paths only the files' names."""
    data = to_jsonable({"format": FORMAT, "version": VERSION, **dataclasses.asdict(report)})
    text = json.dumps(_rounded(data), separators=(",", ":"))
    write_text(path, re.sub(r'(?<=["=])/[^"=]*/', "", text) + "\n")


def joined(reports: Sequence[QualifyReport]) -> QualifyReport:
    """Return reports of the same cubes, or some of them, as one: the columns of all."""
    first, *rest = reports
    notes = [f"{', '.join(column.label for column in each.columns)}: {each.notes[0]}" for each in rest]
    return dataclasses.replace(
        first,
        columns=tuple(column for each in reports for column in each.columns),
        curves=tuple(curve for each in reports for curve in each.curves),
        notes=(*first.notes, *(note for note, each in zip(notes, rest, strict=True) if each.notes != first.notes)),
    )


def of_set(name: str, report: QualifyReport, by_extractor: QualifyReport | None, folder: Path) -> None:
    """Write tables and pictures of one kind of data.

    Args:
        name: of the data.
        report: all metrics.
        by_extractor: ``fid``, by several extractors; None: not run.
        folder: where all pictures are drawn; some of them go to the docs.
    """
    pictures = folder / f"{name}-plots"
    pictures.mkdir(parents=True, exist_ok=True)
    save_plots(report, pictures)
    kept = [("sees", f"What each metric sees on {name}")]
    if name == "phantom":
        kept.append(("curves-fid", "fid against severity"))
    for picture, _ in kept:
        shutil.copyfile(pictures / f"{picture}.png", IMAGES / f"qualify-{name}-{picture}.png")
    shown = "\n\n".join(f"![{alt}](images/qualify-{name}-{picture}.png)" for picture, alt in kept)
    fill_in(PAGE, name, f"\n{shown}\n\n{format_markdown(report)}")
    fill_in(PAGE, f"{name} by default", default_sees(report))
    if by_extractor is not None:
        fill_in(PAGE, f"{name} by extractor", ranked(by_extractor))


def of_metrics(reports: Mapping[str, QualifyReport]) -> None:
    """Write what each metric sees into its own page, where that has a marker."""
    columns = {column.label: None for report in reports.values() for column in report.columns}
    for metric in columns:
        page = METRICS / f"{metric}.md"
        if not page.exists() or "<!-- qualify -->" not in page.read_text(encoding="utf-8"):
            print(f"{page}: has no marker <!-- qualify -->, so nothing was written")
            continue
        _fill(page, "<!-- qualify -->", "<!-- end of qualify -->", of_metric(metric, reports))


def of_metric(metric: str, reports: Mapping[str, QualifyReport]) -> str:
    """Return the table of one metric: faults by kinds of data."""
    rows = {row.name: row for report in reports.values() for row in report.rows}
    lines = [
        "Smallest severity that is told from the floor, and in brackets Spearman's correlation of value and severity, by",
        f"`benchmarks/evidence/qualify.py`: {'; '.join(_sizes(name, metric, report) for name, report in reports.items())}.",
        "[Qualify](../qualify.md) says what is done and told.",
        "",
        _line(["degradation", "unit of the severity", *(TITLES[name] for name in reports)]),
        _line(["---", "---", *("---:" for _ in reports)]),
    ]
    for name, row in rows.items():
        cells = [_cell(report, metric, name) for report in reports.values()]
        lines.append(_line([name, shorten_unit(row.unit), *cells]))
    return "\n".join(["", *lines, ""])


def ranked(report: QualifyReport) -> str:
    """Return the table of ``fid`` by several extractors: smallest severities told, best ones bold, and mean ranks."""
    labels = [column.label for column in report.columns]
    heads = [f"`{column.extractor}`" for column in report.columns]
    clean, spoiled = report.curves[0].sizes
    lines = [
        f"`fid` by extractor, {clean} clean cubes against {spoiled}: smallest severity told (Spearman).",
        "",
        _line(["degradation", "unit of the severity", *heads]),
        _line(["---", "---", *("---:" for _ in heads)]),
    ]
    ranks = []
    for row in report.rows:
        curves = [report.get_curve(label, row.name) for label in labels]
        severities = [BLIND if curve.detection_threshold is None else curve.detection_threshold for curve in curves]
        ranks.append(rankdata(severities))
        best = min(severities)
        cells = [
            f"**{format_cell(curve)}**" if severity == best < BLIND else format_cell(curve)
            for curve, severity in zip(curves, severities, strict=True)
        ]
        lines.append(_line([row.name, shorten_unit(row.unit), *cells]))
    means = [f"**{each:.2f}**" for each in np.mean(ranks, axis=0)]
    lines.append(_line(["**mean rank**", "", *means]))
    return "\n".join(["", *lines, ""])


def default_sees(report: QualifyReport) -> str:
    """Return how ``fid`` by the default extractor follows the severity of every fault but planted copies."""
    curves = [report.get_curve("fid", row.name) for row in report.rows if row.kind != "copies"]
    found = {curve.degradation: curve.spearman for curve in curves}
    below = [name for name, value in found.items() if value is None or value < MONOTONE]
    blind = [curve.degradation for curve in curves if curve.detection_threshold is None]
    told = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found.items())
    text = (
        f"Spearman's correlation of `fid` (default extractor) with the severity: {told}. "
        f"Of {len(found)} faults {len(found) - len(below)} reach {MONOTONE:g}"
        f"{'' if not below else f' (not {_listed(below)})'}, and "
        f"{'all are told from the floor' if not blind else f'it is blind to {_listed(blind)}'}."
    )
    return f"\n{textwrap.fill(text, WIDTH, break_on_hyphens=False)}\n"


def fill_in(page: Path, name: str, text: str) -> None:
    """Put a text between the markers of a name.

    Raises:
        SystemExit: the page has no such markers.
    """
    first, last = f"<!-- {name}: written by benchmarks/evidence/qualify.py -->", f"<!-- end of {name} -->"
    if first not in page.read_text(encoding="utf-8"):
        raise SystemExit(f"{page}: has no markers {first} and {last}")
    _fill(page, first, last, text)


def _fill(page: Path, first: str, last: str, text: str) -> None:
    """Put a text between two markers; where the last one is missing it is added."""
    before = page.read_text(encoding="utf-8")
    if last not in before:
        before = before.replace(first, f"{first}\n{last}")
    between = re.compile(re.escape(first) + ".*?" + re.escape(last), flags=re.DOTALL)
    write_text(page, between.sub(lambda _: f"{first}\n{text}\n{last}", before))


def _cell(report: QualifyReport, metric: str, degradation: str) -> str:
    try:
        return format_cell(report.get_curve(metric, degradation))
    except KeyError:  # does not fit these data
        return "-"


def _sizes(name: str, metric: str, report: QualifyReport) -> str:
    sizes = [curve.sizes for curve in report.curves if curve.metric == metric]
    return f"{TITLES[name]}, {' and '.join(f'{clean} against {spoiled}' for clean, spoiled in sorted(set(sizes)))}"


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rounded(found: Any) -> Any:
    """Return JSON data with numbers of few digits."""
    if isinstance(found, float):
        return float(f"{found:.{DIGITS}g}")
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    return [_rounded(value) for value in found] if isinstance(found, list) else found
