"""The protocol that reports must share for their scores to be comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hseval.core.report import Report, Score
from hseval.core.report_file import load_report
from hseval.sweep.results import SweepResults, load_results
from hseval.utils.errors import HsevalError, format_suggestion
from hseval.utils.plural import format_count
from hseval.utils.text import escape_unprintable

MAX_VALUE_LENGTH = 60  # characters of a value in an error message
HASH_LENGTH = 16  # characters of a sha256 that identify a set


class Entry(NamedTuple):
    """A report and its name."""

    name: str
    report: Report


def load_entries(paths: Sequence[Path], names: Sequence[str] | None = None) -> list[Entry]:
    """Read reports, each named by its file, or by as much of its path as makes the names unique.

    The folder of a sweep gives the reports of all its runs, each named by its run.

    Raises:
        HsevalError: a report can't be read or occurs twice, or the number of names differs.
    """
    sweeps = [load_results(path) if path.is_dir() else None for path in paths]
    if any(sweeps):
        if names is None and len(paths) == 1 and sweeps[0] is not None:
            return _load_sweep_entries(sweeps[0], paths[0])
        folder = next(path for path, sweep in zip(paths, sweeps, strict=True) if sweep)
        raise HsevalError(f"{folder}: is the folder of a sweep; expected it alone, without other reports or --names")
    if names is not None and len(names) != len(paths):
        counts = f"{format_count(len(names), 'name')} for {format_count(len(paths), 'report')}"
        raise HsevalError(f"--names: {counts}; expected one each")
    for i, path in enumerate(paths):
        if path.resolve() in {other.resolve() for other in paths[:i]}:
            raise HsevalError(f"{path}: is given twice; expected different reports")
    unique_names = list(names) if names is not None else _derive_names(paths)
    if len(set(unique_names)) < len(unique_names):
        raise HsevalError(f"--names: {', '.join(unique_names)}: expected different names")
    return [Entry(escape_unprintable(name), load_report(path)) for name, path in zip(unique_names, paths, strict=True)]


def _load_sweep_entries(results: SweepResults, folder: Path) -> list[Entry]:
    return [Entry(row.label, load_report(folder / row.folder / "report.json")) for row in results.rows if row.scores]


def _derive_names(paths: Sequence[Path]) -> list[str]:
    for depth in range(1, 1 + max(len(path.resolve().parts) for path in paths)):
        names = ["/".join(path.resolve().with_suffix("").parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    ends = {name.rpartition("/")[2] for name in names}
    if len(ends) == 1 and depth > 1:  # runs/a/report.json, runs/b/report.json: named by the folders
        names = [name.rpartition("/")[0] for name in names]
    return names


def check_protocol(entries: Sequence[Entry], metrics: Sequence[str]) -> None:
    """Raise for the first report whose protocol differs from that of the first one.

    The protocol: reference by content (for scores that use it, the training set too), number of samples, seed,
    ``--quick``, segmenter, extractors, and each metric's version and options. Machine, device, batch size and file
    names may differ.

    Raises:
        HsevalError: names the first difference, in one line.
    """
    first, *others = entries
    expected = dict(_iterate_protocol(first.report, metrics))
    for entry in others:
        actual = dict(_iterate_protocol(entry.report, metrics))
        for item in [*expected, *(name for name in actual if name not in expected)]:
            expected_value, actual_value = expected.get(item), actual.get(item)
            # An extractor that only one report has is used by a metric that is not compared.
            is_irrelevant = item.startswith("extractor ") and not (item in expected and item in actual)
            if expected_value != actual_value and not is_irrelevant:
                values = f"{_shorten(expected_value)} in {first.name}, {_shorten(actual_value)} in {entry.name}"
                raise HsevalError(f"{entry.name} can't be compared with {first.name}: {item} is {values}")


def _iterate_protocol(report: Report, metrics: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what has to agree, by name, most informative first."""
    provenance = report.provenance
    settings, sets = (provenance.get(name, {}) for name in ("settings", "sets"))
    compared = {name: provenance.get("metrics", {}).get(name, {}) for name in metrics}
    for name, record in compared.items():
        yield from _iterate_plugin_protocol(f"metric {name}", record)
    for name, record in sorted(_select_extractors(provenance, compared).items()):
        yield from _iterate_plugin_protocol(f"extractor {name}", record)
    yield from _iterate_plugin_protocol("segmenter", provenance.get("segmenter", {}))
    yield "reference", _get_content_hash(sets, "reference")
    if any(_has_training_set(score) for score in report.scores if score.name in compared):
        yield "training set", _get_content_hash(sets, "train")
    yield "number of samples", sets.get("samples", {}).get("cubes")
    for name in ("seed", "quick", "resample"):
        yield f"--{name}", settings.get(name)


def _select_extractors(provenance: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extractors of the compared metrics: those in their options, and those in no metric's options."""
    compared, optional = (
        [record.get("options", {}).get("extractor") for record in records.values()]
        for records in (metrics, provenance.get("metrics", {}))
    )
    extractors = provenance.get("extractors", {})
    return {name: record for name, record in extractors.items() if name in compared or name not in optional}


def _iterate_plugin_protocol(label: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.get("options", {}).items():
        yield f"{label}, option {name}", value
    for name in ("version", "distribution", "distribution_version", "fingerprint"):
        yield f"{label}, {name.replace('_', ' ')}", record.get(name)


def _has_training_set(score: Score) -> bool:
    """Return whether a score used a training set; other scores do not depend on it."""
    resamples = score.statistics.resamples if score.statistics else None
    return resamples is not None and resamples.train is not None


def _get_content_hash(sets: Mapping[str, Any], role: str) -> str | None:
    return sets[role]["content"][:HASH_LENGTH] if role in sets else None


def _shorten(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def find_common_metrics(entries: Sequence[Entry], requested: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the metrics that every report has a value of, and a note about each other one.

    Raises:
        HsevalError: no report has a requested metric, or there is none in common.
    """
    known = list(dict.fromkeys(score.name for entry in entries for score in entry.report.scores))
    for name in requested or ():
        if name not in known:
            raise HsevalError(f"--metrics {name}: no report has it{format_suggestion(name, known)}")
    common, notes = [], []
    for name in requested or known:
        missing = [entry.name for entry in entries if (score := find_score(entry, name)) is None or score.value is None]
        if missing:
            notes.append(f"{name}: not compared: no value in {', '.join(missing)}")
        else:
            common.append(name)
    if not common:
        raise HsevalError(f"no score has a value in all reports ({'; '.join(notes)})")
    return common, notes


def find_score(entry: Entry, metric: str) -> Score | None:
    """Return a report's score of a metric; None if it has none."""
    return next((score for score in entry.report.scores if score.name == metric), None)
