"""An interrupted ``hseval sample`` resumes, and ends with the same file as an uninterrupted one."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest

import hseval.sampling.chunks
from hseval import HsevalError, Sample, hookimpl, open_set, option
from hseval.core.plugin_manager import get_plugins
from hseval.sampling.chunks import open_chunks
from hseval.sampling.manifest import list_differences
from hseval.utils.random_streams import create_rng
from hseval.utils.signals import defer_signals
from tests.helpers.commands import Command, Outcome, assert_refused, limit_file_size

METADATA: dict[str, Any] = {
    "wavelengths": np.array([500.0, 600.0]),
    "units": None,
    "provenance": {"generator": "steps"},
}


def make_sample(index: int, seed: int = 0, level: float = 1.0) -> Sample:
    rng = create_rng(seed, "steps", index)
    cube = np.float32(level) * rng.standard_normal((2, 8, 8), dtype=np.float32)
    cube[0, 0, 0] = np.nan
    mask = (2 * rng.integers(0, 2, (8, 8))).astype(np.uint8)  # must be stored unchanged
    return Sample(cube, {"fov": np.ones((8, 8), dtype=bool), "eye/vein": mask}, f"ä-{seed}-{index}")


class StepsGenerator:
    """A third-party generator that records the indices it samples, and fails at given ones."""

    name, version, units, summary = "steps", "1", "reflectance", "noise"
    wavelengths = np.array([500.0, 600.0])
    errors: ClassVar[dict[int, BaseException]] = {}
    sampled: ClassVar[list[int]] = []

    @dataclasses.dataclass(frozen=True)
    class Options:
        level: float = option(1.0, "factor")

    def __init__(self, options: Options) -> None:
        self.options = options

    def load(self, path: Path | None) -> None:
        pass

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        for index in range(start, n):
            if index in self.errors:
                raise self.errors[index]
            self.sampled.append(index)
            yield make_sample(index, seed, self.options.level)


class StepsPlugin:
    @hookimpl
    def hseval_generators(self) -> list[type]:
        return [StepsGenerator]


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the generator; each cube is a chunk."""
    registry = get_plugins()
    registry.register(StepsPlugin(), name="hseval-steps:steps", distribution="hseval-steps")
    monkeypatch.setattr(StepsGenerator, "errors", {})
    monkeypatch.setattr(StepsGenerator, "sampled", [])
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", 0.0)
    yield
    registry.manager.unregister(name="hseval-steps:steps")
    registry._registrations.clear()


class SampleCommand:
    """``hseval sample steps`` into one file, interrupted and resumed."""

    def __init__(self, folder: Path, hseval: Command) -> None:
        self.out, self.hseval = folder / "generated.h5", hseval
        self.chunk_folder = folder / ".generated.h5.parts"

    def __call__(self, *arguments: Any, n: int = 6, out: Path | None = None) -> Outcome:
        StepsGenerator.sampled.clear()
        return self.hseval("sample", "steps", "-n", n, "--out", out or self.out, *arguments)

    def interrupt(self, at: int, *arguments: Any) -> Outcome:
        StepsGenerator.errors[at] = KeyboardInterrupt()
        outcome = self(*arguments)
        StepsGenerator.errors.clear()
        return outcome

    def assert_complete(self, *arguments: Any, n: int = 6) -> None:
        """Compare the file with that of an uninterrupted command; no chunks may be left."""
        assert not self.chunk_folder.exists()
        fresh = self.out.with_name("fresh.h5")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
            assert self(*arguments, n=n, out=fresh).status == 0
        assert read_contents(self.out) == read_contents(fresh)


@pytest.fixture
def run(tmp_path: Path, hseval: Command) -> SampleCommand:
    return SampleCommand(tmp_path, hseval)


