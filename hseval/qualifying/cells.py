"""What the tables say of a curve, whatever they are drawn with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hseval.qualifying.equivalent import Equivalent, Translated
    from hseval.qualifying.report import Curve, QualifyReport

BLIND, MISSING = "blind", "-"
KINDS = ("spectral", "spatial", "set", "copies")
LEGEND = (
    "smallest dose from which on every dose is told from the floor (in brackets: Spearman's correlation of value and "
    "dose); blind: the largest dose is not told; -: not computed"
)


def cell(curve: Curve) -> str:
    """Return one cell: ``"4 (0.98)"``, ``"blind (0.31)"`` or ``"-"``."""
    if curve.floor is None or all(point.value is None for point in curve.points):
        return MISSING
    seen = BLIND if curve.told_from is None else f"{curve.told_from:.3g}"
    return seen if curve.spearman is None else f"{seen} ({curve.spearman:.2f})"


def rows_of(report: QualifyReport) -> list[tuple[str, str, list[str]]]:
    """Return for each degradation its name, its unit and the cells of all columns."""
    return [
        (row.name, short_unit(row.unit), [cell(report.curve(column.label, row.name)) for column in report.columns])
        for row in report.rows
    ]


def short_unit(unit: str) -> str:
    """Return a unit without what explains it in brackets."""
    return unit.split(" (", maxsplit=1)[0]


def missing(report: QualifyReport) -> list[str]:
    """Return why columns have no value, each reason once."""
    said: dict[str, None] = {}
    for curve in report.curves:
        reasons = [curve.why, *(point.why for point in curve.points)]
        said.update({f"{curve.metric}: not computed: {why}": None for why in reasons if why})
    return list(said)


def sentence(found: Translated) -> str:
    """Return a score as doses, in one line."""
    head = f"{found.metric} {found.value:.4g} (floor {found.floor:.4g}, n {found.n})"
    if found.why:
        return f"{head}: {found.why}"
    return f"{head} is {'; or '.join(_dose(each) for each in found.equivalents)}"


def _dose(found: Equivalent) -> str:
    """Return one dose: ``"about 4 nm (3 to 5.2) of shift"``."""
    word = {"about": "about", "below": "less than", "beyond": "more than"}[found.relation]
    shown = found.interval is not None and found.relation == "about"
    between = f" ({found.interval[0]:.2g} to {found.interval[1]:.2g})" if shown and found.interval else ""
    return f"{word} {found.dose:.2g} {short_unit(found.unit)}{between} of {found.degradation}"
