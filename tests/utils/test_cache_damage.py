"""A damaged, locked or unusable feature cache: the right numbers all the same, and one note."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hseval
from hseval import Report, load_report
from hseval.core.cubes import FOV
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils import feature_cache
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from tests.helpers.commands import Outcome
from tests.helpers.sets import make_texture_set, save_set

PLAN = ExtractionPlan((ExtractorSpec("values"),), (FOV,), np.linspace(450, 905, 6))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return samples and reference, old enough for their times to be trusted."""
    folder = tmp_path_factory.mktemp("sets")
    paths = {name: save_set(folder / f"{name}.h5", make_texture_set(8, seed=i)) for i, name in enumerate("sr")}
    time.sleep(2.1)
    return paths


@pytest.fixture(scope="module")
def undisturbed(sets: dict[str, Path]) -> Report:
    return compute_score(sets, cache=False)


def compute_score(sets: dict[str, Path], **options: Any) -> Report:
    return hseval.score(sets["s"], ref=sets["r"], metrics=["fid", "ms-ssim"], **options)


@pytest.fixture
def database(sets: dict[str, Path], undisturbed: Report) -> Path:
    """Return a cache that holds all that the score needs."""
    assert get_values(compute_score(sets)) == get_values(undisturbed)
    return get_cache_path()


