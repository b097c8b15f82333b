"""What two reports must share before their scores may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hseval.core.report import Report, Score, load_report
from hseval.sweep.results import SweepResults, load_results
from hseval.utils.errors import HsevalError

MAX_VALUE_LENGTH = 60  # characters of a value that a message shows
HASH_LENGTH = 16  # characters of a sha256 that tell two sets apart


class Entry(NamedTuple):
    """A report with the name that it goes by."""

    name: str
    report: Report


def load_entries(paths: Sequence[Path], names: Sequence[str] | None = None) -> list[Entry]:
    """Read reports; each is named by its file, or by as much of its path as tells it from the others.

    The folder of a sweep stands for the reports of all its runs, each named by its run.

    Raises:
        HsevalError: a report that can't be read, the same one twice, or another number of names.
    """
    sweeps = [load_results(path) if path.is_dir() else None for path in paths]
    if any(sweeps):
        if names is None and len(paths) == 1 and sweeps[0] is not None:
            return _load_sweep_entries(sweeps[0], paths[0])
        raise HsevalError("the folder of a sweep compares alone, its runs by their own names")
    if names is not None and len(names) != len(paths):
        raise HsevalError(f"--names: {len(names)} names for {len(paths)} reports; expected one each")
    for place, path in enumerate(paths):
        if path.resolve() in {other.resolve() for other in paths[:place]}:
            raise HsevalError(f"{path}: is given twice; a report compares with others alone")
    chosen = list(names) if names is not None else _derive_names(paths)
    if len(set(chosen)) < len(chosen):
        raise HsevalError(f"--names: {', '.join(chosen)}: expected different ones")
    return [Entry(_replace_unprintable(name), load_report(path)) for name, path in zip(chosen, paths, strict=True)]


def _replace_unprintable(name: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _load_sweep_entries(results: SweepResults, folder: Path) -> list[Entry]:
    found = [(row.label, folder / row.folder / "report.json") for row in results.rows if row.scores]
    return [Entry(label, load_report(path)) for label, path in found]


def _derive_names(paths: Sequence[Path]) -> list[str]:
    for depth in range(1, 1 + max(len(path.resolve().parts) for path in paths)):
        names = ["/".join(path.resolve().with_suffix("").parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    ends = {name.rpartition("/")[2] for name in names}
    if len(ends) == 1 and depth > 1:  # runs/a/report.json, runs/b/report.json: the folders tell them apart
        names = [name.rpartition("/")[0] for name in names]
    return names


def check_protocol(entries: Sequence[Entry], metrics: Sequence[str]) -> None:
    """Refuse reports that were not made alike.

    Compared with the first: reference by content (the training set too, of scores that look at it), number of samples,
    seed, ``--quick``, segmenter, extractors, and of each metric the version and options. Machine, device, batch and
    what files are called may differ.

    Raises:
        HsevalError: what differs first, in one line.
    """
    first, *others = entries
    expected = dict(_iterate_protocol(first.report, metrics))
    for entry in others:
        found = dict(_iterate_protocol(entry.report, metrics))
        for what in [*expected, *(name for name in found if name not in expected)]:
            mine, theirs = expected.get(what), found.get(what)
            of_others = what.startswith("extractor ") and not (what in expected and what in found)
            if mine != theirs and not of_others:  # an extractor that one report alone has serves a metric of its own
                told = f"{_shorten(mine)} in {first.name}, {_shorten(theirs)} in {entry.name}"
                raise HsevalError(f"{entry.name} can't be compared with {first.name}: {what} is {told}")


def _iterate_protocol(report: Report, metrics: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield what has to agree, what explains most first."""
    provenance = report.provenance
    settings, sets = (_get_mapping(provenance, name) for name in ("settings", "sets"))
    used = {name: _get_mapping(provenance, "metrics").get(name, {}) for name in metrics}
    for name, about in used.items():
        yield from _iterate_plugin_protocol(f"metric {name}", about)
    for name, about in sorted(_select_extractors(provenance, used).items()):
        yield from _iterate_plugin_protocol(f"extractor {name}", about)
    yield from _iterate_plugin_protocol("segmenter", _get_mapping(provenance, "segmenter"))
    yield "reference", _get_content_hash(sets.get("reference"))
    if any(_has_training_set(score) for score in report.scores if score.name in used):
        yield "training set", _get_content_hash(sets.get("train"))
    yield "number of samples", _get_mapping(sets, "samples").get("cubes")
    for name in ("seed", "quick", "resample"):
        yield f"--{name}", settings.get(name)


def _select_extractors(provenance: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extractors of the metrics that are compared: those named in options, and those that all use."""
    every = _get_mapping(provenance, "extractors")
    named = {_get_mapping(about, "options").get("extractor") for about in metrics.values()}
    all_named = {
        _get_mapping(about, "options").get("extractor") for about in _get_mapping(provenance, "metrics").values()
    }
    return {name: about for name, about in every.items() if name in named or name not in all_named}


def _iterate_plugin_protocol(label: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    options = record.get("options")
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield f"{label}, option {name}", value
    for name in ("version", "distribution", "distribution_version", "fingerprint"):
        yield f"{label}, {name.replace('_', ' ')}", record.get(name)


def _has_training_set(score: Score) -> bool:
    """Return whether a score looked at a training set: others are the same whether or not there was one."""
    return _get_mapping(score.details, "resamples").get("train") is not None


def _get_content_hash(record: Any) -> Any:
    content = record.get("content") if isinstance(record, Mapping) else None
    return content[:HASH_LENGTH] if isinstance(content, str) else content


def _get_mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _shorten(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def find_common_metrics(entries: Sequence[Entry], requested: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the metrics that every report has a value of, and a line about each that is left out.

    Raises:
        HsevalError: a metric asked for that no report has, or none in common.
    """
    every = list(dict.fromkeys(score.name for entry in entries for score in entry.report.scores))
    for name in requested or ():
        if name not in every:
            from hseval.utils.errors import format_suggestion

            raise HsevalError(f"--metrics {name}: no report has it{format_suggestion(name, every)}")
    common, notes = [], []
    for name in requested or every:
        lacking = [entry.name for entry in entries if (found := find_score(entry, name)) is None or found.value is None]
        if lacking:
            notes.append(f"{name}: not compared: no value in {', '.join(lacking)}")
        else:
            common.append(name)
    if not common:
        raise HsevalError(f"no score has a value in all reports ({'; '.join(notes)})")
    return common, notes


def find_score(entry: Entry, metric: str) -> Score | None:
    """Return a report's score of a metric; None where it has none."""
    return next((score for score in entry.report.scores if score.name == metric), None)
