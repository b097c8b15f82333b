"""Tests of data-copying: scipy as an oracle, closed forms, and p-values that are uniform without copies."""

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


def draw_distances(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).gamma(3, size=count)


def run_test_in_one_cell(holdout: Array, generated: Array) -> Any:
    cells = {"holdout_cells": np.zeros(len(holdout), int), "generated_cells": np.zeros(len(generated), int)}
    return copying_test(holdout=holdout, generated=generated, **cells)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_z_score_is_scipys_mann_whitney_with_ties_and_without(digits: int) -> None:
    holdout, generated = draw_distances(40, 0).round(digits), (0.8 * draw_distances(25, 1)).round(digits)
    expected = mannwhitneyu(generated, holdout, alternative="less", method="asymptotic", use_continuity=False)
    assert lower_tail_p_value(mann_whitney_z(holdout=holdout, generated=generated)) == pytest.approx(
        expected.pvalue, rel=1e-9
    )


def test_samples_that_are_all_nearer_have_the_closed_form() -> None:
    m, n = 12, 30
    z = mann_whitney_z(holdout=np.arange(100.0, 100 + n), generated=np.arange(float(m)))
    assert z == pytest.approx(-m * n / 2 / (m * n * (m + n + 1) / 12) ** 0.5)
    assert mann_whitney_z(holdout=np.arange(float(m)), generated=np.arange(100.0, 100 + n)) > 0


def test_equal_distances_are_not_significant() -> None:
    assert mann_whitney_z(holdout=np.ones(20), generated=np.ones(15)) == 0
    assert precedence_test(holdout=np.ones(20), generated=np.ones(15)) == (0, 1.0)


def test_p_is_uniform_without_copies() -> None:
    rng = np.random.default_rng(0)
    p = [
        lower_tail_p_value(mann_whitney_z(holdout=rng.gamma(3, size=60), generated=rng.gamma(3, size=45)))
        for _ in range(REPEATS)
    ]
    assert kstest(p, "uniform").pvalue > 0.01


def test_p_of_the_worst_cell_is_uniform_without_copies() -> None:
    rng = np.random.default_rng(1)
    p = []
    for _ in range(REPEATS):
        holdout_cells, generated_cells = rng.integers(0, 4, 120), rng.integers(0, 4, 100)
        # Distances to the training set differ between cells, but not between samples and held-out cubes of a cell.
        holdout, generated = (rng.gamma(3, size=len(cells)) * (1 + cells) for cells in (holdout_cells, generated_cells))
        p.append(
            copying_test(
                holdout=holdout, generated=generated, holdout_cells=holdout_cells, generated_cells=generated_cells
            ).worst_p
        )
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("m", "n"), [(20, 20), (30, 60)])
def test_the_precedence_p_is_its_own_false_positive_rate(m: int, n: int) -> None:
    rng = np.random.default_rng(2)
    p = np.array(
        [precedence_test(holdout=rng.gamma(3, size=n), generated=rng.gamma(3, size=m))[1] for _ in range(REPEATS)]
    )
    for below in (1, 2, 3):
        attainable = comb(m, below) / comb(m + n, below)
        error = (attainable * (1 - attainable) / REPEATS) ** 0.5
        assert np.mean(p <= attainable * (1 + 1e-9)) == pytest.approx(attainable, abs=4 * error)


def test_the_precedence_test_counts_the_samples_below_all_held_out_cubes() -> None:
    holdout, generated = np.array([5.0, 6, 7]), np.array([1.0, 2, 5, 9])
    assert precedence_test(holdout=holdout, generated=generated) == (2, pytest.approx(comb(4, 2) / comb(7, 2)))
    assert precedence_test(holdout=holdout, generated=generated[::-1] + 10) == (0, 1.0)


def test_the_precedence_test_detects_a_few_copies_that_mann_whitney_does_not() -> None:
    holdout, generated = draw_distances(200, 3), draw_distances(200, 4)
    generated[:10] = 0.0
    assert precedence_test(holdout=holdout, generated=generated)[1] < 0.01
    assert lower_tail_p_value(mann_whitney_z(holdout=holdout, generated=generated)) > 0.01


