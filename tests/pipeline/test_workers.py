"""Worker processes: their errors are raised in the parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hseval.core.cubes import FOV, ArraySet, Cube
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import make_texture_set


class CrashingSet(ArraySet):
    """Its cube 12 kills the process that reads it, as if memory had run out."""

    def read(self, index: int) -> Cube:
        if index == 12 and os.getpid() != self.parent:
            os._exit(9)
        return super().read(index)


class UnreadableSet(ArraySet):
    def read(self, index: int) -> Cube:
        if index == 12:
            raise HsevalError("set.h5: cube 12 can't be read")
        return super().read(index)


# Reads slowly, in two workers.
READ_IN_WORKERS = """
import time
from hseval.core.cubes import ArraySet
from hseval.pipeline.extract import extract_features
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import make_texture_set
from tests.pipeline.test_workers import make_plan

class SlowSet(ArraySet):
    def read(self, index):
        print("reading", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    base = make_texture_set(20, size=16)
    cubes = SlowSet(base.cubes, wavelengths=base.wavelengths)
    extract_features(cubes, make_plan(cubes), cache=FeatureCache(None), workers=2)
"""


def make_plan(cubes: ArraySet) -> ExtractionPlan:
    return ExtractionPlan((ExtractorSpec("values"),), (FOV,), cubes.wavelengths)


def make_set(set_class: type[ArraySet]) -> ArraySet:
    base = make_texture_set(20, size=16)
    return set_class(base.cubes, wavelengths=base.wavelengths, masks=base.masks)


def test_a_worker_that_dies_is_a_one_line_error_and_finished_cubes_are_stored(tmp_path: Path) -> None:
    cubes = make_set(CrashingSet)
    cubes.parent = os.getpid()  # type: ignore[attr-defined]
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        with pytest.raises(HsevalError, match="a worker process died"):
            extract_features(cubes, make_plan(cubes), cache=cache, workers=1)
        assert cache.get_size()[0] >= 8


def test_an_error_in_a_worker_is_raised_in_the_parent(tmp_path: Path) -> None:
    cubes = make_set(UnreadableSet)
    with FeatureCache(tmp_path / "rows.sqlite") as cache, pytest.raises(HsevalError, match="cube 12 can't be read"):
        extract_features(cubes, make_plan(cubes), cache=cache, workers=2)


def test_progress_counts_every_cube_once(tmp_path: Path) -> None:
    cubes = make_texture_set(20, size=16)
    calls: list[tuple[int, int]] = []
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(cubes, make_plan(cubes), cache=cache, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(8, 20), (16, 20), (20, 20)]


def test_the_number_of_threads_is_restored_after_work_in_this_process() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cubes = make_texture_set(2, size=16)
        with FeatureCache(None) as cache:
            extract_features(cubes, make_plan(cubes), cache=cache)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_after_a_kill_the_workers_end_and_nothing_is_printed(tmp_path: Path) -> None:
    script = tmp_path / "read_in_workers.py"
    script.write_text(READ_IN_WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (tmp_path / "err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"  # by a worker
        process.kill()
        process.wait()
        assert process.stdout.read() in ("", "reading\n")  # to its end: workers and resource tracker have gone, too
    assert (tmp_path / "err").read_text() == ""
