"""Where chunks run: in this process, or in workers that are started fresh (never forked under BLAS and torch)."""

from __future__ import annotations

import collections
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from hseval.cache import Cache
from hseval.describer import Described, Describer, Plan
from hseval.errors import HsevalError

if TYPE_CHECKING:
    from pathlib import Path

    from hseval.cubes import CubeSet

WORTH_SECONDS = 12.0  # starting workers costs a few seconds of imports each
IN_FLIGHT = 3  # chunks queued a worker: enough to keep it busy, few enough to keep memory flat

_assignment: tuple[CubeSet, Plan, Path | None, int] | None = None  # in a worker process: what it works on


def in_this_process(describer: Describer, chunks: Sequence[list[int]]) -> Iterator[list[Described]]:
    """Run chunks one after the other, with one thread."""
    with _one_thread():
        for chunk in chunks:
            yield describer.chunk(chunk)


def in_processes(
    describer: Describer, chunks: Sequence[list[int]], workers: int | None
) -> Iterator[list[Described]]:
    """Run chunks in ``workers`` processes; with None, in as many as there are cores once the rest is worth it."""
    pending = collections.deque(chunks)
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        started = time.monotonic()
        for done in in_this_process(describer, chunks):
            pending.popleft()
            yield done
            # The first chunk pays for imports and filter banks, so the rate counts from the end of it.
            if len(pending) == len(chunks) - 1:
                started = time.monotonic()
                continue
            rate = (time.monotonic() - started) / (len(chunks) - len(pending) - 1)
            if workers > 1 and rate * len(pending) > WORTH_SECONDS:
                break
    if pending:
        yield from _pooled(describer, pending, workers)


def _pooled(describer: Describer, pending: collections.deque[list[int]], workers: int) -> Iterator[list[Described]]:
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(pending), max(2, os.cpu_count() or 1)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(describer.cubes, describer.plan, describer.cache.path, describer.batch_size),
    )
    flying: collections.deque[Future[list[Described]]] = collections.deque()
    try:
        while pending or flying:
            while pending and len(flying) < IN_FLIGHT * workers:
                flying.append(pool.submit(_work, pending.popleft()))
            yield flying.popleft().result()
    except BrokenProcessPool as error:
        raise HsevalError(
            "a worker process died (out of memory?); what was finished is kept: try fewer --workers, or --workers 0"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(cubes: CubeSet, plan: Plan, cache: Path | None, batch_size: int) -> None:
    global _assignment  # noqa: PLW0603 - a process pool has no other place for per-worker state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _one_thread().__enter__()
    _assignment = (cubes, plan, cache, batch_size)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however it went (kill -9 gives it no chance to say so)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@functools.cache
def _own_describer() -> Describer:
    """Build this worker's describer on its first chunk: what fails there is told by the chunk."""
    assert _assignment is not None
    cubes, plan, cache, batch_size = _assignment
    return Describer(cubes, plan, Cache(cache), batch_size)


def _work(chunk: list[int]) -> list[Described]:
    return _own_describer().chunk(chunk)


class _one_thread:  # noqa: N801 - reads as a statement: with _one_thread()
    """Limit BLAS, OpenMP and torch to one thread: sums then run in one order, so results repeat to the last digit."""

    def __enter__(self) -> None:
        import threadpoolctl
        import torch

        self.threads = torch.get_num_threads()  # first: torch shares its pool with what is limited next
        self.limits = threadpoolctl.threadpool_limits(1)
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        self.limits.restore_original_limits()
        torch.set_num_threads(self.threads)
