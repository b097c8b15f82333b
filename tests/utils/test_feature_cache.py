"""The feature cache: entries are stored completely or not at all, under keys of everything that decides them."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hseval
from hseval.core.cubes import FOV, Cube, CubeSet, DerivedSet
from hseval.data.content_hash import compute_file_stamp
from hseval.pipeline.extract import UnchangedSet, extract_features
from hseval.pipeline.inputs import PROBE_CUBES
from hseval.pipeline.open import open_set
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.errors import HsevalError
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from tests.helpers.commands import Outcome
from tests.helpers.sets import make_texture_set, save_set

RACY_SECONDS = 0.3
EXTRACTORS = (ExtractorSpec("values"),)


def make_plan(**changes: object) -> ExtractionPlan:
    fields = {"extractors": EXTRACTORS, "structures": (FOV,), "wavelengths": np.linspace(450, 905, 6), **changes}
    return ExtractionPlan(**fields)  # type: ignore[arg-type]


def test_stored_features_are_loaded_unchanged(tmp_path: Path) -> None:
    columns = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        cache.store_features({"key": columns})
        loaded = cache.load_features(["key", "other"])
    assert list(loaded) == ["key"]
    assert all((loaded["key"][name] == column).all() for name, column in columns.items())


def test_a_second_pass_computes_nothing(tmp_path: Path) -> None:
    cubes = make_texture_set(6)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        first = extract_features(cubes, make_plan(), cache=cache)
        path = save_set(tmp_path / "set.h5", cubes)
        wait_until_trusted(path)
        extract_features(open_set(path), make_plan(), cache=cache)
        second = extract_features(open_set(path), make_plan(), cache=cache)
    assert first.computed_count == 6
    assert second.computed_count == 0
    assert (first.features["values/quantiles"] == second.features["values/quantiles"]).all()


@pytest.fixture(autouse=True)
def shorten_racy_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust file times sooner than in real use."""
    monkeypatch.setattr("hseval.data.content_hash.RACY_SECONDS", RACY_SECONDS)


def wait_until_trusted(path: Path) -> None:
    """Wait until the file's times are trusted."""
    time.sleep(max(0.0, RACY_SECONDS - (time.time() - path.stat().st_ctime)) + 0.05)


@pytest.mark.parametrize(
    "other",
    [
        make_plan(extractors=(ExtractorSpec("values"), ExtractorSpec("spectra"))),
        make_plan(wavelengths=np.linspace(451, 906, 6)),
        make_plan(field=np.ones((1, 1), dtype=bool)),
    ],
    ids=["extractor", "wavelengths", "field"],
)
def test_another_extractor_wavelength_or_field_is_another_entry(tmp_path: Path, other: ExtractionPlan) -> None:
    cubes = make_texture_set(3)
    path = save_set(tmp_path / "set.h5", cubes)
    wait_until_trusted(path)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(open_set(path), make_plan(), cache=cache)
        assert extract_features(open_set(path), other, cache=cache).computed_count == 3


def test_another_option_is_another_entry_and_an_explicit_default_is_not(tmp_path: Path) -> None:
    cubes = make_texture_set(3)
    path = save_set(tmp_path / "set.h5", cubes)
    wait_until_trusted(path)
    computed = []
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        for options in ({}, {"levels": "256"}, {"levels": "64"}):
            plan = make_plan(extractors=(ExtractorSpec("spectra", options),))
            computed.append(extract_features(open_set(path), plan, cache=cache).computed_count)
    assert computed == [3, 0, 3]


def test_changed_pixels_are_detected_even_with_the_same_size_and_mtime(tmp_path: Path) -> None:
    cubes = make_texture_set(3)
    path = save_set(tmp_path / "set.h5", cubes)
    wait_until_trusted(path)
    stat = path.stat()
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        before = extract_features(open_set(path), make_plan(), cache=cache)
        save_set(path, cubes, cubes=cubes.cubes * 1.5)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size
        after = extract_features(open_set(path), make_plan(), cache=cache)
    assert after.computed_count == 3
    assert not np.isin(after.features.hashes, before.features.hashes).any()


def test_a_file_that_just_changed_has_no_stamp(tmp_path: Path) -> None:
    cubes = make_texture_set(1)
    path = save_set(tmp_path / "set.h5", cubes)
    assert compute_file_stamp(open_set(path), 0) is None
    wait_until_trusted(path)
    assert compute_file_stamp(open_set(path), 0) is not None


def test_a_file_from_the_future_has_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_set(tmp_path / "set.h5", make_texture_set(1))
    wait_until_trusted(path)
    now = time.time()
    monkeypatch.setattr("hseval.data.content_hash.time.time", lambda: now - 3600)  # the file server is an hour ahead
    assert compute_file_stamp(open_set(path), 0) is None


@pytest.mark.parametrize("is_read_before", [False, True])
def test_a_set_that_is_replaced_after_it_was_opened_gives_the_new_file_no_features(
    tmp_path: Path, is_read_before: bool
) -> None:
    cubes = make_texture_set(3)
    path, other = save_set(tmp_path / "set.h5", cubes), save_set(tmp_path / "b.h5", cubes, cubes=cubes.cubes * 2)
    wait_until_trusted(other)
    opened = open_set(path)
    if is_read_before:
        assert (opened[0].data == cubes.cubes[0]).all()  # its handle leads to the old file from now on
    other.replace(path)
    wait_until_trusted(path)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        if is_read_before:
            assert extract_features(opened, make_plan(), cache=cache).computed_count == 3
        else:
            with pytest.raises(HsevalError, match=r"set\.h5: has changed since it was opened"):
                extract_features(opened, make_plan(), cache=cache)
        result = extract_features(open_set(path), make_plan(), cache=cache)
    with FeatureCache(None) as none:
        expected = extract_features(open_set(path), make_plan(), cache=none)
    assert (result.features["values/quantiles"] == expected.features["values/quantiles"]).all()


