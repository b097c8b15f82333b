"""The order of items: each epoch uses each item once, and every step is independent of the others."""

from __future__ import annotations

import numpy as np
import pytest

from hseval_ldm.data.batches import draw_batch_indices, draw_permutation


@pytest.mark.parametrize(("batch", "count"), [(4, 10), (3, 9), (16, 5), (1, 1), (7, 7)])
def test_each_epoch_uses_each_item_once(batch: int, count: int) -> None:
    steps = -(-4 * count // batch)
    indices = np.concatenate(
        [draw_batch_indices(k, batch_size=batch, count=count, seed=3, name="a") for k in range(steps)]
    )
    for epoch in indices[: 4 * count].reshape(4, count):
        assert sorted(epoch) == list(range(count))


def test_a_step_is_a_function_of_seed_name_and_step() -> None:
    forward = [draw_batch_indices(k, batch_size=4, count=30, seed=1, name="a") for k in range(20)]
    draw_permutation.cache_clear()
    backward = [draw_batch_indices(k, batch_size=4, count=30, seed=1, name="a") for k in reversed(range(20))][::-1]
    assert np.array_equal(forward, backward)
    arguments = {"batch_size": 4, "count": 30, "seed": 1, "name": "a"}
    for change in ({"seed": 2}, {"name": "b"}):
        assert not np.array_equal(forward[0], draw_batch_indices(0, **(arguments | change)))


def test_epochs_differ_and_the_caller_may_change_a_result() -> None:
    first, second = (draw_permutation(epoch, count=50, seed=0, name="a") for epoch in (0, 1))
    assert not np.array_equal(first, second)
    drawn = draw_batch_indices(0, batch_size=50, count=50, seed=0, name="a")
    drawn[:] = 0
    assert np.array_equal(first, draw_batch_indices(0, batch_size=50, count=50, seed=0, name="a"))
