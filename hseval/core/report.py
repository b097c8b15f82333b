"""What a score and a report are, and how they are read and written as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
        value: mean over disjoint splits at ``n`` cubes a side; None: not computed, ``verdict`` says why.
        floor: the same between two real sets of the same size; None: there are too few real cubes.
        interval: 95 % interval of what ``value`` estimates; None: ``details["no_interval"]`` says why there is none.
        better: which way is better; ``"floor"``: best is nearest the floor.
        verdict: one plain phrase.
        n: cubes a side behind ``value`` and ``floor``.
        details: the rest, by name: spreads, the value at full n, per structure, per wavelength ...
    """

    name: str
    value: float | None
    floor: float | None
    interval: tuple[float, float] | None
    better: Direction
    verdict: str
    n: int
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return the score as a notebook shows it."""
        from hseval.reporting.notebook import render_score_html

        return render_score_html(self)


@dataclasses.dataclass(frozen=True)
class Report:
    """Scores with the notes that qualify them and the provenance that repeats them.

    ``exhibits`` are pictures and points for a page, where they were asked for; they are neither compared nor written
    as JSON.
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

    def _repr_html_(self) -> str:
        """Return the report as a notebook shows it."""
        from hseval.reporting.notebook import render_report_html

        return render_report_html(self)

    def to_json(self) -> str:
        """Return the report as JSON text (format ``hseval-report``, version 1); not-a-number becomes null."""
        scores = [dataclasses.asdict(score) for score in self.scores]
        parts = {"scores": scores, "notes": self.notes, "provenance": self.provenance}
        return json.dumps(to_jsonable({"format": REPORT_FORMAT, "version": REPORT_VERSION, **parts}), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, whole or not at all."""
        write_text(path, self.to_json())


def load_report(path: str | Path) -> Report:
    """Read a report that :meth:`Report.save` wrote.

    Raises:
        HsevalError: the file is missing, no JSON, or no report of this version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read as a report: {format_reason(error)}") from error
    if not isinstance(data, dict) or data.get("format") != REPORT_FORMAT:
        raise HsevalError(f'{path}: no report of hseval (expected "format": {REPORT_FORMAT!r})')
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
    """Return ``value`` with numpy scalars and arrays, tuples and paths turned into what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return to_jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
