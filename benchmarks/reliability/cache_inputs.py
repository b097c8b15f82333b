"""Damaged records of work that is done: the cache of features and of outcomes, and the chunks of a sampling.

What is resumed or taken from them must give the numbers of an undisturbed run, to the last digit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.reliability.attempts import Attempt, assess, run_in_process
from hseval.data.content_hash import RACY_SECONDS
from tests.helpers.mutations import Rng, mutate_bytes, mutate_json
from tests.helpers.sets import make_texture_set, save_set

PAGE = 4096  # bytes of a page of SQLite
VALUES = (None, "text", 7, -1, 1.5, b"", b"\x00" * 64, "x" * 100_000, float("inf"))
STATEMENTS = (
    "drop table {table}", "alter table {table} rename to old", "alter table {table} rename column {column} to other",
    "delete from {table}", "create trigger t before insert on {table} begin select raise(abort, 'no'); end",
    "pragma user_version = 99", "alter table {table} add column more text not null default 'x'",
    "update {table} set {column} = (select {column} from {table} order by random() limit 1)",
    "drop table {table}; create table {table} (key text)", "drop table {table}; create view {table} as select 1",
)  # fmt: skip


SWEEP = """
samples = 8
[data]
train = "train.h5"
ref = "ref.h5"
[score]
metrics = ["spectral-kl"]
segmenter = "none"
[timing]
cubes = 1
repeats = 1
[plot]
y = []
[[generator]]
name = "pca"
[generator.grid]
components = [2, 4, 6]
"""


@dataclasses.dataclass(frozen=True)
class StoredWork:
    """A command, the folder with what it stored, and its right result."""

    command: tuple[str, ...]
    folder: Path
    right: Any


def make_cache(folder: Path) -> StoredWork:
    """Score a set twice, without the cache and with it, and return the command with its scores."""
    for name, seed in (("samples", 0), ("real", 1)):
        save_set(folder / f"{name}.h5", make_texture_set(8, size=16, bands=4, seed=seed))
    sets = (str(folder / "samples.h5"), "--ref", str(folder / "real.h5"))
    options = ("--metrics", "fid,spectral-kl", "--extractor", "statistics", "--segmenter", "none")
    return _store_work(("score", *sets, *options, "-q", "--json", "-"), folder)


def make_outcomes(folder: Path) -> StoredWork:
    """Qualify a metric twice, without the cache and with it, and return the command with its curves."""
    real = save_set(folder / "real.h5", make_texture_set(16, size=16, bands=4))
    options = ("--metrics", "spectral-kl", "--degradations", "blur,gain", "--workers", "0")
    return _store_work(("qualify", str(real), *options, "-q", "--json", "-"), folder)


def _store_work(command: tuple[str, ...], folder: Path) -> StoredWork:
    time.sleep(RACY_SECONDS + 0.1)  # a younger file has no stamp
    cache = folder / "cache"
    right = run_in_process(*command, "--no-cache")
    stored = run_in_process(*command, variables={"HSEVAL_CACHE": str(cache)})
    assert read_result(right.out) == read_result(stored.out), (right, stored)
    return StoredWork(command, cache, read_result(right.out))


def read_result(text: str) -> Any:
    """Return a JSON report without its provenance and notes, which may differ between two runs."""
    report = json.loads(text)
    return {name: part for name, part in report.items() if name not in ("provenance", "notes")}


def attempt_cache(work: StoredWork, folder: Path, rng: Rng) -> Attempt:
    """Damage the cache, run the command twice with it, and compare both results with the right one."""
    cache = folder / "cache"
    shutil.copytree(work.folder, cache)
    damage = damage_database(next(cache.glob("*.sqlite")), rng)
    outcomes = [run_in_process(*work.command, variables={"HSEVAL_CACHE": str(cache)}) for _ in range(2)]
    wrong = ""
    for outcome in outcomes:
        if outcome.status == 0 and read_result(outcome.out) != work.right:
            wrong = "another result than without the cache;"
        elif outcome.status != 0:
            wrong = "a damaged cache stopped the command;"
    outcomes = [dataclasses.replace(outcome, out="") for outcome in outcomes]
    shutil.rmtree(cache, ignore_errors=True)
    return assess(f"{damage}: {' '.join(work.command)}", outcomes, folder, wrong)


def damage_database(path: Path, rng: Rng) -> str:
    """Damage an SQLite file, as bytes, as a database or as a file, and return how."""
    damages: tuple[Callable[[Path, Rng], str], ...] = (
        _damage_bytes, _damage_pages, _damage_cells, _damage_cells, _damage_cells, _damage_schema, _replace_file,
    )  # fmt: skip
    return damages[int(rng.integers(len(damages)))](path, rng)


def _damage_bytes(path: Path, rng: Rng) -> str:
    path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    return "bytes"


def _damage_pages(path: Path, rng: Rng) -> str:
    data = bytearray(path.read_bytes())
    first, second = (PAGE * int(rng.integers(len(data) // PAGE)) for _ in range(2))
    page = bytes(PAGE) if rng.random() < 0.5 else data[second : second + PAGE]
    data[first : first + PAGE] = page
    path.write_bytes(data)
    return f"page {first // PAGE}"


def _damage_cells(path: Path, rng: Rng) -> str:
    """Change values of the database, so that the file is a valid one."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        table, columns = _choose_table(database, rng)
        column = str(rng.choice(columns))
        rows = database.execute(f"select {columns[0]}, {column} from {table} order by 1").fetchall()
        damage = str(rng.choice(["flip", "flip", "flip all", "value", "swap"]))
        chosen = rows if damage == "flip all" else [rows[int(rng.integers(len(rows)))]]
        value = VALUES[int(rng.integers(len(VALUES)))]
        other = rows[int(rng.integers(len(rows)))][1]
        for key, cell in chosen:
            new = {"value": value, "swap": other}.get(damage, _flip_bit(cell, rng))
            with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):  # not null, or a key that exists
                database.execute(f"update {table} set {column} = ? where {columns[0]} = ?", (new, key))
    return f"{damage} {table}.{column}"


