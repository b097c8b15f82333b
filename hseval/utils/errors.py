"""The one error a user sees, and the hint that goes with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HsevalError(Exception):
    """Unusable input or options: one line that names the thing, what was found and what was expected.

    The command line prints it without a traceback and exits with status 2.
    """


class NotComputable(HsevalError):  # noqa: N818 - a finding, not a fault
    """A metric can't be computed from what was given; the message says why (the report shows it)."""


def format_suggestion(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest choice, else the list of choices."""
    options = sorted(set(choices))
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (choices: {', '.join(options)})" if options else ""


def format_error(error: BaseException) -> str:
    """Return the type and first line of an error: what a list of broken things has room for."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no message"
    return text if isinstance(error, HsevalError) else f"{type(error).__name__}: {text}"


def format_reason(error: BaseException) -> str:
    """Return why a file can't be used, without the number and the path that an operating system's error repeats."""
    told = error.strerror if isinstance(error, OSError) else None
    return f"{told[0].lower()}{told[1:]}" if told else str(error)
