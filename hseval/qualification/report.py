"""The report of ``hseval qualify``: a curve for each metric and degradation, read and written as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.core.report import Direction, to_jsonable
from hseval.core.report_file import Provenance
from hseval.utils.atomic_files import write_text
from hseval.utils.structured_files import convert_record, read_json

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

    def __post_init__(self) -> None:
        """Refuse points in another order."""
        severities = [point.severity for point in self.points]
        if severities != sorted(severities) or min(severities, default=1.0) <= 0:
            raise ValueError("expected points in order of severity, above 0")


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

    def __post_init__(self) -> None:
        """Refuse a table with cells missing, or curves beside it."""
        cells = {(column.label, row.name) for column in self.columns for row in self.rows}
        if not cells or cells != {(curve.metric, curve.degradation) for curve in self.curves}:
            raise ValueError("expected a curve for each metric and degradation, and no other")

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
    data = read_json(
        path, "a report of hseval qualify", format=FORMAT, version=VERSION, hint="run hseval qualify again"
    )
    convert_record(data.get("provenance"), Provenance, f"{path}: provenance")
    return convert_record(data, QualifyReport, path)
