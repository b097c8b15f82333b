"""Dealing the reference into two folds."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.scoring.segmentation.folds import assign_folds, find_linked_cubes, select_fit_cubes


def drawn(n: int, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    contents = [f"{rng.integers(2**62):016x}" for _ in range(n)]
    contents[3] = contents[7]  # one cube twice, in two groups
    groups = [f"group-{rng.integers(n // 2)}" for _ in range(n)]
    having = rng.random((n, 4)) < np.array([0.9, 0.5, 0.2, 0.1])
    return contents, groups, having


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_belongs_together_is_divided(seed: int) -> None:
    contents, groups, having = drawn(40, seed)
    fold = assign_folds(contents=contents, groups=groups, presence=having)
    for names in (contents, groups):
        for name in set(names):
            assert len({int(side) for side, each in zip(fold, names, strict=True) if each == name}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_structure_that_two_parts_have_is_in_both_folds(seed: int) -> None:
    contents, groups, having = drawn(40, seed)
    fold = assign_folds(contents=contents, groups=groups, presence=having)
    parts = find_linked_cubes(contents, groups)
    for structure in range(4):
        holders = sum(having[part, structure].any() for part in parts)
        sides = {int(fold[i]) for i in np.flatnonzero(having[:, structure])}
        assert holders < 2 or sides == {0, 1}
    assert abs(int(fold.sum()) * 2 - 40) <= 12


def test_order_and_names_decide_nothing() -> None:
    contents, groups, having = drawn(30, 1)
    order = np.random.default_rng(2).permutation(30)
    fold = assign_folds(contents=contents, groups=groups, presence=having)
    shuffled = assign_folds(
        contents=[contents[i] for i in order], groups=[f"z{groups[i][::-1]}" for i in order], presence=having[order]
    )
    assert np.array_equal(fold[order], shuffled)


def test_some_are_few_and_the_rare_are_among_them() -> None:
    having = np.zeros((200, 3), bool)
    having[:, 0], having[::2, 1], having[[5, 60, 150], 2] = True, True, True
    places = select_fit_cubes(having, 20)
    assert len(places) == 20
    assert {5, 60, 150} <= set(places)
    assert places == sorted(set(places))
    assert max(places) - min(places) > 150
    assert select_fit_cubes(having[:8], 20) == list(range(8))
