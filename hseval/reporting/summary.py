"""Sentences and numbers on scores, the same in every kind of report; sentences lack capital and full stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hseval.core.report import Report, Score
from hseval.stats.multiple_testing import ALPHA, NOT_SIGNIFICANT
from hseval.utils.plural import format_count

DIRECTION_LABELS = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}


def summarize_verdicts(report: Report) -> str:
    """Return the verdict on the samples in one sentence (a second names the scores without a verdict)."""
    valued = [score for score in report.scores if score.value is not None and score.floor is not None]
    different = [score.name for score in valued if score.verdict != NOT_SIGNIFICANT]
    alike = [score.name for score in valued if score.verdict == NOT_SIGNIFICANT]
    missing = [score.name for score in report.scores if score not in valued]
    if not valued:
        return "No score could be compared with its floor, so there is no verdict on these samples."
    if not different:
        verdict = f"These samples are not significantly different from real cubes in {_join_names(alike)}."
    else:
        exception = f", but not in {_join_names(alike)}" if alike else ""
        verdict = f"These samples are significantly different from real cubes in {_join_names(different)}{exception}."
    return verdict + (f" Without a verdict: {_join_names(missing)}." if missing else "")


def _join_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def explain_verdict_rule(scores: Sequence[Score]) -> Iterator[str]:
    """Yield the rule of verdicts, where there are several scores."""
    count = sum(score.p_adjusted is not None for score in scores)
    if count > 1:
        yield (
            f"{count} scores: a difference is significant if value and floor lie more than two joint standard "
            f"deviations apart and the Holm-adjusted p is below {ALPHA}, or if their splits do not overlap"
        )


def iterate_remarks(score: Score) -> Iterator[str]:
    """Yield what stands behind a score: certainty, the value at full size, other masks, what was left out."""
    yield from _explain_certainty(score)
    yield from _summarize_full_size(score)
    yield from _summarize_own_masks(score)
    yield from _collect_caveats(score)


def _explain_certainty(score: Score) -> Iterator[str]:
    """Yield the excess with its interval and p-value, and the smallest detectable difference of two generators."""
    if score.excess_interval is not None:
        p_text = "" if score.p_value is None else f"; p = {score.p_value:.2g}"
        p_text += "" if score.p_adjusted is None else f" (Holm-adjusted: {score.p_adjusted:.2g})"
        yield f"excess over the floor: {format_number(score.excess)} ({format_interval(score.excess_interval)}){p_text}"
        if score.verdict == NOT_SIGNIFICANT and score.p_adjusted is not None and score.p_adjusted < ALPHA:
            yield f"p is below {ALPHA}, but value and floor vary too much over the splits for a significant difference"
    if score.statistics is None:
        return
    if score.statistics.no_interval:
        yield f"no interval: {score.statistics.no_interval}"
    if detectable := score.statistics.detectable:
        count = detectable.samples
        yield (
            f"smallest detectable difference (80 % power): {_format_rounded(detectable.difference)} at "
            f"{format_count(count, 'sample')}, {_format_rounded(detectable.difference_at_4n)} at {4 * count}"
        )


def _summarize_full_size(score: Score) -> Iterator[str]:
    statistics = score.statistics
    if statistics is not None:
        sizes = format_count(statistics.samples, "sample"), format_count(statistics.reference_cubes, "reference cube")
        value = format_number(statistics.full_value)
        yield f"at full size ({sizes[0]}, {sizes[1]}; not comparable with the floor): {value}"


def _summarize_own_masks(score: Score) -> Iterator[str]:
    own = score.segmentation.own_masks if score.segmentation is not None else None
    if own is not None:
        yield (
            f"using the masks in the files (those of the samples may bias it): {format_number(own.value)}, "
            f"floor {format_number(own.floor)}"
        )


def _collect_caveats(score: Score) -> Iterator[str]:
    """Yield what was left out, and the metric's own caveat."""
    left_out = score.details.get("left_out", {})
    for reason in sorted(set(left_out.values())):
        yield f"left out, {reason}: {', '.join(sorted(name for name in left_out if left_out[name] == reason))}"
    if score.details.get("caveat"):
        yield score.details["caveat"]


def list_structures(score: Score) -> list[tuple[str, Any, Any]]:
    """Return name, value and floor of each structure, at equal size."""
    statistics = score.statistics
    if statistics is None:
        return []
    floors = statistics.floor_details.get("structures", {})
    return [
        (name, record["value"], floors.get(name, {}).get("value"))
        for name, record in statistics.value_details.get("structures", {}).items()
        if "value" in record
    ]


def list_shown_numbers(score: Score) -> list[tuple[str, str]]:
    """Return the additional numbers that a metric shows, with their labels."""
    return [(label, format_number(value)) for label, value in score.details.get("shown", {}).items()]


def format_number(value: Any) -> str:
    """Return a number with four significant digits, a dash for None."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def format_interval(interval: Sequence[float | None] | None) -> str:
    """Return an interval as ``low to high``, a dash for None."""
    return "-" if interval is None else " to ".join(format_number(end) for end in interval)


def _format_rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