def test_copying_in_one_cell_is_detected_there() -> None:
    rng = np.random.default_rng(5)
    holdout_cells, generated_cells = np.repeat(np.arange(5), 40), np.repeat(np.arange(5), 30)
    holdout, generated = rng.gamma(3, size=200), rng.gamma(3, size=150)
    generated[generated_cells == 3] *= 0.4
    result = copying_test(
        holdout=holdout, generated=generated, holdout_cells=holdout_cells, generated_cells=generated_cells
    )
    assert result.worst == 3
    assert result.worst_p < 0.01 < result.p
    assert result.cells == 5


def test_c_t_is_the_mean_of_the_cells_weighted_by_held_out_cubes() -> None:
    holdout, generated = draw_distances(60, 0), draw_distances(50, 1)
    holdout_cells, generated_cells = np.repeat([0, 1, 2], [30, 25, 5]), np.repeat([0, 1, 2], [20, 20, 10])
    result = copying_test(
        holdout=holdout, generated=generated, holdout_cells=holdout_cells, generated_cells=generated_cells
    )
    z = [mann_whitney_z(holdout=holdout[holdout_cells == i], generated=generated[generated_cells == i]) for i in (0, 1)]
    assert result.cells == 2  # the third has too few held-out cubes
    assert result.c_t == pytest.approx((30 * z[0] + 25 * z[1]) / 55)
    assert result.worst_z == min(z)


def test_too_few_cubes_for_any_cell_are_tested_together() -> None:
    holdout, generated = draw_distances(MIN_CUBES_IN_CELL - 1, 0), draw_distances(30, 1)
    result = run_test_in_one_cell(holdout, generated)
    assert (result.cells, result.worst, result.worst_p) == (0, -1, 1)
    assert result.c_t == result.z == mann_whitney_z(holdout=holdout, generated=generated)


def test_a_single_cell_is_tested_as_all_distances_are() -> None:
    result = run_test_in_one_cell(draw_distances(30, 0), draw_distances(30, 1))
    assert result.c_t == result.z == result.worst_z
    assert result.worst_p == pytest.approx(result.p)


def test_the_cube_selected_from_a_group_does_not_depend_on_order() -> None:
    hashes, groups = np.array(["d", "a", "c", "b", "e"]), np.array(["x", "y", "x", "y", "z"])
    assert select_one_per_group(hashes=hashes, groups=groups).tolist() == [1, 2, 4]
    order = np.array([4, 3, 2, 1, 0])
    selected = select_one_per_group(hashes=hashes[order], groups=groups[order])
    assert sorted(hashes[order][selected]) == ["a", "c", "e"]


def test_profiles_are_quantiles_of_valid_cells_whatever_the_orientation() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 2, 16, 16)).astype(np.float32)
    maps[:, :, 0] = np.nan
    profiles = compute_profiles(maps).reshape(3, 2, -1)
    expected = np.quantile(maps[:, :, 1:].reshape(3, 2, -1), PROFILE_PROBABILITIES, axis=-1, method="nearest")
    assert np.abs(profiles - np.moveaxis(expected, 0, -1)).max() < 0.05
    assert np.array_equal(compute_profiles(np.rot90(maps, axes=(2, 3))), compute_profiles(maps))
    assert np.array_equal(compute_profiles(maps[..., ::-1]), compute_profiles(maps))
    assert np.array_equal(compute_profiles(np.full((1, 1, 4, 4), np.nan)), np.zeros((1, 7)))


def test_the_partition_finds_separate_cells_and_is_deterministic() -> None:
    rng = np.random.default_rng(0)
    profiles = np.concatenate([rng.normal(size=(25, 3)) + 20 * i for i in range(4)])
    centers = fit_cell_centers(profiles)
    cells = assign_cells(profiles, centers)
    assert [len(set(cells[i : i + 25])) for i in range(0, 100, 25)] == [1, 1, 1, 1]
    assert len(set(cells)) == 4
    order = rng.permutation(100)
    assert assign_cells(profiles, fit_cell_centers(profiles[order])).tolist() == cells.tolist()


@pytest.mark.parametrize(("count", "cells"), [(1, 1), (19, 1), (40, 2), (1000, 5)])
def test_there_is_a_cell_for_every_twenty_training_cubes(count: int, cells: int) -> None:
    assert len(fit_cell_centers(np.random.default_rng(0).normal(size=(count, 4)))) == cells
    assert np.isfinite(fit_cell_centers(np.ones((count, 4)))).all()
