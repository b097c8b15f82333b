"""Worker processes: what fails there is told here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hseval.core.cubes import FOV, ArraySet, Cube
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import texture_set


class Deadly(ArraySet):
    """Its cube 12 kills the process that reads it, as running out of memory does."""

    def read(self, index: int) -> Cube:
        if index == 12 and os.getpid() != self.parent:
            os._exit(9)
        return super().read(index)


class Unreadable(ArraySet):
    def read(self, index: int) -> Cube:
        if index == 12:
            raise HsevalError("set.h5: cube 12 can't be read")
        return super().read(index)


def plan(cubes: ArraySet) -> ExtractionPlan:
    return ExtractionPlan((ExtractorSpec("values"),), (FOV,), cubes.wavelengths)


def copied(kind: type[ArraySet]) -> ArraySet:
    base = texture_set(20, size=16)
    return kind(base.cubes, wavelengths=base.wavelengths, masks=base.masks)


def test_a_worker_that_dies_is_one_line_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    cubes = copied(Deadly)
    cubes.parent = os.getpid()  # type: ignore[attr-defined]
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        with pytest.raises(HsevalError, match="a worker process died"):
            extract_features(cubes, plan(cubes), cache=cache, workers=1)
        assert cache.get_size()[0] >= 8


def test_an_error_in_a_worker_is_the_error_here(tmp_path: Path) -> None:
    cubes = copied(Unreadable)
    with FeatureCache(tmp_path / "rows.sqlite") as cache, pytest.raises(HsevalError, match="cube 12 can't be read"):
        extract_features(cubes, plan(cubes), cache=cache, workers=2)


def test_progress_counts_every_cube_once(tmp_path: Path) -> None:
    cubes = texture_set(20, size=16)
    told: list[tuple[int, int]] = []
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(cubes, plan(cubes), cache=cache, progress=lambda done, total: told.append((done, total)))
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_threads_are_given_back_after_work_in_this_process() -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cubes = texture_set(2, size=16)
        with FeatureCache(None) as cache:
            extract_features(cubes, plan(cubes), cache=cache)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
