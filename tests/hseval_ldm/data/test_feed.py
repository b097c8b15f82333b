"""The feed: any start, any jump, errors where their item would be, and no thread left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hseval_ldm.data.prefetch import Prefetcher

Threads = Callable[[], list[str]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_for_the_step_that_is_asked_for(workers: int) -> None:
    feed = Prefetcher(lambda step: step * step, 30, workers=workers)
    asked = [5, 6, 7, 8, 2, 3, 3, 3, 4, 29]  # from where a run goes on, back, again, and to the end
    assert [feed.get(step) for step in asked] == [step * step for step in asked]
    feed.close()


def test_going_on_makes_no_item_twice() -> None:
    made: list[int] = []
    feed = Prefetcher(lambda step: made.append(step) or step, 12, workers=2)  # type: ignore[func-returns-value]
    assert [feed.get(step) for step in range(12)] == list(range(12))
    assert sorted(made) == list(range(12))
    feed.close()


def test_a_jump_and_closing_end_the_threads(threads: Threads) -> None:
    feed = Prefetcher(str, 1000, workers=2)
    feed.get(0)
    assert 0 < len(threads()) <= 2
    feed.get(500)
    assert 0 < len(threads()) <= 2
    feed.close()
    assert not threads()
    feed.close()
    assert feed.get(501) == "501"  # and it starts anew
    feed.close()
    assert not threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_at_its_step_and_the_feed_goes_on(workers: int, threads: Threads) -> None:
    def produce(step: int) -> int:
        if step == 3:
            raise OSError("the disk is gone")
        return step

    feed = Prefetcher(produce, 10, workers=workers)
    assert [feed.get(step) for step in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        feed.get(3)
    assert not threads()
    assert feed.get(4) == 4
    feed.close()