def read_contents(path: Path) -> dict[str, Any]:
    """Return the content of a file: attributes, and datasets with their bytes, types and chunks."""
    with h5py.File(path) as file:
        contents: dict[str, Any] = {f"@{name}": value for name, value in file.attrs.items()}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item.asstr()[()] if item.dtype.hasobject else item[()]
                plain = np.asarray(values).tolist() if item.dtype.hasobject else values.tobytes()
                contents[name] = (item.shape, item.maxshape, str(item.dtype), item.chunks, plain)

        file.visititems(visit)
    return contents


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_after_ctrl_c_the_same_command_resumes(run: SampleCommand) -> None:
    outcome = run.interrupt(4)
    assert (outcome.status, outcome.out) == (130, "")
    assert outcome.err == "hseval: stopped after 4 cubes; the same command resumes from there\n"
    assert not run.out.exists() and len(list(run.chunk_folder.glob("*.h5"))) == 4
    outcome = run.interrupt(5)
    assert outcome.err.splitlines()[0] == f"{run.out}: resuming after 4 cubes (in {run.chunk_folder})"
    outcome = run()
    assert (outcome.status, StepsGenerator.sampled) == (0, [5]), outcome
    assert outcome.err.startswith(f"{run.out}: resuming after 5 cubes")
    run.assert_complete()


def test_a_chunk_that_is_not_full_is_stored_as_well(run: SampleCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
    run.interrupt(4)
    assert [path.name for path in run.chunk_folder.glob("*.h5")] == ["000000.h5"]
    assert run().status == 0
    assert StepsGenerator.sampled == [4, 5]
    run.assert_complete()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HsevalError("six sides, please"), "hseval: six sides, please; stored: 3 cubes; the same"),
        (ValueError("no six"), "hseval: generator 'steps' of hseval-steps: ValueError: no six; stored: 3 cubes;"),
        (MemoryError("32 GiB"), "hseval: stopped after 3 cubes; the same command resumes from there\nhseval: out of"),
    ],
)
def test_after_an_error_the_sampled_cubes_are_stored(run: SampleCommand, error: BaseException, message: str) -> None:
    StepsGenerator.errors[3] = error
    outcome = run()
    assert outcome.status == 2
    assert outcome.err.startswith(message)
    assert not run.out.exists()
    StepsGenerator.errors.clear()
    assert run().status == 0
    assert StepsGenerator.sampled == [3, 4, 5]
    run.assert_complete()


def test_no_file_is_left_if_no_cube_was_sampled(run: SampleCommand, tmp_path: Path) -> None:
    outcome = run.interrupt(0)
    assert (outcome.status, outcome.err.strip()) == (130, "hseval: interrupted: no partial file was left behind")
    assert list_names(tmp_path) == []


def test_a_set_of_one_chunk_is_written_once(tmp_path: Path) -> None:
    with open_chunks(tmp_path / "generated.h5", {}, METADATA) as chunks:
        chunks.write_samples(map(make_sample, range(1)), lambda _: None)
        inode = (chunks.folder / "000000.h5").stat().st_ino
        chunks.join(1, lambda _: None)
    assert (tmp_path / "generated.h5").stat().st_ino == inode
    assert list_names(tmp_path) == ["generated.h5"]


def test_cubes_without_an_id_are_numbered(tmp_path: Path) -> None:
    nameless = [make_sample(index)._replace(id=None) for index in range(4)]
    for samples in (nameless[:3], nameless[3:]):
        with open_chunks(tmp_path / "generated.h5", {}, METADATA) as chunks:
            chunks.resume(force=False)
            chunks.write_samples(iter(samples), lambda _: None)
            if chunks.count == 4:
                chunks.join(4, lambda _: None)
    assert open_set(tmp_path / "generated.h5").ids == ("000000", "000001", "000002", "000003")


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_a_resumed_command_may_have_another_count(run: SampleCommand, n: int) -> None:
    run.interrupt(4)
    outcome = run(n=n)
    assert (outcome.status, StepsGenerator.sampled) == (0, list(range(4, n)))
    assert f"resuming after {min(n, 4)} cubes" in outcome.err
    run.assert_complete(n=n)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "level=2"), "4 cubes sampled with options.level 1.0, not 2.0;"),
        (("--seed", "7"), "seed 0, not 7"),
        (("--set", "level=2", "--seed", "7"), "options.level 1.0, not 2.0, seed 0, not 7"),
    ],
)
def test_chunks_of_other_options_are_refused_and_force_starts_over(
    run: SampleCommand, options: Any, message: str
) -> None:
    run.interrupt(4)
    before = {path.name: path.read_bytes() for path in run.chunk_folder.iterdir()}
    assert_refused(run(*options), str(run.chunk_folder), message, "--force")
    assert StepsGenerator.sampled == []
    assert {path.name: path.read_bytes() for path in run.chunk_folder.iterdir()} == before
    outcome = run(*options, "--force")
    assert (outcome.status, outcome.err, StepsGenerator.sampled) == (0, "", [0, 1, 2, 3, 4, 5])
    run.assert_complete(*options)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("version", "2", 'generator_version "1", not "2"'),
        ("units", "counts", 'units "reflectance", not "counts"'),
        ("wavelengths", np.array([500.0, 601.0]), "wavelengths [500.0, 600.0], not [500.0, 601.0]"),
    ],
)
def test_another_generator_of_the_same_name_is_refused(
    run: SampleCommand, monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, message: str
) -> None:
    run.interrupt(4)
    monkeypatch.setattr(StepsGenerator, attribute, value)
    assert_refused(run(), message)


