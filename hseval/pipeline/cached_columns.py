"""Columns that a job computes row by row: looked up in the cache first, shared among the ranks, stored as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hseval.utils.distributed import Ranks
from hseval.utils.errors import format_error
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.parallel import Job, run_chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

Columns = Mapping[str, "NDArray[Any]"]


@contextlib.contextmanager
def raise_on_all_ranks(ranks: Ranks) -> Iterator[None]:
    """Raise an error of one rank's block on all ranks, so that none waits for a failed one.

    Raises:
        HsevalError: the block of some rank raised an error (a single rank's own error is raised as it is).
    """
    message = None
    try:
        yield
    except Exception as error:
        if ranks.size == 1:
            raise
        message = format_error(error)
    ranks.raise_first_error(message)


class CachedColumns:
    """The columns of some rows: those in the cache, and those that this rank still has to compute.

    Args:
        keys: row -> cache key.
        cache: where columns are looked up and stored.
        ranks: those to share the rows with.

    Attributes:
        pending: this rank's rows that are not in the cache.
    """

    def __init__(self, keys: Mapping[int, str], cache: FeatureCache, ranks: Ranks) -> None:
        self.keys, self.cache, self.ranks = keys, cache, ranks
        self._columns: dict[str, Columns] = dict(cache.load_features(list(keys.values())))
        rows = list(keys)
        self._own_rows = [rows[i] for i in ranks.shard_indices(len(rows))]
        self.pending = [row for row in self._own_rows if keys[row] not in self._columns]

    def compute(
        self,
        job: Job[Mapping[int, Columns]],
        *,
        chunk_size: int,
        workers: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Compute and store the pending rows with a job that returns each row's columns."""
        chunks = [self.pending[start : start + chunk_size] for start in range(0, len(self.pending), chunk_size)]
        done = 0
        for columns_by_row in run_chunks(job, chunks, workers):
            computed = {self.keys[row]: columns for row, columns in columns_by_row.items()}
            self.cache.store_features(computed)
            self._columns.update(computed)
            done += len(computed)
            if progress is not None:
                progress(done, len(self.pending))

    def gather(self) -> list[Columns]:
        """Return the columns of all rows, in the order of the keys, with those that other ranks computed."""
        own = {f"{row}:{name}": col for row in self._own_rows for name, col in self._columns[self.keys[row]].items()}
        columns_by_row: dict[int, dict[str, NDArray[Any]]] = {row: {} for row in self.keys}
        for received in self.ranks.gather_arrays(own):
            for label, column in received.items():
                row, name = label.split(":", 1)
                columns_by_row[int(row)][name] = column
        return list(columns_by_row.values())
