from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.utils.errors import HsevalError
from hseval.utils.nearest_neighbors import MIN_IVF_ROWS, NearestNeighbors

Array = NDArray[Any]


def search_brute_force(queries: Array, base: Array, k: int = 1, *, exclude_self: bool = False) -> tuple[Array, Array]:
    """Return the k nearest by float64 differences; ties are ordered by index."""
    queries, base = queries.astype(np.float64), base.astype(np.float64)
    squared = ((queries[:, None] - base) ** 2).sum(axis=-1)
    if exclude_self:
        np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squared, order, axis=1)), order


def assert_equal_to_brute_force(queries: Array, base: Array, k: int = 1, *, exclude_self: bool = False) -> None:
    exclude = np.arange(len(queries)) if exclude_self else None
    distances, rows = NearestNeighbors(base).find_nearest(queries, k=k, exclude=exclude)
    expected, expected_rows = search_brute_force(queries, base, k, exclude_self=exclude_self)
    assert np.array_equal(rows, expected_rows)
    assert np.allclose(distances, expected, rtol=1e-12, atol=0)
    assert distances.dtype == np.float64


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 500.0, 1e6])
def test_neighbors_equal_brute_force_at_any_distance_from_the_origin(k: int, offset: float) -> None:
    rng = np.random.default_rng(0)
    queries, base = (rng.normal(size=(200, 24)) + offset for _ in range(2))
    assert_equal_to_brute_force(queries, base, k)


def test_float32_rows_far_from_the_origin_equal_brute_force() -> None:
    rng = np.random.default_rng(1)
    queries, base = ((rng.normal(size=(150, 64)) + 500).astype(np.float32) for _ in range(2))
    assert_equal_to_brute_force(queries, base)


def test_near_duplicates_that_float32_cannot_distinguish_are_ranked_in_float64() -> None:
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(5, 32)) * 10
    base = np.repeat(centers, 40, axis=0) + 1e-6 * rng.normal(size=(200, 32))
    queries = np.repeat(centers, 10, axis=0) + 1e-6 * rng.normal(size=(50, 32))
    assert_equal_to_brute_force(queries, base, k=3)


def test_the_first_of_many_equal_rows_is_found() -> None:
    rows = np.random.default_rng(3).normal(size=(20, 8))
    base = np.tile(rows, (30, 1))
    distances, neighbors = NearestNeighbors(base).find_nearest(rows)
    assert neighbors.ravel().tolist() == list(range(20))
    assert (distances == 0).all()


def test_with_exclude_self_the_nearest_other_row_is_found() -> None:
    assert_equal_to_brute_force(*(np.random.default_rng(4).normal(size=(60, 8)),) * 2, k=2, exclude_self=True)


def test_exclude_self_still_finds_duplicates() -> None:
    rows = np.random.default_rng(5).normal(size=(30, 4))
    rows[17] = rows[3]
    distances, neighbors = NearestNeighbors(rows).find_nearest(rows, exclude=np.arange(30))
    assert (neighbors[3, 0], neighbors[17, 0]) == (17, 3)
    assert distances[3, 0] == distances[17, 0] == 0


def test_a_base_of_one_row_works() -> None:
    assert_equal_to_brute_force(np.arange(6.0).reshape(3, 2), np.ones((1, 2)))


def test_integer_rows_are_searched_as_numbers() -> None:
    rng = np.random.default_rng(6)
    queries, base = rng.integers(0, 256, (2, 40, 6), dtype=np.uint8)
    assert_equal_to_brute_force(queries, base)


def test_the_order_of_queries_changes_nothing() -> None:
    rng = np.random.default_rng(7)
    queries, base = rng.normal(size=(90, 16)), rng.normal(size=(70, 16))
    order = rng.permutation(90)
    distances, rows = NearestNeighbors(base).find_nearest(queries)
    shuffled, shuffled_rows = NearestNeighbors(base).find_nearest(queries[order])
    assert np.array_equal(shuffled, distances[order])
    assert np.array_equal(shuffled_rows, rows[order])


@pytest.mark.parametrize("excluded", [False, True])
def test_the_screening_bound_holds(excluded: bool) -> None:
    rows = np.random.default_rng(8).normal(size=(120, 40)) + 100
    exclude = np.arange(120) if excluded else None
    squared, error = NearestNeighbors(rows).bound_nearest(rows, exclude=exclude)
    expected, _ = search_brute_force(rows, rows, exclude_self=excluded)
    assert (np.abs(squared - expected[:, 0] ** 2) <= error).all()


def test_the_inverted_file_is_used_only_above_the_stated_size_and_finds_most_neighbors() -> None:
    rng = np.random.default_rng(9)
    base, queries = rng.normal(size=(MIN_IVF_ROWS, 4)), rng.normal(size=(300, 4))
    assert NearestNeighbors(base, index="ivf").approximate
    assert not NearestNeighbors(base[:-1], index="ivf").approximate
    exact, exact_rows = NearestNeighbors(base).find_nearest(queries)
    distances, rows = NearestNeighbors(base, index="ivf").find_nearest(queries)
    correct = rows == exact_rows
    assert correct.mean() >= 0.95
    assert np.array_equal(distances[correct], exact[correct])
    assert (distances >= exact).all()


@pytest.mark.parametrize(
    ("queries", "base", "k", "message"),
    [
        (np.zeros((2, 3)), np.zeros((4, 2)), 1, r"shape \(2, 3\), expected \(n, 2\)"),
        (np.zeros((2, 2)), np.zeros((4, 2)), 5, "5 requested, but there are 4"),
        (np.zeros((2, 2)), np.zeros((0, 2)), 1, "no rows"),
        (np.full((2, 2), np.nan), np.zeros((4, 2)), 1, "queries with NaN or Inf"),
        (np.zeros((2, 2)), np.full((4, 2), np.inf), 1, "base with NaN or Inf"),
        (np.zeros(2), np.zeros((4, 2)), 1, r"shape \(2,\)"),
    ],
)
def test_rows_that_cannot_be_searched_are_refused(queries: Array, base: Array, k: int, message: str) -> None:
    with pytest.raises(HsevalError, match=message):
        NearestNeighbors(base).find_nearest(queries, k=k)


def test_a_base_of_equal_rows_is_searched_by_comparing_all() -> None:
    base = np.ones((3000, 3))
    base[2999] = 1.5
    distances, rows = NearestNeighbors(base).find_nearest(np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]), k=2)
    assert rows.tolist() == [[0, 1], [2999, 0]]
    assert distances == pytest.approx(np.sqrt([[0, 0], [0.75, 3]]))
