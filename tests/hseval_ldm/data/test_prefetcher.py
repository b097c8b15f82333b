"""The prefetcher: any start, any jump, errors in place of their item, and no thread left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hseval_ldm.data.prefetch import Prefetcher

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
