"""Work whose error, wherever it happens, ends all ranks with the same line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hseval.errors import HsevalError
from hseval_ldm.ranks import Ranks

T = TypeVar("T")


def together(ranks: Ranks, action: Callable[[], T]) -> T:
    """Do it on every rank; HsevalError on all where one met it. The action itself calls no other rank."""
    done, error = _tried(action)
    ranks.agree(error)
    return done[0]


def by_chief(ranks: Ranks, action: Callable[[], T]) -> T | None:
    """Let the chief do it and the others wait; HsevalError on all where the chief met it; None on the others."""
    done, error = _tried(action) if ranks.chief else ([], None)
    ranks.agree(error)
    return done[0] if done else None


def _tried(action: Callable[[], T]) -> tuple[list[T], str | None]:
    try:
        return [action()], None
    except HsevalError as error:
        return [], str(error)
