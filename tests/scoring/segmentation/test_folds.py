"""Assignment of the reference to two folds."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.scoring.segmentation.folds import assign_folds, find_linked_cubes, select_fit_cubes


def draw_cubes(n: int, seed: int) -> tuple[list[str], list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    contents = [f"{rng.integers(2**62):016x}" for _ in range(n)]
    contents[3] = contents[7]  # one cube twice, in two groups
    groups = [f"group-{rng.integers(n // 2)}" for _ in range(n)]
    presence = rng.random((n, 4)) < np.array([0.9, 0.5, 0.2, 0.1])
    return contents, groups, presence


@pytest.mark.parametrize("seed", range(5))
def test_linked_cubes_are_in_one_fold(seed: int) -> None:
    contents, groups, presence = draw_cubes(40, seed)
    folds = assign_folds(contents=contents, groups=groups, presence=presence)
    for names in (contents, groups):
        for name in set(names):
            assert len({int(fold) for fold, cube_name in zip(folds, names, strict=True) if cube_name == name}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_structure_of_two_units_is_in_both_folds(seed: int) -> None:
    contents, groups, presence = draw_cubes(40, seed)
    folds = assign_folds(contents=contents, groups=groups, presence=presence)
    units = find_linked_cubes(contents, groups)
    for structure in range(4):
        unit_count = sum(presence[unit, structure].any() for unit in units)
        structure_folds = {int(folds[i]) for i in np.flatnonzero(presence[:, structure])}
        assert unit_count < 2 or structure_folds == {0, 1}
    assert abs(int(folds.sum()) * 2 - 40) <= 12


def test_order_and_names_do_not_matter() -> None:
    contents, groups, presence = draw_cubes(30, 1)
    order = np.random.default_rng(2).permutation(30)
    folds = assign_folds(contents=contents, groups=groups, presence=presence)
    shuffled = assign_folds(
        contents=[contents[i] for i in order], groups=[f"z{groups[i][::-1]}" for i in order], presence=presence[order]
    )
    assert np.array_equal(folds[order], shuffled)


def test_selected_cubes_include_rare_structures_and_cover_the_set() -> None:
    presence = np.zeros((200, 3), bool)
    presence[:, 0], presence[::2, 1], presence[[5, 60, 150], 2] = True, True, True
    indices = select_fit_cubes(presence, 20)
    assert len(indices) == 20
    assert {5, 60, 150} <= set(indices)
    assert indices == sorted(set(indices))
    assert max(indices) - min(indices) > 150
    assert select_fit_cubes(presence[:8], 20) == list(range(8))
