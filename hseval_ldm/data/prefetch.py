"""Prefetching: background threads produce the items of the next steps while the current step computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Returns ``produce(step)`` step by step, produced ahead by ``workers`` threads."""

    def __init__(self, produce: Callable[[int], T], steps: int, *, workers: int) -> None:
        self._produce, self._steps, self._workers = produce, steps, workers
        self._source: Generator[T, None, None] | None = None
        self._next = -1

    def get(self, step: int) -> T:
        """Return the item of ``step``; the first call, and any jump, restarts the threads."""
        if self._source is None or step != self._next:
            self.close()
            self._source = prefetch_items(self._produce, step, self._steps, workers=self._workers)
        self._next = step + 1
        try:
            return next(self._source)
        except BaseException:
            self.close()  # a generator that raised has ended: the next call restarts it
            raise

    def close(self) -> None:
        """Stop the threads."""
        if self._source is not None:
            self._source.close()
            self._source = None


def prefetch_items(
    produce: Callable[[int], T], start: int, stop: int, *, depth: int = 4, workers: int = 1
) -> Generator[T, None, None]:
    """Yield ``produce(step)`` for ``start <= step < stop``, in order, up to ``depth`` of them produced ahead.

    An exception of ``produce`` is raised in place of its item. Closing or deleting the generator cancels the items not
    yet started and ends the threads; the interpreter waits for them when it exits, for ``depth`` items at most.

    Args:
        produce: returns the item of a step; must be safe to call from ``workers`` threads at once.
        start: first step.
        stop: one past the last step.
        depth: items finished or in progress that have not been consumed.
        workers: threads; 0 produces each item on demand, in the calling thread.

    Raises:
        ValueError: ``depth`` is below 1 or ``workers`` below 0.
    """
    if depth < 1 or workers < 0:
        raise ValueError(f"depth is {depth} and workers is {workers}, expected 1 or more and 0 or more")
    if not workers:
        return (produce(step) for step in range(start, stop))
    return _prefetch_in_threads(produce, range(start, stop), depth, workers)


def _prefetch_in_threads(
    produce: Callable[[int], T], steps: range, depth: int, workers: int
) -> Generator[T, None, None]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="hseval-prefetch")
    try:
        pending: deque[Future[T]] = deque(pool.submit(produce, step) for step in steps[:depth])
        for step in steps:
            item = pending.popleft().result()
            if step + depth < steps.stop:
                pending.append(pool.submit(produce, step + depth))
            yield item
            del item  # frees the batch of this step before the next one is awaited
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
