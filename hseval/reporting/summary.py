"""Sentences on a score, the same in every kind of report: without capital and full stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hseval.core.report import Score
from hseval.stats.multiple_testing import ALPHA, NOT_SIGNIFICANT
from hseval.utils.plural import format_count


def explain_verdict_rule(scores: Sequence[Score]) -> Iterator[str]:
    """Yield the rule of verdicts, where there are several scores."""
    count = sum(score.details.get("p_adjusted") is not None for score in scores)
    if count > 1:
        yield (
            f"{count} scores: a difference is significant if value and floor lie more than two joint standard "
            f"deviations apart and the Holm-adjusted p is below {ALPHA}, or if their splits do not overlap"
        )


def explain_certainty(score: Score) -> Iterator[str]:
    """Yield the excess with its interval and p-value, and the smallest detectable difference of two generators."""
    details = score.details
    if details.get("excess_interval"):
        p, adjusted = details.get("p_value"), details.get("p_adjusted")
        p_text = "" if p is None else f"; p = {p:.2g}" + (f" (Holm-adjusted: {adjusted:.2g})" if adjusted else "")
        interval = format_interval(details["excess_interval"])
        yield f"excess over the floor: {format_number(details['excess'])} ({interval}){p_text}"
        if score.verdict == NOT_SIGNIFICANT and adjusted is not None and adjusted < ALPHA:
            yield f"p is below {ALPHA}, but value and floor vary too much over the splits for a significant difference"
    elif score.value is not None and details.get("no_interval"):
        yield f"no interval: {details['no_interval']}"
    if details.get("smallest_difference") and details.get("smallest_difference_at_4n"):
        difference, difference_at_4n = details["smallest_difference"], details["smallest_difference_at_4n"]
        count = details["samples"]
        yield (
            f"smallest detectable difference (80 % power): {_format_rounded(difference)} at "
            f"{format_count(count, 'sample')}, {_format_rounded(difference_at_4n)} at {4 * count}"
        )


def summarize_full_size(score: Score) -> Iterator[str]:
    """Yield the value at full size, of all cubes."""
    value, sizes = score.details.get("full_value"), score.details.get("full_size")
    if value is not None and isinstance(sizes, Mapping):
        samples = format_count(sizes.get("samples", 0), "sample")
        reference = format_count(sizes.get("reference", 0), "reference cube")
        yield f"at full size ({samples}, {reference}; not comparable with the floor): {format_number(value)}"


def collect_caveats(score: Score) -> Iterator[str]:
    """Yield what was left out, and the metric's own caveat."""
    left_out, caveat = (score.details.get(name) for name in ("left_out", "caveat"))
    if isinstance(left_out, Mapping):
        for unique_reason in sorted({str(reason) for reason in left_out.values()}):
            names = ", ".join(sorted(str(name) for name, reason in left_out.items() if str(reason) == unique_reason))
            yield f"left out, {unique_reason}: {names}"
    if isinstance(caveat, str) and caveat:
        yield caveat


def format_number(value: Any) -> str:
    """Return a number with four digits, a dash for None."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def format_interval(interval: Sequence[float | None] | None) -> str:
    """Return an interval as ``low to high``, a dash for None."""
    return "-" if interval is None else " to ".join(format_number(end) for end in interval)


def _format_rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
