"""Scores and reports, and their JSON format."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hseval.core.display import render_html
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError, format_reason

if TYPE_CHECKING:
    from hseval.core.figure_data import FigureData

REPORT_FORMAT, REPORT_VERSION = "hseval-report", 1

Direction = Literal["lower", "higher", "floor"]


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric's result.

    Attributes:
        name: the metric's name.
        value: mean over disjoint splits at ``n`` cubes per side; None: not computed, ``verdict`` gives the reason.
        floor: the same between two real sets of the same size; None: there are too few real cubes.
        interval: 95 % interval of what ``value`` estimates; None: ``details["no_interval"]`` gives the reason.
        better: which direction is better; ``"floor"``: the nearer to the floor, the better.
        verdict: a short phrase.
        n: cubes per side of each split.
        details: further results by name: standard deviations, the value at full n, per structure, per wavelength ...
    """

    name: str
    value: float | None
    floor: float | None
    interval: tuple[float, float] | None
    better: Direction
    verdict: str
    n: int
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def _repr_html_(self) -> str | None:
        """Return the score as HTML for a notebook."""
        return render_html("score", self)


@dataclasses.dataclass(frozen=True)
class Report:
    """Scores with notes on their validity and the provenance to reproduce them.

    ``exhibits`` is the figure data for an HTML page, where requested; it is neither compared nor written as JSON.
    """

    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    exhibits: FigureData | None = dataclasses.field(default=None, compare=False, repr=False)

    def __getitem__(self, name: str) -> Score:
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)

    def _repr_html_(self) -> str | None:
        """Return the report as HTML for a notebook."""
        return render_html("report", self)

    def to_json(self) -> str:
        """Return the report as JSON text (format ``hseval-report``, version 1); NaN and Inf become null."""
        scores = [dataclasses.asdict(score) for score in self.scores]
        content = {"scores": scores, "notes": self.notes, "provenance": self.provenance}
        return json.dumps(to_jsonable({"format": REPORT_FORMAT, "version": REPORT_VERSION, **content}), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, atomically."""
        write_text(path, self.to_json())


def load_report(path: str | Path) -> Report:
    """Read a report that :meth:`Report.save` wrote.

    Raises:
        HsevalError: the file is missing, not JSON, or not a report of this version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as a report: {format_reason(error)}") from error
    if not isinstance(data, dict) or data.get("format") != REPORT_FORMAT:
        raise HsevalError(f'{path}: not a report of hseval (expected "format": {REPORT_FORMAT!r})')
    if data.get("version") != REPORT_VERSION:
        raise HsevalError(f"{path}: report version {data.get('version')!r}, expected {REPORT_VERSION}")
    try:
        scores = tuple(_parse_score(entry) for entry in data["scores"])
        return Report(scores, tuple(data["notes"]), data["provenance"])
    except (KeyError, TypeError, AttributeError) as error:
        raise HsevalError(f"{path}: a report with parts missing or of another form ({error})") from error


def _parse_score(entry: dict[str, Any]) -> Score:
    interval = entry.pop("interval")
    return Score(**entry, interval=tuple(interval) if interval else None)


def to_jsonable(value: Any) -> Any:
    """Return ``value`` with numpy scalars and arrays, tuples and paths converted to JSON types."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