def test_another_generator_is_refused(run: SampleCommand, hseval: Command) -> None:
    run.interrupt(4)
    assert_refused(hseval("sample", "phantom", "-n", 6, "--out", run.out), 'generator "steps", not "phantom"')


def test_other_weights_are_refused_but_a_log_may_grow(run: SampleCommand, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "best").mkdir(parents=True)
    for file in ("best/weights.safetensors", "config.json", "metrics.jsonl"):
        (model / file).write_text("1")
    run.interrupt(2, "--checkpoint", model)
    (model / "metrics.jsonl").write_text("12")
    assert "resuming after 2" in run.interrupt(4, "--checkpoint", model).err
    (model / "best" / "weights.safetensors").write_text("2")
    assert_refused(run("--checkpoint", model), "another checkpoint.best/weights.safetensors")
    (model / "best" / "weights.safetensors").write_text("1")
    moved = model.rename(tmp_path / "moved")
    assert run("--checkpoint", moved).status == 0
    run.assert_complete("--checkpoint", moved)


def test_force_resumes_too_and_an_existing_set_requires_it(run: SampleCommand) -> None:
    run.out.write_bytes(b"old")
    assert_refused(run.interrupt(4), "exists already")
    assert "stopped after 4 cubes" in run.interrupt(4, "--force").err
    assert_refused(run(), "exists already")
    assert run.out.read_bytes() == b"old"
    assert run("--force").status == 0
    assert StepsGenerator.sampled == [4, 5]
    run.assert_complete()


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip_bit, Path.unlink, lambda path: os.truncate(path, 1000)])
@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_chunk_and_those_after_it_are_sampled_again(run: SampleCommand, damage: Any, number: int) -> None:
    run.interrupt(4)
    damage(run.chunk_folder / f"{number:06d}.h5")
    outcome = run()
    assert (outcome.status, StepsGenerator.sampled) == (0, list(range(number, 6)))
    assert outcome.err.splitlines()[0].startswith(
        f"{run.chunk_folder / f'{number:06d}.h5'}: damaged or missing; sampling again"
    )
    run.assert_complete()


@pytest.mark.parametrize("count", [0, 2, 100])
def test_a_chunk_with_another_number_of_cubes_than_listed_is_sampled_again(run: SampleCommand, count: int) -> None:
    run.interrupt(4)
    manifest = run.chunk_folder / "parts.json"
    manifest.write_text(manifest.read_text().replace('"cubes": 1', f'"cubes": {count}'))
    assert run().status == 0 and StepsGenerator.sampled == list(range(6))
    run.assert_complete()


@pytest.mark.parametrize("stored", [0, 3])
def test_cubes_that_the_disk_has_no_space_for_are_refused_after_the_first(run: SampleCommand, stored: int) -> None:
    if stored:
        run.interrupt(stored)
    outcome = run(n=10**15)
    assert StepsGenerator.sampled == [stored]
    assert outcome.status == 2
    last_line = outcome.err.splitlines()[-1]
    assert f"{run.out}: needs " in last_line and f" GB, but {run.out.parent} has " in last_line
    assert run.chunk_folder.exists() == bool(stored)
    assert run().status == 0 and StepsGenerator.sampled == list(range(stored, 6))
    run.assert_complete()


