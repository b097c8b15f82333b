"""Scores and reports, and their JSON format."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hseval.core.display import render_html, render_text
from hseval.core.score_records import Interval, SegmentationRecord, SplitStatistics
from hseval.utils.atomic_files import write_text

if TYPE_CHECKING:
    from hseval.core.figure_data import FigureData

REPORT_FORMAT, REPORT_VERSION = "hseval-report", 2

Direction = Literal["lower", "higher", "floor"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """One metric's result.

    Attributes:
        name: the metric's name.
        value: mean over disjoint splits at ``n`` cubes per side; None: not computed, ``verdict`` gives the reason.
        floor: the same between two real sets of the same size; None: there are too few real cubes.
        excess: the value minus the floor.
        interval: 95 % interval of what ``value`` estimates; None: ``statistics.no_interval`` gives the reason.
        excess_interval: the same of ``excess``.
        p_value: two-sided, that the excess is 0.
        p_adjusted: the same, Holm-adjusted over the report's scores.
        margin: the excess up to which a score counts as equivalent to the floor.
        equivalent: the severity of a degradation that the excess equals, in words.
        better: which direction is better; ``"floor"``: the nearer to the floor, the better.
        verdict: a short phrase.
        n: cubes per side of each split.
        details: what the metric itself adds, at full size: per structure, per wavelength ...; JSON types alone.
        statistics: what stands behind the figures; None where there is no value.
        segmentation: the masks, where a segmenter found them.
    """

    name: str
    value: float | None = None
    floor: float | None = None
    excess: float | None = None
    interval: Interval | None = None
    excess_interval: Interval | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    margin: float | None = None
    equivalent: str | None = None
    better: Direction
    verdict: str
    n: int = 0
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    statistics: SplitStatistics | None = None
    segmentation: SegmentationRecord | None = None

    def _repr_html_(self) -> str | None:
        """Return the score as HTML for a notebook."""
        return render_html("score", self)


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """Scores with notes on their validity and the provenance to reproduce them; ``str`` gives the terminal's table.

    Attributes:
        scores: one a metric.
        notes: on the validity of the scores, one sentence each.
        provenance: versions, options, seed, content hashes, command line, machine and time.
        exhibits: the figure data for an HTML page, where requested; neither compared nor written as JSON.
        differences: where samples differ from real cubes, one sentence each.
    """

    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    exhibits: FigureData | None = dataclasses.field(default=None, compare=False)
    differences: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Score:
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)

    def __str__(self) -> str:
        return render_text("report", self)

    __repr__ = __str__

    def _repr_html_(self) -> str | None:
        """Return the report as HTML for a notebook."""
        return render_html("report", self)

    def scalars(self) -> dict[str, float]:
        """Return the scores' numbers for a training log: ``"fid"`` is a value, ``"fid/floor"`` its floor.

        The others are ``/excess``, ``/excess_low``, ``/excess_high`` (its interval) and ``/p_adjusted``; what was not
        computed is left out.
        """
        return {key: float(value) for score in self.scores for key, value in _iter_scalars(score) if value is not None}

    def to_json(self) -> str:
        """Return the report as JSON text (format ``hseval-report``, version 2); NaN and Inf become null."""
        content = {
            "format": REPORT_FORMAT,
            "version": REPORT_VERSION,
            "scores": [dataclasses.asdict(score) for score in self.scores],
            "notes": self.notes,
            "differences": self.differences,
            "provenance": self.provenance,
        }
        return json.dumps(to_jsonable(content), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, atomically."""
        write_text(path, self.to_json())


def _iter_scalars(score: Score) -> Iterator[tuple[str, float | None]]:
    low, high = score.excess_interval or (None, None)
    yield score.name, score.value
    yield f"{score.name}/floor", score.floor
    yield f"{score.name}/excess", score.excess
    yield f"{score.name}/excess_low", low
    yield f"{score.name}/excess_high", high
    yield f"{score.name}/p_adjusted", score.p_adjusted


def to_jsonable(value: Any) -> Any:
    """Return ``value`` with numpy scalars and arrays, tuples and paths converted to JSON types."""
    if isinstance(value, Mapping):
        return {_to_text(key): to_jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (int, bool)) else _to_text(value)


def _to_text(value: Any) -> str:
    # A file name that is not UTF-8 has surrogates, which no JSON reader has to accept.
    return str(value).encode(errors="replace").decode()
