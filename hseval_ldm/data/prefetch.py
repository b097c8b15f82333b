"""The next steps' items, made by background threads while the current step computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Gives ``produce(step)`` for one step after the other, made ahead by ``workers`` threads."""

    def __init__(self, produce: Callable[[int], T], steps: int, *, workers: int) -> None:
        self._produce, self._steps, self._workers = produce, steps, workers
        self._source: Generator[T, None, None] | None = None
        self._next = -1

    def get(self, step: int) -> T:
        """Return the item of ``step``; the first call, and any jump, starts the threads anew."""
        if self._source is None or step != self._next:
            self.close()
            self._source = prefetch_items(self._produce, step, self._steps, workers=self._workers)
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


def prefetch_items(
    produce: Callable[[int], T], start: int, stop: int, *, depth: int = 4, workers: int = 1
) -> Generator[T, None, None]:
    """Yield ``produce(step)`` for ``start <= step < stop``, in order, up to ``depth`` of them made ahead.

    An exception of ``produce`` is raised where its item would have come. Closing the generator, or dropping it,
    drops what was not begun and ends the threads; the interpreter does not exit before they have ended, which is
    after ``depth`` items at most.

    Args:
        produce: makes the item of a step; has to be safe to call from ``workers`` threads at once.
        start: first step.
        stop: one past the last step.
        depth: items made or in the making that have not been asked for.
        workers: threads; 0 makes each item when it is asked for, in the calling thread.

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
        ahead: deque[Future[T]] = deque(pool.submit(produce, step) for step in steps[:depth])
        for step in steps:
            item = ahead.popleft().result()
            if step + depth < steps.stop:
                ahead.append(pool.submit(produce, step + depth))
            yield item
            del item  # or the batch of this step would outlive the making of the next
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
