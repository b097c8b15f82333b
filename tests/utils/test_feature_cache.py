"""The cache: rows whole or not at all, keyed by everything that decides them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hseval.core.cubes import FIELD
from hseval.data.content_hash import stamp
from hseval.pipeline.extract import describe
from hseval.pipeline.open import open_set
from hseval.pipeline.worker import Chosen, Plan
from hseval.utils.feature_cache import Cache, default_path
from tests.helpers.commands import Outcome
from tests.helpers.sets import saved, texture_set

SOON = 0.3  # seconds
CHOSEN = (Chosen("values"),)


def plan(**changes: object) -> Plan:
    given = {"extractors": CHOSEN, "structures": (FIELD,), "wavelengths": np.linspace(450, 905, 6), **changes}
    return Plan(**given)  # type: ignore[arg-type]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    columns = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}
    with Cache(tmp_path / "rows.sqlite") as cache:
        cache.store_rows({"key": columns})
        found = cache.rows(["key", "other"])
    assert list(found) == ["key"]
    assert all((found["key"][name] == column).all() for name, column in columns.items())


def test_a_second_pass_computes_nothing(tmp_path: Path) -> None:
    cubes = texture_set(6)
    with Cache(tmp_path / "rows.sqlite") as cache:
        first = describe(cubes, plan(), cache=cache)
        path = saved(tmp_path / "set.h5", cubes)
        age(path)
        describe(open_set(path), plan(), cache=cache)
        second = describe(open_set(path), plan(), cache=cache)
    assert first.computed == 6
    assert second.computed == 0
    assert (first.rows["values/quantiles"] == second.rows["values/quantiles"]).all()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust a file's clock a little sooner than users have to."""
    monkeypatch.setattr("hseval.data.content_hash.RACY_SECONDS", SOON)


def age(path: Path) -> None:
    """Wait until a file's clock is trusted."""
    time.sleep(max(0.0, SOON - (time.time() - path.stat().st_ctime)) + 0.05)


@pytest.mark.parametrize(
    "other",
    [
        plan(extractors=(Chosen("values"), Chosen("spectra"))),
        plan(wavelengths=np.linspace(451, 906, 6)),
        plan(field=np.ones((1, 1), dtype=bool)),
    ],
    ids=["extractor", "wavelengths", "field"],
)
def test_another_extractor_wavelength_or_field_is_another_row(tmp_path: Path, other: Plan) -> None:
    cubes = texture_set(3)
    path = saved(tmp_path / "set.h5", cubes)
    age(path)
    with Cache(tmp_path / "rows.sqlite") as cache:
        describe(open_set(path), plan(), cache=cache)
        assert describe(open_set(path), other, cache=cache).computed == 3


def test_another_option_is_another_row_and_a_default_typed_out_is_not(tmp_path: Path) -> None:
    cubes = texture_set(3)
    path = saved(tmp_path / "set.h5", cubes)
    age(path)
    computed = []
    with Cache(tmp_path / "rows.sqlite") as cache:
        for options in ({}, {"levels": "256"}, {"levels": "64"}):
            found = describe(open_set(path), plan(extractors=(Chosen("spectra", options),)), cache=cache)
            computed.append(found.computed)
    assert computed == [3, 0, 3]


def test_changed_masks_or_pixels_are_seen_even_with_size_and_mtime_kept(tmp_path: Path) -> None:
    cubes = texture_set(3)
    path = saved(tmp_path / "set.h5", cubes)
    age(path)
    clock = path.stat()
    with Cache(tmp_path / "rows.sqlite") as cache:
        before = describe(open_set(path), plan(), cache=cache)
        saved(path, cubes, cubes=cubes.cubes * 1.5)
        os.utime(path, ns=(clock.st_atime_ns, clock.st_mtime_ns))
        assert path.stat().st_size == clock.st_size
        after = describe(open_set(path), plan(), cache=cache)
    assert after.computed == 3
    assert not np.isin(after.rows.hashes, before.rows.hashes).any()


def test_a_file_that_just_changed_has_no_stamp(tmp_path: Path) -> None:
    cubes = texture_set(1)
    path = saved(tmp_path / "set.h5", cubes)
    assert stamp(open_set(path), 0) is None
    age(path)
    assert stamp(open_set(path), 0) is not None


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    import sqlite3

    cubes = texture_set(3)
    database = tmp_path / "rows.sqlite"
    with Cache(database) as cache:
        first = describe(cubes, plan(), cache=cache)
    with sqlite3.connect(database) as connection:
        connection.execute("update rows set columns = substr(columns, 1, length(columns) / 2)")
    with Cache(database) as cache:
        again = describe(cubes, plan(), cache=cache)
    assert (first.rows["values/quantiles"] == again.rows["values/quantiles"]).all()


def test_a_cache_that_is_no_database_is_told_and_does_not_stop_work(tmp_path: Path) -> None:
    (tmp_path / "rows.sqlite").write_bytes(b"no database at all" * 100)
    with Cache(tmp_path / "rows.sqlite") as cache:
        found = describe(texture_set(3), plan(), cache=cache)
        assert cache.trouble is not None
        assert "rows.sqlite" in cache.trouble
    assert len(found.rows) == 3


WRITER = """
import sys, numpy as np
from hseval.utils.feature_cache import Cache
from pathlib import Path
with Cache(Path(sys.argv[1])) as cache:
    for i in range(10**6):
        cache.store_rows({f"{i}": {"a": np.full(5000, i, dtype=np.float32)}})
        print(i, flush=True)
"""


def test_kill_9_leaves_only_whole_rows(tmp_path: Path) -> None:
    database = tmp_path / "rows.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(database)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    while last < 30:
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Cache(database) as cache:
        found = cache.rows([str(i) for i in range(last + 1)])
    assert len(found) == last + 1
    assert all((found[str(i)]["a"] == i).all() for i in range(last + 1))


def test_the_cache_command_tells_and_clears(hseval: Callable[..., Outcome], own_cache: Path) -> None:
    with Cache(default_path()) as cache:
        describe(texture_set(3), plan(), cache=cache)
    told = hseval("cache", "info")
    assert str(own_cache) in told.out
    assert " 6 rows" in told.out  # one a cube by the extractor, one by the core
    assert hseval("cache", "clear").status == 0
    assert " 0 rows" in hseval("cache", "info").out


def test_a_partly_cached_set_gives_the_same_columns_as_a_fresh_one(tmp_path: Path) -> None:
    cubes = texture_set(6)
    with Cache(tmp_path / "rows.sqlite") as cache:
        describe(cubes.subset([0, 2, 4]), plan(), cache=cache)
        mixed = describe(cubes, plan(), cache=cache).rows
    with Cache(None) as none:
        fresh = describe(cubes, plan(), cache=none).rows
    assert {name: column.shape for name, column in mixed.columns.items()} == {
        name: column.shape for name, column in fresh.columns.items()
    }
    assert all((mixed[name] == fresh[name]).all() for name in fresh.columns)


@pytest.mark.parametrize(("extractor", "computed"), [("spectra", 3), ("values", 0)])
def test_another_structure_is_another_row_for_extractors_that_read_structures(
    tmp_path: Path, extractor: str, computed: int
) -> None:
    cubes = texture_set(3)
    chosen = (Chosen(extractor),)
    path = saved(tmp_path / "set.h5", cubes)
    age(path)
    with Cache(tmp_path / "rows.sqlite") as cache:
        describe(open_set(path), plan(extractors=chosen), cache=cache)
        other = plan(extractors=chosen, structures=("bright", FIELD))
        assert describe(open_set(path), other, cache=cache).computed == computed
