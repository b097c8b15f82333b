"""What is said of a score beside its numbers, in every report alike: sentences without capital and full stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hseval.core.report import Score
from hseval.stats.multiple_testing import ALPHA, NOT_SIGNIFICANT


def explain_verdict_rule(scores: Sequence[Score]) -> Iterator[str]:
    """Yield by which rule verdicts are given, where there are several."""
    count = sum(score.details.get("p_adjusted") is not None for score in scores)
    if count > 1:
        yield (
            f"{count} scores at once: to be told from its floor, a score needs splits two joint spreads apart and "
            f"p < {ALPHA} by Holm's rule, or splits that lie wholly apart"
        )


def explain_certainty(score: Score) -> Iterator[str]:
    """Yield how sure the excess is, and what two generators have to differ by to be told apart."""
    found = score.details
    if found.get("excess_interval"):
        p, adjusted = found.get("p_value"), found.get("p_adjusted")
        chance = "" if p is None else f"; p = {p:.2g}" + (f" ({adjusted:.2g} by Holm's rule)" if adjusted else "")
        yield f"excess over the floor: {format_number(found['excess'])} ({format_interval(found['excess_interval'])}){chance}"
        if score.verdict == NOT_SIGNIFICANT and adjusted is not None and adjusted < ALPHA:
            yield "a small p, but value and floor scatter too widely over the splits for a verdict"
    elif score.value is not None and found.get("no_interval"):
        yield f"no interval: {found['no_interval']}"
    if found.get("smallest_difference") and found.get("smallest_difference_at_4n"):
        least, less = found["smallest_difference"], found["smallest_difference_at_4n"]
        yield (
            f"two generators are told apart at {found['samples']} samples if they differ by about {_format_rounded(least)}, "
            f"at {4 * found['samples']} by {_format_rounded(less)}"
        )


def summarize_full_size(score: Score) -> Iterator[str]:
    """Yield the value of all cubes at once."""
    value, sizes = score.details.get("full_value"), score.details.get("full_size")
    if value is not None and isinstance(sizes, Mapping):
        at = f"{sizes.get('samples')} samples, {sizes.get('reference')} reference cubes"
        yield f"at full size ({at}; not to be held against the floor): {format_number(value)}"


def collect_caveats(score: Score) -> Iterator[str]:
    """Yield what was left out, and what the metric itself warns of."""
    left_out, caveat = (score.details.get(name) for name in ("left_out", "caveat"))
    if isinstance(left_out, Mapping):
        for why in sorted({str(reason) for reason in left_out.values()}):
            names = ", ".join(sorted(str(name) for name, reason in left_out.items() if str(reason) == why))
            yield f"left out, {why}: {names}"
    if isinstance(caveat, str) and caveat:
        yield caveat


def format_number(value: Any) -> str:
    """Return a number in four digits, a dash for None."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def format_interval(interval: Sequence[float | None] | None) -> str:
    """Return an interval in words."""
    return "-" if interval is None else " to ".join(format_number(end) for end in interval)


def _format_rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