def test_space_is_needed_twice_where_chunks_are_to_be_joined(
    run: SampleCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr("hseval.sampling.generate.check_free_space", lambda path, size: sizes.append(size))
    run.interrupt(2)
    run()
    cube = sum(array.nbytes for array in (make_sample(0).cube, *make_sample(0).masks.values()))
    assert sizes == [6 * cube, (4 + 6) * cube]


def test_a_chunk_that_is_not_listed_is_ignored(run: SampleCommand) -> None:
    run.interrupt(3)
    (run.chunk_folder / "000003.h5").write_bytes((run.chunk_folder / "000001.h5").read_bytes())
    (run.chunk_folder / f".000003.h5.elsewhere-{os.getpid()}-00.part").write_bytes(b"half")
    run.interrupt(3)
    assert list_names(run.chunk_folder) == ["000000.h5", "000001.h5", "000002.h5", "lock", "parts.json"]
    run()
    run.assert_complete()


STORED = '{"format": "hseval-parts-1", "of": {}, "parts": %s}'


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "[" * 100_000, '{"parts": 3}', '{"format": "x", "of": {}, "parts": []}',
        STORED % "3", STORED % '[{"cubes": "3", "sha256": "0"}]', STORED % '[{"cubes": NaN, "sha256": "0"}]',
        STORED % '[{"cubes": 3}]', STORED.replace("{}", "2") % "[]",
    ],
)  # fmt: skip
def test_an_unreadable_manifest_is_refused_and_force_starts_over(run: SampleCommand, text: str) -> None:
    run.interrupt(3)
    (run.chunk_folder / "parts.json").write_text(text)
    assert_refused(run(), f"{run.chunk_folder / 'parts.json'}: unreadable list of chunks", "--force")
    assert (run.chunk_folder / "000002.h5").exists()
    assert run("--force").status == 0
    run.assert_complete()


def test_chunks_are_next_to_the_target_of_a_link(run: SampleCommand, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    run.out.symlink_to(tmp_path / "disk" / "there.h5")
    run.interrupt(4)
    assert list_names(tmp_path / "disk") == [".there.h5.parts"]
    assert run().status == 0
    assert run.out.is_symlink() and list_names(tmp_path / "disk") == ["there.h5"]
    run.assert_complete()


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (make_sample(1)._replace(cube=np.zeros((2, 9, 8), np.float32)), "but the first cube has"),
        (make_sample(1)._replace(masks={}), "but the first cube has"),
        (make_sample(0), "duplicate id"),
    ],
)
@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_samples_that_could_not_be_joined_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invalid: Sample, message: str, seconds: float
) -> None:
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", seconds)
    for samples in ([make_sample(0), invalid], [invalid]):  # in one process, and in a later one
        with open_chunks(tmp_path / "generated.h5", {}, METADATA) as chunks:
            chunks.resume(force=False)
            with pytest.raises(HsevalError, match=message):
                chunks.write_samples(iter(samples), lambda _: None)
            assert chunks.count == 1


def test_cubes_that_come_in_batches_do_not_wait_for_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pending = 0.0, []

    def sample_in_bursts() -> Iterator[Sample]:
        nonlocal now
        for batch in range(5):
            pending.append(4 * batch - chunks.count)
            now += 100.0
            yield from (make_sample(4 * batch + index) for index in range(4))

    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", 60.0)
    monkeypatch.setattr(hseval.sampling.chunks, "time", types.SimpleNamespace(monotonic=lambda: now))
    with open_chunks(tmp_path / "generated.h5", {}, METADATA) as chunks:
        chunks.write_samples(sample_in_bursts(), lambda _: None)
    assert max(pending) <= 60 / 25 and chunks.count == 20
    assert len(chunks.manifest.chunks) < 20


LARGE = np.zeros((2, 256, 256), np.float32)  # 512 KiB


