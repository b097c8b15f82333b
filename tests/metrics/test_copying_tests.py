"""Tests of data-copying: scipy as an oracle, closed forms, and p-values that are uniform where nothing is copied."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, mannwhitneyu

from hseval.metrics.copying_tests import (
    MIN_CUBES_IN_CELL,
    PROFILE_PROBABILITIES,
    assign_cells,
    compute_profiles,
    copying_test,
    fit_cell_centers,
    lower_tail_p_value,
    mann_whitney_z,
    precedence_test,
    select_one_per_group,
)

Array = NDArray[Any]
REPEATS = 2000


def draws(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).gamma(3, size=count)


def one_cell(held: Array, found: Array) -> Any:
    cells = {"holdout_cells": np.zeros(len(held), int), "generated_cells": np.zeros(len(found), int)}
    return copying_test(holdout=held, generated=found, **cells)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_z_score_is_scipys_mann_whitney_with_ties_and_without(digits: int) -> None:
    held, found = draws(40, 0).round(digits), (0.8 * draws(25, 1)).round(digits)
    expected = mannwhitneyu(found, held, alternative="less", method="asymptotic", use_continuity=False)
    assert lower_tail_p_value(mann_whitney_z(holdout=held, generated=found)) == pytest.approx(expected.pvalue, rel=1e-9)


def test_samples_that_are_all_nearer_have_the_closed_form() -> None:
    m, n = 12, 30
    z = mann_whitney_z(holdout=np.arange(100.0, 100 + n), generated=np.arange(float(m)))
    assert z == pytest.approx(-m * n / 2 / (m * n * (m + n + 1) / 12) ** 0.5)
    assert mann_whitney_z(holdout=np.arange(float(m)), generated=np.arange(100.0, 100 + n)) > 0


def test_distances_that_are_all_equal_say_nothing() -> None:
    assert mann_whitney_z(holdout=np.ones(20), generated=np.ones(15)) == 0
    assert precedence_test(holdout=np.ones(20), generated=np.ones(15)) == (0, 1.0)


def test_p_is_uniform_where_nothing_is_copied() -> None:
    rng = np.random.default_rng(0)
    p = [
        lower_tail_p_value(mann_whitney_z(holdout=rng.gamma(3, size=60), generated=rng.gamma(3, size=45)))
        for _ in range(REPEATS)
    ]
    assert kstest(p, "uniform").pvalue > 0.01


def test_p_of_the_worst_cell_is_uniform_where_nothing_is_copied() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(REPEATS):
        held_cells, found_cells = rng.integers(0, 4, 120), rng.integers(0, 4, 100)
        # Cells differ in how far cubes lie from the training set; within a cell samples and held-out ones do not.
        held, found = (rng.gamma(3, size=len(cells)) * (1 + cells) for cells in (held_cells, found_cells))
        p.append(
            copying_test(holdout=held, generated=found, holdout_cells=held_cells, generated_cells=found_cells).worst_p
        )
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("m", "n"), [(20, 20), (30, 60)])
def test_the_precedence_p_is_reached_as_often_as_it_says(m: int, n: int) -> None:
    rng = np.random.default_rng(2)
    p = np.array(
        [precedence_test(holdout=rng.gamma(3, size=n), generated=rng.gamma(3, size=m))[1] for _ in range(REPEATS)]
    )
    for below in (1, 2, 3):
        attainable = comb(m, below) / comb(m + n, below)
        error = (attainable * (1 - attainable) / REPEATS) ** 0.5
        assert np.mean(p <= attainable * (1 + 1e-9)) == pytest.approx(attainable, abs=4 * error)


def test_the_precedence_p_counts_who_comes_first() -> None:
    held, found = np.array([5.0, 6, 7]), np.array([1.0, 2, 5, 9])
    assert precedence_test(holdout=held, generated=found) == (2, pytest.approx(comb(4, 2) / comb(7, 2)))
    assert precedence_test(holdout=held, generated=found[::-1] + 10) == (0, 1.0)


def test_a_few_copies_show_in_the_precedence_test_and_hardly_in_the_whole() -> None:
    held, found = draws(200, 3), draws(200, 4)
    found[:10] = 0.0
    assert precedence_test(holdout=held, generated=found)[1] < 0.01
    assert lower_tail_p_value(mann_whitney_z(holdout=held, generated=found)) > 0.01


def test_copying_in_one_cell_shows_there() -> None:
    rng = np.random.default_rng(5)
    held_cells, found_cells = np.repeat(np.arange(5), 40), np.repeat(np.arange(5), 30)
    held, found = rng.gamma(3, size=200), rng.gamma(3, size=150)
    found[found_cells == 3] *= 0.4
    result = copying_test(holdout=held, generated=found, holdout_cells=held_cells, generated_cells=found_cells)
    assert result.worst == 3
    assert result.worst_p < 0.01 < result.p
    assert result.cells == 5


def test_c_t_is_the_mean_of_the_cells_weighted_by_held_out_cubes() -> None:
    held, found = draws(60, 0), draws(50, 1)
    held_cells, found_cells = np.repeat([0, 1, 2], [30, 25, 5]), np.repeat([0, 1, 2], [20, 20, 10])
    result = copying_test(holdout=held, generated=found, holdout_cells=held_cells, generated_cells=found_cells)
    z = [mann_whitney_z(holdout=held[held_cells == i], generated=found[found_cells == i]) for i in (0, 1)]
    assert result.cells == 2  # the third holds too few held-out cubes
    assert result.c_t == pytest.approx((30 * z[0] + 25 * z[1]) / 55)
    assert result.worst_z == min(z)


def test_too_few_for_any_cell_leaves_the_whole() -> None:
    held, found = draws(MIN_CUBES_IN_CELL - 1, 0), draws(30, 1)
    result = one_cell(held, found)
    assert (result.cells, result.worst, result.worst_p) == (0, -1, 1)
    assert result.c_t == result.z == mann_whitney_z(holdout=held, generated=found)


def test_one_cell_is_the_whole() -> None:
    result = one_cell(draws(30, 0), draws(30, 1))
    assert result.c_t == result.z == result.worst_z
    assert result.worst_p == pytest.approx(result.p)


def test_one_cube_a_group_is_drawn_whatever_the_order() -> None:
    hashes, groups = np.array(["d", "a", "c", "b", "e"]), np.array(["x", "y", "x", "y", "z"])
    assert select_one_per_group(hashes=hashes, groups=groups).tolist() == [1, 2, 4]
    order = np.array([4, 3, 2, 1, 0])
    picked = select_one_per_group(hashes=hashes[order], groups=groups[order])
    assert sorted(hashes[order][picked]) == ["a", "c", "e"]


def test_profiles_are_quantiles_of_what_is_valid_whatever_the_orientation() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 2, 16, 16)).astype(np.float32)
    maps[:, :, 0] = np.nan
    found = compute_profiles(maps).reshape(3, 2, -1)
    expected = np.quantile(maps[:, :, 1:].reshape(3, 2, -1), PROFILE_PROBABILITIES, axis=-1, method="nearest")
    assert np.abs(found - np.moveaxis(expected, 0, -1)).max() < 0.05
    assert np.array_equal(compute_profiles(np.rot90(maps, axes=(2, 3))), compute_profiles(maps))
    assert np.array_equal(compute_profiles(maps[..., ::-1]), compute_profiles(maps))
    assert np.array_equal(compute_profiles(np.full((1, 1, 4, 4), np.nan)), np.zeros((1, 7)))


def test_the_partition_finds_separate_cells_and_depends_on_nothing_drawn() -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(25, 3)) + 20 * i for i in range(4)])
    centres = fit_cell_centers(rows)
    own = assign_cells(rows, centres)
    assert [len(set(own[i : i + 25])) for i in range(0, 100, 25)] == [1, 1, 1, 1]
    assert len(set(own)) == 4
    order = rng.permutation(100)
    assert assign_cells(rows, fit_cell_centers(rows[order])).tolist() == own.tolist()


@pytest.mark.parametrize(("count", "cells"), [(1, 1), (19, 1), (40, 2), (1000, 5)])
def test_cells_have_room_for_twenty_training_cubes(count: int, cells: int) -> None:
    assert len(fit_cell_centers(np.random.default_rng(0).normal(size=(count, 4)))) == cells
    assert np.isfinite(fit_cell_centers(np.ones((count, 4)))).all()
