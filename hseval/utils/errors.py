"""The one error type that users see, and suggestions of the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HsevalError(Exception):
    """Unusable input or options: one line that names the file or option, what was found and what was expected.

    The command line prints it without a traceback and exits with status 2.
    """


class NotComputable(HsevalError):  # noqa: N818 - a result, not a fault
    """A metric can't be computed from its inputs; the message gives the reason, and the report shows it."""


def format_suggestion(word: str, choices: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest choice, else the list of choices."""
    options = sorted(set(choices))
    anagrams = [choice for choice in options if sorted(choice) == sorted(word)]  # two letters swapped
    close = anagrams or difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (choices: {', '.join(options)})" if options else ""


def format_error(error: BaseException) -> str:
    """Return the type and first line of an error, short enough for a list."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no message"
    return text if isinstance(error, HsevalError) else f"{type(error).__name__}: {text}"


def format_reason(error: BaseException) -> str:
    """Return why a file can't be used, without the errno and the path in an operating system's message."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{reason[0].lower()}{reason[1:]}" if reason else str(error)