def enlarge_cubes(monkeypatch: pytest.MonkeyPatch, *, last_chunk_from: int) -> None:
    """Let the generator yield large cubes, and one chunk hold all cubes from an index on."""
    sample_small = StepsGenerator.sample

    def sample(self: StepsGenerator, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        for small in sample_small(self, n, seed=seed, start=start):
            if StepsGenerator.sampled[-1] >= last_chunk_from:
                monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
            yield Sample(LARGE + StepsGenerator.sampled[-1], {}, small.id)

    monkeypatch.setattr(StepsGenerator, "sample", sample)


def test_chunks_are_preserved_if_the_disk_fills_up_while_sampling(
    run: SampleCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    enlarge_cubes(monkeypatch, last_chunk_from=2)
    with limit_file_size(3 << 20):
        assert_refused(
            run(n=9), "000002.h5: could not be written: File too large; stored: 2 cubes; the same command resumes"
        )
    assert not run.out.exists() and list_names(run.chunk_folder) == ["000000.h5", "000001.h5", "lock", "parts.json"]
    assert run(n=9).status == 0
    assert StepsGenerator.sampled == [2, 3, 4, 5, 6, 7, 8]
    run.assert_complete(n=9)


def test_chunks_are_preserved_if_the_disk_fills_up_while_joining(
    run: SampleCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enlarge_cubes(monkeypatch, last_chunk_from=99)
    with limit_file_size(3 << 20):
        assert_refused(run(n=9), f"{run.out}: could not be written: File too large; stored: 9 cubes; the same command")
    assert list_names(tmp_path) == [".generated.h5.parts"]
    assert run(n=9).status == 0
    assert StepsGenerator.sampled == []
    run.assert_complete(n=9)


SAMPLE_SCRIPT = """
import sys, hseval.sampling.chunks
hseval.sampling.chunks.CHUNK_SECONDS = 0.1
from hseval.cli.main import main
main()
"""


def list_phantom_arguments(n: int, out: Path) -> tuple[Any, ...]:
    return ("sample", "phantom", "-n", n, "--set", "size=16", "--set", "oversampling=1", "--out", out)


def count_stored(out: Path) -> int:
    chunks = json.loads((out.with_name(f".{out.name}.parts") / "parts.json").read_text())["parts"]
    return sum(chunk["cubes"] for chunk in chunks)


def start_sampling(out: Path) -> subprocess.Popen[str]:
    """Start a sampling that will not finish, and wait until some cubes are stored."""
    command = [sys.executable, "-c", SAMPLE_SCRIPT, *map(str, list_phantom_arguments(10**6, out))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out.with_name(f".{out.name}.parts") / "parts.json").exists() or count_stored(out) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_after_kill_9_it_resumes_and_a_second_process_is_refused(tmp_path: Path, hseval: Command) -> None:
    out, fresh = tmp_path / "eyes.h5", tmp_path / "fresh.h5"
    with start_sampling(out) as process:
        assert_refused(hseval(*list_phantom_arguments(12, out)), f"{out}: another process is sampling to it")
        assert process.poll() is None
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    stored = count_stored(out)
    assert not out.exists()
    outcome = hseval(*list_phantom_arguments(stored + 3, out))
    assert (outcome.status, outcome.err.split(" (")[0]) == (0, f"{out}: resuming after {stored} cubes")
    assert list_names(tmp_path) == ["eyes.h5"]
    assert hseval(*list_phantom_arguments(stored + 3, fresh)).status == 0
    assert read_contents(out) == read_contents(fresh)


def test_sigterm_is_reported_in_one_line_and_it_resumes(tmp_path: Path, hseval: Command) -> None:
    out = tmp_path / "eyes.h5"
    with start_sampling(out) as process:
        process.terminate()
        process.terminate()  # as a batch system does, which signals process and group
        printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert errors == f"hseval: stopped after {count_stored(out)} cubes; the same command resumes from there\n"
    assert hseval(*list_phantom_arguments(count_stored(out) + 1, out)).status == 0
    assert list_names(tmp_path) == ["eyes.h5"]


def test_a_deferred_signal_arrives_after_the_block() -> None:
    completed = []
    with pytest.raises(KeyboardInterrupt), defer_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        completed.append(True)
    assert completed
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_differences_name_the_path_and_show_short_values() -> None:
    old = {"options": {"size": 32, "noise": math.nan, "gone": None}, "weights": {"a.json": "0" * 64}}
    new = {"options": {"size": 64, "noise": math.nan}, "weights": {"a.json": "1" * 64}, "more": True}
    assert list_differences(old, new) == ["options.size 32, not 64", "another weights.a.json", "more null, not true"]
    assert list_differences(old, old) == []
