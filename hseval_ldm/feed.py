"""What a stage trains on, step by step: prepared ahead in threads, asked for in order."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from hseval_ldm.prefetch import prefetched

T = TypeVar("T")


class Feed(Generic[T]):
    """Gives ``produce(step)`` for one step after the other, made ahead by ``workers`` threads."""

    def __init__(self, produce: Callable[[int], T], steps: int, *, workers: int) -> None:
        self._produce, self._steps, self._workers = produce, steps, workers
        self._source: Generator[T, None, None] | None = None
        self._next = -1

    def get(self, step: int) -> T:
        """Return the item of ``step``; the first call, and any jump, starts the threads anew."""
        if self._source is None or step != self._next:
            self.close()
            self._source = prefetched(self._produce, step, self._steps, workers=self._workers)
        self._next = step + 1
        try:
            return next(self._source)
        except BaseException:
            self.close()  # a generator that raised is at its end: whatever is asked for next starts anew
            raise

    def close(self) -> None:
        """Stop the threads."""
        if self._source is not None:
            self._source.close()
            self._source = None
