"""A user's own scores as severities: "fid 3.1 is about 4 nm of shift or 0.8 px of blur"."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hseval.qualification.dose_response import find_equivalent_severity
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.core.report import Report, Score
    from hseval.qualification.report import Curve, MetricColumn, QualifyReport

MIN_SPEARMAN = 0.8  # curves with a lower rank correlation are not used to look up severities
MAX_SIZE_RATIO = 2.0  # a larger ratio of set sizes gives a warning: variance and remaining bias differ


@dataclasses.dataclass(frozen=True)
class EquivalentSeverity:
    """A score as a severity of one degradation.

    Attributes:
        metric: the column's label.
        degradation: its name.
        unit: of the severity.
        relation: ``"about"``, ``"below"`` the smallest severity, ``"beyond"`` the largest.
        severity: at which the curve has the score's excess over its floor.
        interval: at which it has the ends of that excess's 95 % interval, within the severities that were measured;
            None: the report has no interval.
    """

    metric: str
    degradation: str
    unit: str
    relation: str
    severity: float
    interval: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class ScoreEquivalents:
    """One score as severities, or the reason why there are none; with warnings."""

    metric: str
    value: float
    floor: float
    n: int
    equivalents: tuple[EquivalentSeverity, ...]
    missing_reason: str | None = None
    warnings: tuple[str, ...] = ()


def compute_equivalents(report: Report, qualify_report: QualifyReport) -> list[ScoreEquivalents]:
    """Return each score of a report as severities, by the excess over its floor.

    The excess is looked up, not the value: value and floor grow with fewer cubes, but their difference hardly does.
    """
    return [
        equivalents
        for score in report.scores
        for equivalents in _compute_score_equivalents(score, report, qualify_report)
    ]


def merge_report_options(
    report: Report, options: Mapping[str, Mapping[str, Any]], *, keep_extractors: bool
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the metrics that a report has values of, and its options overridden by ``options``.

    Args:
        report: of ``hseval score``.
        options: plugin name -> option -> value; they take precedence.
        keep_extractors: whether to adopt each metric's extractor from the report, too.
    """
    names = [score.name for score in report.scores if score.value is not None]
    settings = report.provenance.get("settings", {})
    merged = {name: dict(values) for name, values in (settings.get("options") or {}).items()}
    for name in names:
        chosen = _get_options(report, name).get("extractor")
        merged.setdefault(name, {}).pop("extractor", None)
        if keep_extractors and chosen is not None:
            merged[name]["extractor"] = chosen
    for name, values in options.items():
        merged.setdefault(name, {}).update(values)
    return names, merged


def _compute_score_equivalents(
    score: Score, report: Report, qualify_report: QualifyReport
) -> Iterator[ScoreEquivalents]:
    if score.value is None or score.floor is None:
        return
    options = _get_options(report, score.name)
    columns = [column for column in qualify_report.columns if column.metric == score.name]
    matching = [column for column in columns if column.extractor == options.get("extractor", column.extractor)]
    if not matching:
        hint = "" if not columns else f" with {options.get('extractor')!r} (--extractors {options.get('extractor')})"
        missing_reason = f"this metric was not qualified{hint}"
        yield ScoreEquivalents(score.name, score.value, score.floor, score.n, (), missing_reason)
    for column in matching:
        yield _compute_column_equivalents(score, column, report, qualify_report)


def _compute_column_equivalents(
    score: Score, column: MetricColumn, report: Report, qualify_report: QualifyReport
) -> ScoreEquivalents:
    assert score.value is not None
    assert score.floor is not None
    curves = [curve for curve in qualify_report.curves if curve.metric == column.label]
    equivalents = tuple(_find_equivalent_severities(score, score.value - score.floor, curves, qualify_report))
    missing_reason = None
    if score.verdict == "like real":
        equivalents, missing_reason = (), "like real: not significantly different from the floor"
    elif not equivalents:
        missing_reason = "no degradation moves this metric significantly and monotonically in this direction"
    warnings = tuple(_collect_warnings(score, column, curves, report, qualify_report))
    return ScoreEquivalents(column.label, score.value, score.floor, score.n, equivalents, missing_reason, warnings)


def _find_equivalent_severities(
    score: Score, excess: float, curves: list[Curve], qualify_report: QualifyReport
) -> Iterator[EquivalentSeverity]:
    excess_interval = score.excess_interval
    units = {row.name: row.unit for row in qualify_report.rows}
    for curve in curves:
        points = [point for point in curve.points if point.excess is not None]
        if not points or curve.detection_threshold is None or abs(curve.spearman or 0.0) < MIN_SPEARMAN:
            continue
        excesses = [point.excess or 0.0 for point in points]
        if (excess > 0) != (excesses[-1] > 0):
            continue
        severities = [point.severity for point in points]
        estimate = find_equivalent_severity(severities, excesses, excess)
        ends = (
            sorted(find_equivalent_severity(severities, excesses, end).severity for end in excess_interval)
            if excess_interval
            else None
        )
        unit, interval = units[curve.degradation], (ends[0], ends[1]) if ends else None
        yield EquivalentSeverity(curve.metric, curve.degradation, unit, estimate.relation, estimate.severity, interval)


def _collect_warnings(
    score: Score, column: MetricColumn, curves: list[Curve], report: Report, qualify_report: QualifyReport
) -> Iterator[str]:
    sizes = {min(curve.sizes) for curve in curves}
    for size in sorted(sizes):
        if score.n and max(size, score.n) > MAX_SIZE_RATIO * min(size, score.n):
            yield f"scored at {format_count(score.n, 'cube')} per side, qualified at {size}: severities are approximate"
            break
    score_options, qualified_options = _get_options(report, score.name), dict(column.options)
    differing = [
        name
        for name, value in qualified_options.items()
        if name in score_options and score_options[name] != value and name != "pairs"
    ]
    if differing:
        yield f"options differ from those qualified: {', '.join(differing)}"
    if column.extractor is not None and _get_extractor_identity(report, column) != _get_extractor_identity(
        qualify_report, column
    ):
        yield f"version or options of extractor {column.extractor!r} differ from those qualified"
    if _get_content_hash(report, "reference") != _get_content_hash(qualify_report, "real"):
        yield "scored against another reference than the cubes that were qualified"


def _get_options(report: Report, metric: str) -> Mapping[str, Any]:
    options: Mapping[str, Any] = report.provenance.get("metrics", {}).get(metric, {}).get("options", {})
    return options


def _get_extractor_identity(report: Report | QualifyReport, column: MetricColumn) -> Any:
    record = report.provenance.get("extractors", {}).get(column.extractor, {})
    return [record.get(name) for name in ("version", "options", "fingerprint")]


def _get_content_hash(report: Report | QualifyReport, role: str) -> Any:
    return report.provenance.get("sets", {}).get(role, {}).get("content")
