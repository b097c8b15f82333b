"""Chunks of work in worker processes: the order of results, and how much is in memory at a time."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from hseval.utils.parallel import run_chunks


@dataclasses.dataclass(frozen=True)
class RecordingJob:
    """Leaves a file for every chunk that it ran."""

    folder: Path

    def run_chunk(self, chunk: list[int]) -> list[int]:
        """Return the chunk."""
        (self.folder / str(chunk[0])).touch()
        return chunk

    def get_spec(self) -> Any:
        """Return how to build the same job in a worker."""
        return RecordingJob, (self.folder,)


def wait_for_idle_workers(folder: Path) -> int:
    """Return how many chunks were run once their number no longer grows."""
    count = -1
    while count != (count := len(list(folder.iterdir()))):
        time.sleep(0.5)
    return count


def test_three_chunks_a_worker_are_in_flight_so_that_memory_stays_flat(tmp_path: Path) -> None:
    """A slow consumer: what is finished ahead of it is in memory, whatever the number of chunks."""
    chunks = [[index] for index in range(40)]
    results = run_chunks(RecordingJob(tmp_path), chunks, workers=1)
    assert next(results) == [0]
    assert wait_for_idle_workers(tmp_path) == 3
    assert next(results) == [1]
    assert wait_for_idle_workers(tmp_path) == 4
    assert list(results) == chunks[2:]


def test_results_without_workers_are_computed_one_at_a_time(tmp_path: Path) -> None:
    results = run_chunks(RecordingJob(tmp_path), [[0], [1], [2]], workers=0)
    assert next(results) == [0]
    assert len(list(tmp_path.iterdir())) == 1
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 1, None])
def test_no_chunks_have_no_results(tmp_path: Path, workers: int | None) -> None:
    assert list(run_chunks(RecordingJob(tmp_path), [], workers=workers)) == []
