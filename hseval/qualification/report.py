"""The report of ``hseval qualify``: a curve for each metric and degradation, read and written as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.core.report import Direction, to_jsonable
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError, format_reason

FORMAT, VERSION = "hseval-qualify", 2

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class MetricColumn:
    """A requested metric.

    Attributes:
        label: its name, with the extractor in parentheses where ``--extractors`` was given: ``"fid (scattering)"``.
        metric: its name.
        extractor: the feature extractor, for metrics with such an option; else None.
        options: all its options.
        better: which way is better, as for a score.
    """

    label: str
    metric: str
    extractor: str | None
    options: Mapping[str, Any]
    better: Direction


@dataclasses.dataclass(frozen=True)
class DegradationRow:
    """A degradation that was applied, with its attributes."""

    name: str
    summary: str
    kind: str
    unit: str
    severities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SeverityPoint:
    """A metric's result at one severity.

    Attributes:
        severity: in the degradation's unit.
        value: clean half against degraded half; None: not computed.
        interval: 95 % interval of ``value``.
        excess: ``value`` minus the floor.
        excess_interval: 95 % interval of ``excess``: narrower than that of the value, as floor and value are computed
            from the same cubes.
        excess_std: standard deviation of the excess between independent sets of this size (of the difference's excess,
            if the value is the absolute value of a difference).
        is_significant: the excess differs significantly from 0
            (:func:`hseval.qualification.dose_response.is_excess_significant`).
        missing_reason: why there is no value.
    """

    severity: float
    value: float | None = None
    interval: Interval | None = None
    excess: float | None = None
    excess_interval: Interval | None = None
    excess_std: float | None = None
    is_significant: bool = False
    missing_reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """How a metric reacts to a degradation.

    Attributes:
        metric: the column's label.
        degradation: the row's name.
        floor: the value at severity 0; None: not computed.
        floor_interval: its 95 % interval.
        null_std: standard deviation of the excess between independent real sets of this size.
        sizes: numbers of clean and of degraded cubes.
        points: in order of severity.
        spearman: rank correlation of value and severity, severity 0 included; None: the value never changes. If the
            value is the absolute value of a difference, that of the difference, in the direction in which it moves.
        detection_threshold: the smallest severity from which on all differ significantly from the floor; None: the
            metric is insensitive.
        missing_reason: why there is no curve.
    """

    metric: str
    degradation: str
    floor: float | None
    floor_interval: Interval | None
    null_std: float | None
    sizes: tuple[int, int]
    points: tuple[SeverityPoint, ...]
    spearman: float | None
    detection_threshold: float | None
    missing_reason: str | None = None


@dataclasses.dataclass(frozen=True)
class QualifyReport:
    """Curves, with notes and the provenance that reproduces them.

    Attributes:
        columns: the metrics.
        rows: the degradations that were applied.
        curves: one for each metric and degradation.
        not_applied: degradation -> why it was left out.
        notes: caveats and sizes, to be read before the numbers.
        provenance: versions, options, seed, content hashes ...
    """

    columns: tuple[MetricColumn, ...]
    rows: tuple[DegradationRow, ...]
    curves: tuple[Curve, ...]
    not_applied: Mapping[str, str]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def get_curve(self, metric: str, degradation: str) -> Curve:
        """Return the curve of a column (by label) and a degradation.

        Raises:
            KeyError: there is none.
        """
        for curve in self.curves:
            if (curve.metric, curve.degradation) == (metric, degradation):
                return curve
        raise KeyError((metric, degradation))

    def to_json(self) -> str:
        """Return the report as JSON text (format ``hseval-qualify``, version 2)."""
        return (
            json.dumps(to_jsonable({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}), indent=1) + "\n"
        )

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, atomically."""
        write_text(path, self.to_json())


def load_qualify(path: str | Path) -> QualifyReport:
    """Read a report that :meth:`QualifyReport.save` wrote.

    Raises:
        HsevalError: the file is missing, is not JSON, or is not a report of this kind and version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as a report of hseval qualify: {format_reason(error)}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        file_format = data.get("format") if isinstance(data, dict) else None
        raise HsevalError(f'{path}: not a report of hseval qualify ("format" is {file_format!r}, expected {FORMAT!r})')
    if data.get("version") != VERSION:
        raise HsevalError(f"{path}: report version {data.get('version')!r}, expected {VERSION}")
    try:
        return QualifyReport(
            columns=tuple(MetricColumn(**entry) for entry in data["columns"]),
            rows=tuple(DegradationRow(**{**entry, "severities": tuple(entry["severities"])}) for entry in data["rows"]),
            curves=tuple(_parse_curve(entry) for entry in data["curves"]),
            not_applied=data["not_applied"],
            notes=tuple(data["notes"]),
            provenance=data["provenance"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise HsevalError(f"{path}: a report with parts missing or of another form ({error})") from error


def _parse_curve(entry: dict[str, Any]) -> Curve:
    points = tuple(
        SeverityPoint(**{**point, **{name: _parse_interval(point[name]) for name in ("interval", "excess_interval")}})
        for point in entry["points"]
    )
    ranges = {"floor_interval": _parse_interval(entry["floor_interval"]), "sizes": tuple(entry["sizes"])}
    return Curve(**{**entry, **ranges, "points": points})


def _parse_interval(ends: list[float] | None) -> Interval | None:
    return None if ends is None else (ends[0], ends[1])
