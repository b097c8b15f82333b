"""Runs chunks of work in this process or in spawned workers (forking is unsafe under BLAS and torch)."""

from __future__ import annotations

import collections
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from hseval.utils.errors import HsevalError
from hseval.utils.signals import defer_signals

MIN_POOL_SECONDS = 12.0  # starting workers costs a few seconds of imports each
MAX_QUEUED_PER_WORKER = 3  # enough chunks to keep a worker busy, few enough to keep memory flat

Result_co = TypeVar("Result_co", covariant=True)
JobSpec = tuple[Callable[..., "Job[Any]"], tuple[Any, ...]]  # builds a job in a worker: function, arguments


class Job(Protocol[Result_co]):
    """Work that can be split into chunks of indices."""

    def run_chunk(self, chunk: list[int]) -> Result_co:
        """Return the result for one chunk."""

    def get_spec(self) -> JobSpec:
        """Return a function and its arguments, small enough to pickle, that build the same job in a worker."""


_job_spec: JobSpec | None = None  # set in worker processes


def run_chunks(job: Job[Result_co], chunks: Sequence[list[int]], workers: int | None) -> Iterator[Result_co]:
    """Yield each chunk's result, in order.

    Args:
        job: what to run.
        chunks: indices, one list a chunk.
        workers: number of processes; 0: this process; None: one a core, once the remaining work is long enough.

    Raises:
        HsevalError: a worker process died, or the job raised one.
    """
    if workers == 0:
        yield from _run_inline(job, chunks)
        return
    pending = collections.deque(chunks)
    if workers is None:
        workers = max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        for result, remaining in _run_while_short(job, pending, workers):
            yield result
            pending = remaining
    if pending:
        yield from _run_in_pool(job, pending, workers)


def _run_inline(job: Job[Result_co], chunks: Sequence[list[int]]) -> Iterator[Result_co]:
    """Run chunks one after the other in this process, in one thread."""
    with _SingleThread():
        for chunk in chunks:
            yield job.run_chunk(chunk)


def _run_while_short(
    job: Job[Result_co], chunks: collections.deque[list[int]], workers: int
) -> Iterator[tuple[Result_co, collections.deque[list[int]]]]:
    """Run chunks in this process until the rest would take long enough for workers to be worth starting."""
    pending = collections.deque(chunks)
    started = time.monotonic()
    for result in _run_inline(job, list(chunks)):
        pending.popleft()
        yield result, pending
        finished = len(chunks) - len(pending)
        if finished == 1:
            started = time.monotonic()  # the first chunk includes imports and filter banks
        elif workers > 1 and (time.monotonic() - started) / (finished - 1) * len(pending) > MIN_POOL_SECONDS:
            return


def _start_resource_tracker() -> None:
    """Start the process that removes the semaphores of a killed run; it need not warn of what it removes."""
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # child processes inherit the list
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _run_in_pool(job: Job[Result_co], pending: collections.deque[list[int]], workers: int) -> Iterator[Result_co]:
    _start_resource_tracker()
    pool = ProcessPoolExecutor(
        max_workers=min(workers, len(pending), max(2, os.cpu_count() or 1)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(job.get_spec(),),
    )
    submitted: collections.deque[Future[Result_co]] = collections.deque()
    try:
        while pending or submitted:
            while pending and len(submitted) < MAX_QUEUED_PER_WORKER * workers:
                with defer_signals():  # a worker whose start is interrupted would print a traceback
                    submitted.append(pool.submit(_run_chunk, pending.popleft()))
            yield submitted.popleft().result()
    except BrokenProcessPool as error:
        raise HsevalError(
            "a worker process died (out of memory?); finished work is stored: try fewer --workers, or --workers 0"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(job_spec: JobSpec) -> None:
    global _job_spec  # noqa: PLW0603 - a process pool offers no other per-worker state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _SingleThread().__enter__()
    _job_spec = job_spec


def _exit_with_parent() -> None:
    """End this process when its parent ends, even by kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@functools.cache
def _get_job() -> Job[Any]:
    """Build this worker's job on its first chunk, whose result then carries any error."""
    assert _job_spec is not None
    build, arguments = _job_spec
    return build(*arguments)


def _run_chunk(chunk: list[int]) -> Any:
    return _get_job().run_chunk(chunk)


class _SingleThread:
    """Limit BLAS, OpenMP and torch to one thread.

    Sums then run in one order, so results are reproducible to the last digit; and processes do not compete for cores,
    which can cost a factor of ten on a busy machine.
    """

    def __enter__(self) -> None:
        import threadpoolctl
        import torch

        self.threads = torch.get_num_threads()  # before the next line: torch shares the thread pool that it limits
        self.limits = threadpoolctl.threadpool_limits(1)
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        self.limits.restore_original_limits()
        torch.set_num_threads(self.threads)