def test_a_cube_that_changes_while_it_is_read_is_not_remembered_by_its_times(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for index, cube in enumerate(make_texture_set(2).cubes):
        np.save(folder / f"{index}.npy", cube)
    wait_until_trusted(folder / "1.npy")

    class ReplacedSet(DerivedSet):
        def __init__(self, base: CubeSet) -> None:
            self.base, self.info = base, base.info

        def read(self, index: int) -> Cube:
            cube = self.base.read(index)
            np.save(folder / f"{index}.npy", cube.data * 2)  # by another process, between the read and the stamp
            return cube

    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(ReplacedSet(open_set(folder, layout="byx")), make_plan(), cache=cache)
        wait_until_trusted(folder / "1.npy")
        assert extract_features(open_set(folder, layout="byx"), make_plan(), cache=cache).computed_count == 2


def test_cubes_read_again_must_not_have_changed() -> None:
    cubes = make_texture_set(3)
    with FeatureCache(None) as none:
        extracted = extract_features(cubes, make_plan(), cache=none)
    unchanged = UnchangedSet(cubes, extracted)
    assert (unchanged[1].data == cubes.cubes[1]).all()
    cubes.cubes[1, 0, 5, 5] += np.float32(1e-3)
    assert (unchanged[2].data == cubes.cubes[2]).all()
    with pytest.raises(HsevalError, match="cube cube-0-001 has changed since it was first read"):
        unchanged[1]


@pytest.mark.parametrize("metric", ["ms-ssim"])
def test_pairs_of_cubes_that_changed_are_not_stored_under_the_old_content(tmp_path: Path, metric: str) -> None:
    class ChangingSet(DerivedSet):
        def __init__(self, base: CubeSet, reads: int) -> None:
            self.base, self.info, self.reads = base, base.info, reads

        def read(self, index: int) -> Cube:
            cube = self.base.read(index)
            self.reads -= 1
            return cube if self.reads >= 0 else dataclasses.replace(cube, data=cube.data * np.float32(1.1))

    samples, real = make_texture_set(8, seed=1), make_texture_set(8, seed=2)
    undisturbed = hseval.score(samples, ref=real, metrics=[metric], cache=False)
    with pytest.raises(HsevalError, match="has changed since it was first read"):
        hseval.score(ChangingSet(samples, reads=8 + PROBE_CUBES), ref=real, metrics=[metric])
    assert hseval.score(samples, ref=real, metrics=[metric]).scores == undisturbed.scores


WRITER = """
import sys, numpy as np
from hseval.utils.feature_cache import FeatureCache
from pathlib import Path
with FeatureCache(Path(sys.argv[1])) as cache:
    for i in range(10**6):
        cache.store_features({f"{i}": {"a": np.full(5000, i, dtype=np.float32)}})
        print(i, flush=True)
"""


def test_kill_9_leaves_only_complete_entries(tmp_path: Path) -> None:
    database = tmp_path / "rows.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    while last < 30:
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    with FeatureCache(database) as cache:
        loaded = cache.load_features([str(i) for i in range(last + 1)])
    assert len(loaded) == last + 1
    assert all((loaded[str(i)]["a"] == i).all() for i in range(last + 1))


def test_the_cache_command_reports_and_clears(hseval: Callable[..., Outcome], isolated_cache: Path) -> None:
    with FeatureCache(get_cache_path()) as cache:
        extract_features(make_texture_set(3), make_plan(), cache=cache)
    info = hseval("cache", "info")
    assert str(isolated_cache) in info.out
    assert " 6 entries" in info.out  # one per cube by the extractor, one by the core
    assert hseval("cache", "clear").status == 0
    assert " 0 entries" in hseval("cache", "info").out


def test_a_partly_cached_set_gives_the_same_columns_as_a_fresh_one(tmp_path: Path) -> None:
    cubes = make_texture_set(6)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(cubes.subset([0, 2, 4]), make_plan(), cache=cache)
        mixed = extract_features(cubes, make_plan(), cache=cache).features
    with FeatureCache(None) as none:
        fresh = extract_features(cubes, make_plan(), cache=none).features
    assert {name: column.shape for name, column in mixed.columns.items()} == {
        name: column.shape for name, column in fresh.columns.items()
    }
    assert all((mixed[name] == fresh[name]).all() for name in fresh.columns)


@pytest.mark.parametrize(("extractor", "computed"), [("spectra", 3), ("values", 0)])
def test_another_structure_is_another_entry_for_extractors_that_read_structures(
    tmp_path: Path, extractor: str, computed: int
) -> None:
    cubes = make_texture_set(3)
    extractors = (ExtractorSpec(extractor),)
    path = save_set(tmp_path / "set.h5", cubes)
    wait_until_trusted(path)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        extract_features(open_set(path), make_plan(extractors=extractors), cache=cache)
        other = make_plan(extractors=extractors, structures=("bright", FOV))
        assert extract_features(open_set(path), other, cache=cache).computed_count == computed


def test_equal_cubes_share_one_entry(tmp_path: Path) -> None:
    cubes = make_texture_set(3)
    path = save_set(tmp_path / "set.h5", cubes, cubes=cubes.cubes[[0, 1, 1]])
    wait_until_trusted(path)
    with FeatureCache(tmp_path / "rows.sqlite") as cache:
        first, again = (extract_features(open_set(path), make_plan(), cache=cache) for _ in range(2))
        assert (cache.note, cache.get_size()[0]) == (None, 4)  # 2 contents by 2 extractors
    assert again.computed_count == 0
    assert (first.features["values/quantiles"] == again.features["values/quantiles"]).all()
