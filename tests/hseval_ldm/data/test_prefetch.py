"""Prefetching: order, bounds, exceptions in place of their item, and threads that end."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hseval_ldm.data.prefetch import prefetch_items

Threads = Callable[[], list[str]]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("depth", [1, 4, 50])
def test_items_are_yielded_in_order_and_produced_once(workers: int, depth: int, threads: Threads) -> None:
    produced: list[int] = []

    def produce(step: int) -> int:
        produced.append(step)
        return step * step

    assert list(prefetch_items(produce, 5, 25, depth=depth, workers=workers)) == [step * step for step in range(5, 25)]
    assert sorted(produced) == list(range(5, 25))
    assert not threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_empty_range_yields_nothing(workers: int) -> None:
    assert list(prefetch_items(str, 3, 3, workers=workers)) == []


def test_items_are_in_order_when_later_ones_are_ready_first() -> None:
    done = [threading.Event() for _ in range(6)]

    def produce(step: int) -> int:
        if step % 2 == 0:  # an even step ends only after the odd one that follows
            assert done[step + 1].wait(60)
        done[step].set()
        return step

    assert list(prefetch_items(produce, 0, 6, depth=2, workers=2)) == list(range(6))


def test_workers_run_concurrently() -> None:
    barrier = threading.Barrier(3)
    items = prefetch_items(lambda step: barrier.wait(60) >= 0, 0, 6, depth=3, workers=3)
    assert list(items) == [True] * 6


def test_at_most_depth_items_are_produced_ahead() -> None:
    consumed, ahead = 0, []

    def produce(step: int) -> int:
        ahead.append(step - consumed)
        return step

    for _ in prefetch_items(produce, 0, 40, depth=3, workers=2):
        consumed += 1
    assert max(ahead) <= 3


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_exception_is_raised_in_place_of_its_item(workers: int, threads: Threads) -> None:
    def produce(step: int) -> int:
        if step == 7:
            raise OSError("disk gone")
        return step

    items, received = prefetch_items(produce, 0, 20, workers=workers), []
    with pytest.raises(OSError, match="disk gone"):
        for item in items:  # not extend: the items before the exception are needed
            received.append(item)
    assert received == list(range(7))
    assert not threads()


def test_closing_ends_the_thread_and_cancels_items_not_started(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    items = prefetch_items(produce, 0, 1000, depth=10)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert not threads()
    assert max(started) <= 2


def test_deleting_the_generator_ends_its_threads(threads: Threads) -> None:
    items = prefetch_items(str, 0, 1000)
    next(items)
    assert threads()
    del items
    assert not threads()


def test_a_consumed_item_is_freed_while_the_next_is_produced() -> None:
    class Item:
        pass

    produced: list[weakref.ref[Item]] = []

    def produce(step: int) -> Item | bool:
        if step == 0:
            item = Item()
            produced.append(weakref.ref(item))
            return item
        tries, pause = 500, threading.Event()
        while produced[0]() is not None and (tries := tries - 1):
            pause.wait(0.01)  # the consumer is about to request this item
        return produced[0]() is None

    items = prefetch_items(produce, 0, 2)
    next(items)
    assert next(items) is True


@pytest.mark.parametrize("end", ["pass", "raise SystemExit(0)", "1 / 0"])
def test_the_interpreter_exits_with_a_generator_left_open(end: str) -> None:
    script = "from hseval_ldm.data.prefetch import prefetch_items\n"
    script += f"items = prefetch_items(lambda s: bytes(s), 0, 10**9, workers=2)\nnext(items)\n{end}\n"
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if "/" in end else 0)
    assert ("ZeroDivisionError" in done.stderr) == ("/" in end)


@pytest.mark.parametrize(("depth", "workers"), [(0, 1), (4, -1)])
def test_impossible_sizes_are_refused_at_once(depth: int, workers: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more and 0 or more"):
        prefetch_items(str, 0, 1, depth=depth, workers=workers)
