"""Columns of rows: computed once, stored as they come, shared among ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval.pipeline.cached_columns import CachedColumns, raise_on_all_ranks
from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.two_ranks import run_on_two_ranks

KEYS = {7: "a", 3: "b", 5: "c", 4: "d"}


class Squares:
    """Returns each row's square, and records which rows it was asked for."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []

    def run_chunk(self, chunk: list[int]) -> dict[int, dict[str, Any]]:
        self.chunks.append(chunk)
        return {row: {"square": np.array([row**2])} for row in chunk}

    def get_spec(self) -> Any:
        raise AssertionError("no worker process is started here")


def compute_squares(columns: CachedColumns) -> tuple[list[int], list[list[int]]]:
    job = Squares()
    columns.compute(job, chunk_size=2, workers=0, progress=None)
    return [int(row["square"][0]) for row in columns.gather()], job.chunks


def test_rows_are_returned_in_the_order_of_the_keys_and_computed_once(tmp_path: Path) -> None:
    with FeatureCache(tmp_path / "cache.sqlite") as cache:
        first = CachedColumns({7: "a", 5: "c"}, cache, Ranks())
        assert compute_squares(first) == ([49, 25], [[7, 5]])
        second = CachedColumns(KEYS, cache, Ranks())
        assert second.pending == [3, 4]
        assert compute_squares(second) == ([49, 9, 25, 16], [[3, 4]])
        assert CachedColumns(KEYS, cache, Ranks()).pending == []


def share_squares(ranks: Ranks) -> tuple[list[int], list[list[int]]]:
    with FeatureCache(None) as cache:
        return compute_squares(CachedColumns(KEYS, cache, ranks))


def test_ranks_share_the_rows() -> None:
    assert run_on_two_ranks(share_squares) == [([49, 9, 25, 16], [[7, 5]]), ([49, 9, 25, 16], [[3, 4]])]


def fail_on_rank_1(ranks: Ranks) -> str:
    try:
        with raise_on_all_ranks(ranks):
            if ranks.rank == 1:
                raise ZeroDivisionError("by zero")
    except HsevalError as error:
        return str(error)
    return "no error"


def test_an_error_of_one_rank_is_raised_on_all() -> None:
    assert run_on_two_ranks(fail_on_rank_1) == ["ZeroDivisionError: by zero"] * 2


def test_the_error_of_a_single_rank_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), raise_on_all_ranks(Ranks()):
        raise ZeroDivisionError