def _flip_bit(cell: Any, rng: Rng) -> Any:
    if isinstance(cell, bytes) and cell:
        data = bytearray(cell)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        return bytes(data)
    if isinstance(cell, str) and cell:
        index = int(rng.integers(len(cell)))
        return cell[:index] + ("0" if cell[index] != "0" else "1") + cell[index + 1 :]
    return 7


def _damage_schema(path: Path, rng: Rng) -> str:
    statement = STATEMENTS[int(rng.integers(len(STATEMENTS)))]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        table, columns = _choose_table(database, rng)
        statement = statement.format(table=table, column=rng.choice(columns))
        with contextlib.suppress(sqlite3.Error):
            database.executescript(statement)
    return statement


def _choose_table(database: sqlite3.Connection, rng: Rng) -> tuple[str, list[str]]:
    """Return a table that is not empty, and its columns."""
    names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table' order by name")]
    full = [name for name in names if database.execute(f"select count(*) from {name}").fetchone()[0]]
    table = str(rng.choice(full))
    return table, [row[1] for row in database.execute(f"pragma table_info({table})")]


def _replace_file(path: Path, rng: Rng) -> str:
    data = path.read_bytes()
    wal = path.with_name(f"{path.name}-wal")
    damages = ["folder", "text", "empty", "dangling link", "log of garbage", "log of another", "journal"]
    damage = str(rng.choice(damages))
    if damage == "log of garbage":
        wal.write_bytes(rng.bytes(10_000))
    elif damage == "log of another":
        wal.write_bytes(b"\x37\x7f\x06\x82" + data[:20_000])
    elif damage == "journal":
        path.with_name(f"{path.name}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + rng.bytes(9000))
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
        elif damage == "dangling link":
            path.symlink_to(path.parent / "nowhere" / "rows")
        else:
            path.write_bytes(b"" if damage == "empty" else b"not a database\n" * 500)
    return damage


def make_parts(folder: Path) -> StoredWork:
    """Sample a set, stop after some chunks, and return the command with the right set's content."""
    import hseval.sampling.chunks

    hseval.sampling.chunks.CHUNK_SECONDS = 0.0  # a chunk a cube
    real = save_set(folder / "real.h5", make_texture_set(8, size=16, bands=4))
    train = run_in_process("train", "pca", str(real), "--out", str(folder / "pca"), "-q")
    assert train.status == 0, train
    command = ("sample", "pca", "--checkpoint", str(folder / "pca"), "-n", "4", "-q", "--out")
    right = folder / "right.h5"
    assert run_in_process(*command, str(right)).status == 0
    parts = folder / "parts"
    _interrupt_sampling(command, folder / "set.h5", parts)
    return StoredWork(command, parts, read_set(right))


def _interrupt_sampling(command: tuple[str, ...], out: Path, parts: Path) -> None:
    """Sample into ``out``, and keep what is stored just before the chunks are joined."""
    from hseval.sampling.chunks import ChunkStore

    join = ChunkStore.join

    def stop(store: Any, *_: Any) -> None:
        shutil.copytree(store.folder, parts)
        raise KeyboardInterrupt

    ChunkStore.join = stop  # type: ignore[method-assign, assignment]
    outcome = run_in_process(*command, str(out))
    ChunkStore.join = join  # type: ignore[method-assign]
    assert outcome.status == 130, outcome


def attempt_parts(work: StoredWork, folder: Path, rng: Rng) -> Attempt:
    """Damage a chunk or the list of chunks, resume the sampling, and compare the set with the right one."""
    out = folder / "set.h5"
    parts = folder / ".set.h5.parts"
    shutil.copytree(work.folder, parts)
    files = sorted(path for path in parts.iterdir() if path.suffix in (".h5", ".json"))
    chosen = files[int(rng.integers(len(files)))] if rng.random() < 0.5 else parts / "parts.json"
    if chosen.suffix == ".json" and rng.random() < 0.7:
        chosen.write_bytes(mutate_json(json.loads(chosen.read_text()), rng))
    else:
        chosen.write_bytes(mutate_bytes(chosen.read_bytes(), rng))
    outcomes = [run_in_process(*work.command, str(out))]
    if outcomes[0].status == 2:  # a list that can't be read: the message says that --force starts over
        shutil.copytree(parts, parts.with_name("copy"), dirs_exist_ok=True)
        again = run_in_process(*work.command, str(out), "--force")
        shutil.rmtree(parts.with_name("copy"))
        outcomes = [again] if again.status else outcomes
    wrong = "" if out.exists() and read_set(out) == work.right else "another set than the undisturbed one;"
    out.unlink(missing_ok=True)
    shutil.rmtree(parts, ignore_errors=True)
    outcomes = [dataclasses.replace(outcomes[-1], out="", err=outcomes[-1].err if outcomes[-1].status else "")]
    return assess(f"{chosen.name}: {' '.join(work.command)}", outcomes, folder, wrong)


def make_sweep(folder: Path) -> StoredWork:
    """Run a sweep of two configurations, and return the command with its right scores."""
    for name, seed in (("train", 1), ("ref", 2)):
        save_set(folder / f"{name}.h5", make_texture_set(8, size=16, bands=3, seed=seed))
    (folder / "plan.toml").write_text(SWEEP)
    command = ("sweep", str(folder / "plan.toml"), "-q", "--out")
    out = folder / "out"
    outcome = run_in_process(*command, str(out), variables={"HSEVAL_CACHE": str(folder / "cache")})
    assert outcome.status == 0, outcome
    return StoredWork(command, out, read_sweep(out))


def attempt_sweep(work: StoredWork, folder: Path, rng: Rng) -> Attempt:
    """Damage a record or a set of a finished sweep, run it again, and compare the scores with the right ones."""
    out = folder / "out"
    shutil.copytree(work.folder, out)
    files = sorted(path for path in out.rglob("*") if path.suffix in (".json", ".h5", ".safetensors", ".log"))
    path = files[int(rng.integers(len(files)))]
    is_json = path.suffix == ".json" and rng.random() < 0.7
    data = path.read_bytes()
    path.write_bytes(mutate_json(json.loads(data), rng) if is_json else mutate_bytes(data, rng))
    outcome = run_in_process(*work.command, str(out), "--retry")
    # Scores that were changed in a stored report are scores like any other: nothing says what they were.
    is_right = path.name == "report.json" or outcome.status == 2 or read_sweep(out) == work.right
    shutil.rmtree(out, ignore_errors=True)
    wrong = "" if is_right else "other scores than those of the undisturbed sweep;"
    outcome = dataclasses.replace(outcome, out="") if outcome.status == 0 else outcome
    return assess(f"{path.relative_to(out)}: {' '.join(work.command)}", [outcome], folder, wrong)


def read_sweep(out: Path) -> Any:
    """Return the scores of a sweep by run."""
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))["rows"]
    return [(row["label"], {name: score["value"] for name, score in (row["scores"] or {}).items()}) for row in rows]


def read_set(path: Path) -> dict[str, Any]:
    """Return the arrays of a set in hseval's HDF5 format as lists, by name."""
    import h5py

    with h5py.File(path) as file:
        masks = {f"masks/{name}": mask[()].tolist() for name, mask in file["masks"].items()}
        return {**masks, **{name: file[name][()].tolist() for name in ("cubes", "ids", "wavelengths")}}
