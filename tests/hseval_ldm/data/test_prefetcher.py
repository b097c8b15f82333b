"""The prefetcher: any start, any jump, errors in place of their item, and no thread left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hseval_ldm.data.prefetch import DEPTH, Prefetcher

Threads = Callable[[], list[str]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_are_those_of_the_requested_step(workers: int) -> None:
    prefetcher = Prefetcher(lambda step: step * step, 30, workers=workers)
    steps = [5, 6, 7, 8, 2, 3, 3, 3, 4, 29]  # from a resumed step, back, repeated, and to the end
    assert [prefetcher.get(step) for step in steps] == [step * step for step in steps]
    prefetcher.close()


def test_consecutive_steps_produce_no_item_twice() -> None:
    produced: list[int] = []
    prefetcher = Prefetcher(lambda step: produced.append(step) or step, 12, workers=2)  # type: ignore[func-returns-value]
    assert [prefetcher.get(step) for step in range(12)] == list(range(12))
    assert sorted(produced) == list(range(12))
    prefetcher.close()


def test_items_are_in_order_when_later_ones_are_ready_first() -> None:
    done = [threading.Event() for _ in range(6)]

    def produce(step: int) -> int:
        if step % 2 == 0:  # an even step ends only after the odd one that follows
            assert done[step + 1].wait(60)
        done[step].set()
        return step

    prefetcher = Prefetcher(produce, 6, workers=2)
    assert [prefetcher.get(step) for step in range(6)] == list(range(6))


def test_workers_run_concurrently() -> None:
    barrier = threading.Barrier(3)
    prefetcher = Prefetcher(lambda step: barrier.wait(60) >= 0, 6, workers=3)
    assert [prefetcher.get(step) for step in range(6)] == [True] * 6


def test_a_bounded_number_of_items_is_produced_ahead() -> None:
    requested, ahead = 0, []

    def produce(step: int) -> int:
        ahead.append(step - requested)
        return step

    prefetcher = Prefetcher(produce, 40, workers=2)
    for step in range(40):
        requested = step
        prefetcher.get(step)
    assert max(ahead) <= DEPTH


def test_closing_cancels_items_not_started(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    closing = threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def shutdown_and_signal(pool: ThreadPoolExecutor, *, wait: bool, cancel_futures: bool) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        closing.set()  # only now may step 2 end
        shutdown(pool, wait=wait, cancel_futures=cancel_futures)

    def produce(step: int) -> int:
        started.append(step)
        if step == 2:
            assert closing.wait(60)
        return step

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown_and_signal)
    prefetcher = Prefetcher(produce, 1000, workers=1)
    assert [prefetcher.get(0), prefetcher.get(1)] == [0, 1]
    prefetcher.close()
    assert not threads()
    assert max(started) <= 2


def test_deleting_the_prefetcher_ends_its_threads(threads: Threads) -> None:
    prefetcher = Prefetcher(str, 1000, workers=1)
    prefetcher.get(0)
    left = [thread for thread in threading.enumerate() if thread.name in threads()]
    assert left
    del prefetcher
    for thread in left:
        thread.join(60)
    assert not threads()


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "1 / 0"])
def test_the_interpreter_exits_with_a_prefetcher_left_open(end: str) -> None:
    script = "from hseval_ldm.data.prefetch import Prefetcher\n"
    script += f"items = Prefetcher(lambda s: bytes(s), 10**9, workers=2)\nitems.get(0)\n{end}\n"
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if "/" in end else 0)
    assert ("ZeroDivisionError" in done.stderr) == ("/" in end)


def test_a_jump_and_closing_end_the_threads(threads: Threads) -> None:
    prefetcher = Prefetcher(str, 1000, workers=2)
    prefetcher.get(0)
    assert 0 < len(threads()) <= 2
    prefetcher.get(500)
    assert 0 < len(threads()) <= 2
    prefetcher.close()
    assert not threads()
    prefetcher.close()
    assert prefetcher.get(501) == "501"  # restarts
    prefetcher.close()
    assert not threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_after_an_error_at_a_step_the_prefetcher_continues(workers: int, threads: Threads) -> None:
    def produce(step: int) -> int:
        if step == 3:
            raise OSError("the disk is gone")
        return step

    prefetcher = Prefetcher(produce, 10, workers=workers)
    assert [prefetcher.get(step) for step in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        prefetcher.get(3)
    assert not threads()
    assert prefetcher.get(4) == 4
    prefetcher.close()