@contextlib.contextmanager
def open_database(database: Path) -> Iterator[sqlite3.Connection]:
    """Open the database to change it."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        yield connection


def get_values(report: Report) -> list[tuple[Any, ...]]:
    return [(score.name, score.value, score.floor, score.p_value) for score in report.scores]


def get_cache_notes(report: Report) -> list[str]:
    return [note for note in report.notes if "the cache" in note]


def flip_bit(connection: sqlite3.Connection, table: str, column: str, row: int, rng: np.random.Generator) -> None:
    """Flip a bit of one value, leaving the database intact."""
    key, entry = connection.execute(f"select key, entry from {table} order by key limit 1 offset {row}").fetchone()
    damaged = bytearray({"key": key, "entry": entry}[column])
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    connection.execute(f"update {table} set {column} = ? where key = ?", (bytes(damaged), key))


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("table", ["rows", "stamps"])
def test_flipped_bits_are_noted_and_change_no_number(
    sets: dict[str, Path], undisturbed: Report, database: Path, table: str, verify: bool
) -> None:
    with open_database(database) as connection:
        for row in range(3):
            flip_bit(connection, table, "entry", row, np.random.default_rng(row))
    report = compute_score(sets, verify=verify)
    assert get_values(report) == get_values(undisturbed)
    # Nothing trusts stamps under --verify: the damaged ones are replaced unseen.
    expected = [] if (table, verify) == ("stamps", True) else ["had 3 damaged entries, computed again"]
    assert [note.partition("the cache ")[2] for note in get_cache_notes(report)] == expected
    again = compute_score(sets)
    assert get_values(again) == get_values(undisturbed) and get_cache_notes(again) == []


def test_a_damaged_entry_found_by_a_worker_process_is_noted(tmp_path: Path, database: Path) -> None:
    cubes = make_texture_set(4)
    with FeatureCache(database) as cache:
        first = extract_features(cubes, PLAN, cache=cache, workers=2)
    with open_database(database) as connection:
        connection.execute("update rows set entry = zeroblob(length(entry))")
    with FeatureCache(database) as cache:
        again = extract_features(cubes, PLAN, cache=cache, workers=2)
        assert cache.note is not None and "had 8 damaged entries" in cache.note  # two of each cube
    assert_same(first, again)


def assert_same(first: ExtractedSet, second: ExtractedSet) -> None:
    np.testing.assert_array_equal(first.features["values/quantiles"], second.features["values/quantiles"])


def exchange_keys(connection: sqlite3.Connection, table: str) -> None:
    (first,), (second,) = connection.execute(f"select key from {table} order by key limit 2").fetchall()
    for old, new in ((first, b"x"), (second, first), (b"x", second)):
        connection.execute(f"update {table} set key = ? where key = ?", (new, old))


PLANTED = {
    "integers": "update rows set entry = 7",
    "text": "update rows set entry = 'none'",
    "text in stamps": "update stamps set entry = cast(x'ff00fe' as text)",
    "halves": "update rows set entry = substr(entry, 1, length(entry) / 2)",
    "empty": "update rows set entry = x''",
    "other hashes": "update stamps set entry = (select entry from stamps limit 1)",
    "keys of another type": "update rows set key = cast(key as text)",
    "no rows": "drop table rows",
    "renamed column": "alter table rows rename column entry to columns",
    "one column more": "alter table stamps add column size integer; delete from stamps",
    "rows is a view": "drop table rows; create view rows as select key, entry from stamps",
    "rows of version 3": "drop table rows; create table rows (key text primary key, columns blob not null)",
    "refuses all": "create trigger refuse before insert on rows begin select raise(abort, 'no'); end; delete from rows",
}


@pytest.mark.parametrize("name", [*PLANTED, "exchanged rows", "exchanged stamps"])
def test_entries_of_another_form_are_computed_again(
    sets: dict[str, Path], undisturbed: Report, database: Path, name: str
) -> None:
    with open_database(database) as connection:
        if name in PLANTED:
            connection.executescript(PLANTED[name])
        else:
            exchange_keys(connection, name.split()[1])
    report = compute_score(sets)
    assert get_values(report) == get_values(undisturbed)
    assert len(get_cache_notes(report)) == (name not in {"no rows", "keys of another type"})  # found missing
    again = compute_score(sets)
    assert get_values(again) == get_values(undisturbed) and get_cache_notes(again) == []


def damage_file(file: Path, kind: str, seed: int) -> None:
    """Zero a page, flip some bits, cut the file or overwrite all of it."""
    rng, content = np.random.default_rng(seed), bytearray(file.read_bytes())
    if kind == "zeroed page":
        page = int(rng.integers(max(len(content) // 4096, 1))) * 4096
        content[page : page + 4096] = bytes(4096)
    elif kind == "flipped bits":
        for position in rng.integers(len(content), size=8):
            content[position] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[int(rng.integers(len(content))) :]
    else:
        content[:] = b"no database at all\n" * 300
    file.write_bytes(content)


@pytest.mark.parametrize("kind", ["zeroed page", "flipped bits", "cut", "text"])
def test_a_damaged_file_changes_no_number_and_is_replaced(
    sets: dict[str, Path], undisturbed: Report, database: Path, kind: str
) -> None:
    intact = database.read_bytes()
    for seed in range(3):
        database.write_bytes(intact)
        damage_file(database, kind, seed)
        report = compute_score(sets)
        assert get_values(report) == get_values(undisturbed)
        assert len(get_cache_notes(report)) <= 1
        assert all(os.linesep not in note for note in report.notes)
        again = compute_score(sets)
        assert get_values(again) == get_values(undisturbed)
    if kind == "text":
        assert get_cache_notes(again) == []


@pytest.mark.parametrize("kind", ["zeroed page", "flipped bits", "cut", "text"])
def test_a_damaged_log_of_a_killed_process_changes_no_number(tmp_path: Path, kind: str) -> None:
    cubes = make_texture_set(4)
    with FeatureCache(None) as none:
        expected = extract_features(cubes, PLAN, cache=none)
    source, copy = tmp_path / "rows.sqlite", tmp_path / "copy.sqlite"
    with FeatureCache(source) as cache:
        extract_features(cubes, PLAN, cache=cache)
        for suffix in ("", "-wal", "-shm"):  # as left by a process that is killed here
            shutil.copy(f"{source}{suffix}", f"{copy}{suffix}")
    for suffix in ("-wal", "-shm"):
        damage_file(Path(f"{copy}{suffix}"), kind, seed=1)
    with FeatureCache(copy) as cache:
        assert_same(extract_features(cubes, PLAN, cache=cache), expected)
    with FeatureCache(copy) as cache:
        extract_features(cubes, PLAN, cache=cache)
        assert cache.note is None


@pytest.mark.parametrize("kind", ["folder", "link in a circle", "file in place of its folder"])
def test_a_path_that_can_t_be_opened_is_one_note(
    sets: dict[str, Path], undisturbed: Report, isolated_cache: Path, kind: str, hseval: Callable[..., Outcome]
) -> None:
    path = get_cache_path()
    if kind == "folder":
        path.mkdir()
    elif kind == "link in a circle":
        path.symlink_to(path)
    else:
        isolated_cache.rmdir()
        isolated_cache.write_text("")
    report = compute_score(sets)
    assert get_values(report) == get_values(undisturbed)
    (note,) = get_cache_notes(report)
    assert str(path) in note and "can't be used" in note
    info = hseval("cache", "info")
    assert info.status == 0 and "can't be used" in info.out + info.err


HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma locking_mode = exclusive")
connection.execute(sys.argv[2])
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def hold_lock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], None]]:
    """Return a function that lets another process hold a database's lock until the end of the test."""
    monkeypatch.setattr(feature_cache, "LOCK_SECONDS", 1.0)
    holders = []

    def hold(database: Path, statement: str) -> None:
        command = [sys.executable, "-c", HOLDER, str(database), statement]
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert holders[0].stdout is not None and holders[0].stdout.readline() == "locked\n"

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("statement", ["begin exclusive", "begin immediate"])
def test_a_cache_that_another_process_holds_locked_costs_one_wait(
    sets: dict[str, Path],
    undisturbed: Report,
    database: Path,
    hold_lock: Callable[[Path, str], None],
    statement: str,
) -> None:
    with open_database(database) as connection:
        connection.execute("delete from rows")
    hold_lock(database, statement)
    start = time.monotonic()
    report = compute_score(sets)
    assert time.monotonic() - start < 6
    assert get_values(report) == get_values(undisturbed)
    assert ["can't be used (database is locked)" in note for note in get_cache_notes(report)] == [True]


NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
static int intercept(const char *name, int fd, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW || command == F_GETLK) { errno = LOCK_ERROR; return -1; }
    return ((int (*)(int, int, ...))dlsym(RTLD_NEXT, name))(fd, command, argument);
}
#define WRAP(name) int name(int fd, int command, ...) { va_list list; va_start(list, command); \\
    void *argument = va_arg(list, void *); va_end(list); return intercept(#name, fd, command, argument); }
WRAP(fcntl)
WRAP(fcntl64)
"""
SCORE = """
import sys, hseval
from hseval.utils import feature_cache
feature_cache.LOCK_SECONDS = 0.5
print(hseval.score(sys.argv[1], ref=sys.argv[2], metrics=["fid"]).to_json())
"""


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_one_note(
    sets: dict[str, Path], undisturbed: Report, tmp_path: Path, error: str
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    (tmp_path / "locks.c").write_text(NO_LOCKS)
    library = tmp_path / "locks.so"
    build = ["cc", "-shared", "-fPIC", f"-DLOCK_ERROR={error}", "-o", library, tmp_path / "locks.c", "-ldl"]
    subprocess.run(build, check=True)
    done = subprocess.run(
        [sys.executable, "-c", SCORE, sets["s"], sets["r"]],
        env={**os.environ, "LD_PRELOAD": str(library), "HDF5_USE_FILE_LOCKING": "FALSE"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "report.json").write_text(done.stdout)
    report = load_report(tmp_path / "report.json")
    assert get_values(report) == get_values(undisturbed)[:1]
    assert len(get_cache_notes(report)) == 1


def test_a_full_disk_is_one_note(sets: dict[str, Path], undisturbed: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def connect_small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("pragma max_page_count = 8")  # SQLite then reports a full disk
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_small)
    report = compute_score(sets)
    assert get_values(report) == get_values(undisturbed)
    assert ["database or disk is full" in note for note in get_cache_notes(report)] == [True]


@pytest.mark.parametrize(
    ("mounts", "journal"),
    [
        ("1 0 8:1 / / rw - ext4 /dev/sda rw", "wal"),
        ("1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {folder} rw shared:1 - nfs4 server:/home rw", "delete"),
        ("1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {folder} rw - fuse.sshfs server:/home rw", "delete"),
        ("1 0 0:9 / / rw - lustre server:/ rw\n2 1 8:1 / {folder} rw - xfs /dev/sda rw", "wal"),
        ("1 0 8:1 / {folder} rw - ext4 /dev/sda rw\n2 1 0:9 / {folder} rw - nfs server:/home rw", "delete"),
        ("", "delete"),
    ],
)
def test_the_write_ahead_log_is_for_local_disks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, journal: str
) -> None:
    folder = tmp_path / "my home"
    read_text = Path.read_text
    listed = mounts.format(folder=str(folder).replace(" ", "\\040"))

    def read_mounts(path: Path, *arguments: Any, **options: Any) -> str:
        return listed if str(path) == "/proc/self/mountinfo" else read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_mounts)
    with FeatureCache(folder / "rows.sqlite") as cache:
        cache.store_features({"key": {"a": np.arange(3)}})
        assert cache.note is None
        with sqlite3.connect(folder / "rows.sqlite") as connection:
            # Another connection sees any rollback journal as "delete".
            assert connection.execute("pragma journal_mode").fetchone() == (journal,)


@pytest.mark.parametrize("is_local", [True, False], ids=["wal", "truncate"])
def test_of_two_scores_on_one_cache_one_is_killed_and_the_other_is_right(
    sets: dict[str, Path], undisturbed: Report, tmp_path: Path, is_local: bool
) -> None:
    setup = "" if is_local else "import hseval.utils.feature_cache as c; c.LOCAL_FILE_SYSTEMS = set(); "
    run = "from hseval.cli.main import main; main()"
    many = save_set(tmp_path / "many.h5", make_texture_set(400, size=32, bands=6, seed=0))
    sizes = {"killed": (many, "fid"), "other": (sets["s"], "fid,ms-ssim")}
    processes = {}
    for name, (samples, metrics) in sizes.items():
        command = ["hseval", "score", str(samples), "--ref", str(sets["r"]), "--metrics", metrics, "--workers", "0",
                   "--json", str(tmp_path / f"{name}.json")]  # fmt: skip
        code = f"import sys; sys.argv = {command!r}; {setup}{run}"
        processes[name] = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    while count_rows() < 60:
        assert processes["killed"].poll() is None
        time.sleep(0.005)
    processes["killed"].send_signal(signal.SIGKILL)
    assert processes["other"].wait(timeout=60) == 0 and processes["killed"].wait() == -signal.SIGKILL
    report = load_report(tmp_path / "other.json")
    assert get_values(report) == get_values(undisturbed) and get_cache_notes(report) == []
    again = compute_score(sets)
    assert get_values(again) == get_values(undisturbed) and get_cache_notes(again) == []


def count_rows() -> int:
    try:
        with sqlite3.connect(f"file:{get_cache_path()}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from rows").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_clear_removes_caches_of_other_versions_too(hseval: Callable[..., Outcome], isolated_cache: Path) -> None:
    (isolated_cache / "rows-3.sqlite").write_bytes(bytes(2_000_000))
    with FeatureCache(get_cache_path()):
        pass
    assert "freed 2.0 MB" in hseval("cache", "clear").out
    assert list(isolated_cache.iterdir()) == []
