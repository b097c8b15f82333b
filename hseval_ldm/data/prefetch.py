"""Prefetching: background threads produce the items of the next steps while the current step computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 4  # items finished or in progress ahead of the step that computes


class Prefetcher(Generic[T]):
    """Returns ``produce(step)`` for the steps below ``steps``, produced ahead by ``workers`` threads; 0: on demand.

    ``produce`` must be safe to call from several threads at once. An exception of it is raised in place of its item.
    """

    def __init__(self, produce: Callable[[int], T], steps: int, *, workers: int) -> None:
        self._produce, self._steps, self._workers = produce, steps, workers
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[T]] = deque()  # of the steps from self._next on
        self._next = -1

    def get(self, step: int) -> T:
        """Return the item of ``step``; the first call, and any jump, restarts the threads."""
        if not self._workers:
            return self._produce(step)
        if self._pool is None or step != self._next:
            self.close()
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="hseval-prefetch")
        for ahead in range(step + len(self._pending), min(step + DEPTH + 1, self._steps)):
            self._pending.append(self._pool.submit(self._produce, ahead))
        self._next = step + 1
        try:
            return self._pending.popleft().result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel the items not yet started, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
            self._pending.clear()
