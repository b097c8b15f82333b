"""Reading a report's JSON: a file that differs from the schema is refused.

Metrics may add any details; those that renderers show have a type.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypedDict

from hseval.core.report import REPORT_FORMAT, REPORT_VERSION, Report, Score
from hseval.utils.structured_files import convert_record, read_json

Number = float | None
Curve = list[Number]
Cell = float | int | bool | str | None


class StructureDetails(TypedDict, total=False):
    """What renderers show of a structure."""

    value: Number
    by_wavelength: Curve


class NearestPair(TypedDict):
    """A sample and its nearest training cube."""

    sample: str
    training: str
    distance: Number
    placement: str


class ShownDetails(TypedDict, total=False):
    """What renderers show of a metric's details.

    Attributes:
        structures: by structure.
        by_wavelength: over the whole field of view.
        shown: label -> number, for people.
        caveat: a limit of the score, in words.
        left_out: name -> why it is left out.
        nearest_pairs: the nearest pairs of samples and training cubes.
        threshold: the distance below which a pair counts as a copy.
    """

    structures: dict[str, StructureDetails]
    by_wavelength: Curve | None
    shown: dict[str, Cell]
    caveat: str | None
    left_out: dict[str, str]
    nearest_pairs: list[NearestPair]
    threshold: Number


class SetProvenance(TypedDict):
    """A set, in the provenance."""

    location: str
    cubes: int
    content: str
    wavelengths: list[float]
    wavelengths_known: bool
    structures: list[str]
    units: str | None


class PluginProvenance(TypedDict, total=False):
    """A metric, extractor or segmenter, in the provenance."""

    distribution: str
    distribution_version: str | None
    version: str | None
    options: dict[str, Any]
    fingerprint: str | None


class Settings(TypedDict, total=False):
    """The settings of a score that other commands read."""

    options: dict[str, dict[str, Any]] | None


class Provenance(TypedDict, total=False):
    """What readers of a report use of its provenance."""

    hseval: str
    time: str
    command: list[str]
    settings: Settings
    libraries: dict[str, str]
    metrics: dict[str, PluginProvenance]
    extractors: dict[str, PluginProvenance]
    segmenter: PluginProvenance
    sets: dict[str, SetProvenance]


@dataclasses.dataclass(frozen=True)
class ReportContent:
    """The content of a report's JSON."""

    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    differences: tuple[str, ...]
    provenance: dict[str, Any]


def load_report(path: str | Path) -> Report:
    """Read a report that :meth:`hseval.core.report.Report.save` wrote.

    Raises:
        HsevalError: the file is missing, is not JSON or no report of this version, or has a value of another type.
    """
    data = read_json(path, "a report", format=REPORT_FORMAT, version=REPORT_VERSION, hint="score again")
    content = convert_record(data, ReportContent, path)
    _check_details(content, path)
    return Report(content.scores, content.notes, content.provenance, differences=content.differences)


def _check_details(content: ReportContent, path: str | Path) -> None:
    """Check what is declared as free but has a type where renderers show it: details and provenance."""
    convert_record(content.provenance, Provenance, f"{path}: provenance")
    for score in content.scores:
        sides = {"details": score.details}
        if score.statistics is not None:
            sides |= {name: getattr(score.statistics, name) for name in ("value_details", "floor_details")}
        for name, details in sides.items():
            convert_record(details, ShownDetails, f"{path}: {score.name}: {name}")
