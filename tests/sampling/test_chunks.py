"""``hseval sample`` goes on where it was cut off, and ends with the file that it would have written in one go."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
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
from tests.helpers.commands import Outcome

Command = Callable[..., Outcome]
ABOUT: dict[str, Any] = {"wavelengths": np.array([500.0, 600.0]), "units": None, "provenance": {"generator": "steps"}}


def noise(index: int, seed: int = 0, level: float = 1.0) -> Sample:
    rng = create_rng(seed, "steps", index)
    cube = np.float32(level) * rng.standard_normal((2, 8, 8), dtype=np.float32)
    cube[0, 0, 0] = np.nan
    mask = (2 * rng.integers(0, 2, (8, 8))).astype(np.uint8)  # has to come through as it is
    return Sample(cube, {"fov": np.ones((8, 8), dtype=bool), "eye/vein": mask}, f"ä-{seed}-{index}")


class Steps:
    """A third party's generator that notes what it draws and fails where it is told to."""

    name, version, units, summary = "steps", "1", "reflectance", "noise"
    wavelengths = np.array([500.0, 600.0])
    fails: ClassVar[dict[int, BaseException]] = {}
    drawn: ClassVar[list[int]] = []

    @dataclasses.dataclass(frozen=True)
    class Options:
        level: float = option(1.0, "factor")

    def __init__(self, options: Options) -> None:
        self.options = options

    def load(self, path: Path | None) -> None:
        pass

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        for index in range(start, n):
            if index in self.fails:
                raise self.fails[index]
            self.drawn.append(index)
            yield noise(index, seed, self.options.level)


class ThirdParty:
    @hookimpl
    def hseval_generators(self) -> list[type]:
        return [Steps]


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the generator; each cube is a part."""
    registry = get_plugins()
    registry.register(ThirdParty(), name="hseval-steps:steps", distribution="hseval-steps")
    monkeypatch.setattr(Steps, "fails", {})
    monkeypatch.setattr(Steps, "drawn", [])
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", 0.0)
    yield
    registry.manager.unregister(name="hseval-steps:steps")
    registry._registrations.clear()


class Runs:
    """``hseval sample steps`` into one file, cut off and taken up."""

    def __init__(self, folder: Path, hseval: Command) -> None:
        self.out, self.hseval = folder / "generated.h5", hseval
        self.parts = folder / ".generated.h5.parts"

    def __call__(self, *arguments: Any, n: int = 6, out: Path | None = None) -> Outcome:
        Steps.drawn.clear()
        return self.hseval("sample", "steps", "-n", n, "--out", out or self.out, *arguments)

    def cut_off(self, at: int, *arguments: Any) -> Outcome:
        Steps.fails[at] = KeyboardInterrupt()
        done = self(*arguments)
        Steps.fails.clear()
        return done

    def is_whole(self, *arguments: Any, n: int = 6) -> None:
        """Compare with an uninterrupted run; nothing else is left."""
        assert not self.parts.exists()
        fresh = self.out.with_name("fresh.h5")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
            assert self(*arguments, n=n, out=fresh).status == 0
        assert contents(self.out) == contents(fresh)


@pytest.fixture
def run(tmp_path: Path, hseval: Command) -> Runs:
    return Runs(tmp_path, hseval)


def contents(path: Path) -> dict[str, Any]:
    """Return all that a file holds: attributes, and datasets with their bytes, types and chunks."""
    with h5py.File(path) as file:
        found: dict[str, Any] = {f"@{name}": value for name, value in file.attrs.items()}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item.asstr()[()] if item.dtype.hasobject else item[()]
                plain = np.asarray(values).tolist() if item.dtype.hasobject else values.tobytes()
                found[name] = (item.shape, item.maxshape, str(item.dtype), item.chunks, plain)

        file.visititems(visit)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    for word in words:
        assert word in outcome.err


def test_ctrl_c_keeps_what_is_drawn_and_the_same_command_goes_on(run: Runs) -> None:
    done = run.cut_off(4)
    assert (done.status, done.out) == (130, "")
    assert done.err == "hseval: stopped after 4 cubes; the same command goes on from there\n"
    assert not run.out.exists() and len(list(run.parts.glob("*.h5"))) == 4
    again = run.cut_off(5)
    assert again.err.splitlines()[0] == f"{run.out}: going on after 4 cubes (in {run.parts})"
    done = run()
    assert (done.status, Steps.drawn) == (0, [5])
    assert done.err.startswith(f"{run.out}: going on after 5 cubes")
    run.is_whole()


def test_a_part_that_is_not_full_is_kept_as_well(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
    run.cut_off(4)
    assert [path.name for path in run.parts.glob("*.h5")] == ["000000.h5"]
    assert run().status == 0
    assert Steps.drawn == [4, 5]
    run.is_whole()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (HsevalError("six sides, please"), "hseval: six sides, please; kept are 3 cubes; the same"),
        (ValueError("no six"), "hseval: generator 'steps' of hseval-steps: ValueError: no six; kept are 3 cubes;"),
        (MemoryError("32 GiB"), "hseval: stopped after 3 cubes; the same command goes on from there\nhseval: out of"),
    ],
)
def test_an_error_keeps_what_is_drawn(run: Runs, error: BaseException, told: str) -> None:
    Steps.fails[3] = error
    done = run()
    assert done.status == 2
    assert done.err.startswith(told)
    assert not run.out.exists()
    Steps.fails.clear()
    assert run().status == 0
    assert Steps.drawn == [3, 4, 5]
    run.is_whole()


def test_where_nothing_was_drawn_nothing_is_left(run: Runs, tmp_path: Path) -> None:
    done = run.cut_off(0)
    assert (done.status, done.err.strip()) == (130, "hseval: interrupted: nothing half-written was left behind")
    assert names(tmp_path) == []


def test_a_set_drawn_in_one_go_is_written_once(tmp_path: Path) -> None:
    with open_chunks(tmp_path / "generated.h5", {}, ABOUT) as parts:
        parts.write_samples(map(noise, range(1)), lambda _: None)
        inode = (parts.folder / "000000.h5").stat().st_ino
        parts.join(1, lambda _: None)
    assert (tmp_path / "generated.h5").stat().st_ino == inode
    assert names(tmp_path) == ["generated.h5"]


def test_cubes_without_an_id_are_numbered_through(tmp_path: Path) -> None:
    nameless = [noise(index)._replace(id=None) for index in range(4)]
    for given in (nameless[:3], nameless[3:]):
        with open_chunks(tmp_path / "generated.h5", {}, ABOUT) as parts:
            parts.resume(force=False)
            parts.write_samples(iter(given), lambda _: None)
            if parts.count == 4:
                parts.join(4, lambda _: None)
    assert open_set(tmp_path / "generated.h5").ids == ("000000", "000001", "000002", "000003")


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_the_number_may_be_another(run: Runs, n: int) -> None:
    run.cut_off(4)
    done = run(n=n)
    assert (done.status, Steps.drawn) == (0, list(range(4, n)))
    assert f"going on after {min(n, 4)} cubes" in done.err
    run.is_whole(n=n)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--set", "level=2"), "4 cubes drawn with options.level 1.0, not 2.0;"),
        (("--seed", "7"), "seed 0, not 7"),
        (("--set", "level=2", "--seed", "7"), "options.level 1.0, not 2.0, seed 0, not 7"),
    ],
)
def test_what_was_drawn_otherwise_is_refused_and_force_starts_over(run: Runs, changed: Any, told: str) -> None:
    run.cut_off(4)
    before = {path.name: path.read_bytes() for path in run.parts.iterdir()}
    refused(run(*changed), str(run.parts), told, "--force")
    assert Steps.drawn == []
    assert {path.name: path.read_bytes() for path in run.parts.iterdir()} == before
    done = run(*changed, "--force")
    assert (done.status, done.err, Steps.drawn) == (0, "", [0, 1, 2, 3, 4, 5])
    run.is_whole(*changed)


@pytest.mark.parametrize(
    ("attribute", "value", "told"),
    [
        ("version", "2", 'generator_version "1", not "2"'),
        ("units", "counts", 'units "reflectance", not "counts"'),
        ("wavelengths", np.array([500.0, 601.0]), "wavelengths [500.0, 600.0], not [500.0, 601.0]"),
    ],
)
def test_another_generator_under_its_name_is_refused(
    run: Runs, monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any, told: str
) -> None:
    run.cut_off(4)
    monkeypatch.setattr(Steps, attribute, value)
    refused(run(), told)


def test_another_generator_is_refused(run: Runs, hseval: Command) -> None:
    run.cut_off(4)
    refused(hseval("sample", "phantom", "-n", 6, "--out", run.out), 'generator "steps", not "phantom"')


def test_other_weights_are_refused_and_a_log_may_grow(run: Runs, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "best").mkdir(parents=True)
    for file in ("best/weights.safetensors", "config.json", "metrics.jsonl"):
        (model / file).write_text("1")
    run.cut_off(2, "--checkpoint", model)
    (model / "metrics.jsonl").write_text("12")
    assert "going on after 2" in run.cut_off(4, "--checkpoint", model).err
    (model / "best" / "weights.safetensors").write_text("2")
    refused(run("--checkpoint", model), "another checkpoint.best/weights.safetensors")
    (model / "best" / "weights.safetensors").write_text("1")
    moved = model.rename(tmp_path / "moved")
    assert run("--checkpoint", moved).status == 0
    run.is_whole("--checkpoint", moved)


def test_force_goes_on_too_and_an_existing_set_needs_it(run: Runs) -> None:
    run.out.write_bytes(b"old")
    refused(run.cut_off(4), "exists already")
    assert "stopped after 4 cubes" in run.cut_off(4, "--force").err
    refused(run(), "exists already")
    assert run.out.read_bytes() == b"old"
    assert run("--force").status == 0
    assert Steps.drawn == [4, 5]
    run.is_whole()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: os.truncate(path, 1000)])
@pytest.mark.parametrize("number", [0, 2])
def test_a_damaged_part_and_those_after_it_are_drawn_again(run: Runs, damage: Any, number: int) -> None:
    run.cut_off(4)
    damage(run.parts / f"{number:06d}.h5")
    done = run()
    assert (done.status, Steps.drawn) == (0, list(range(number, 6)))
    assert done.err.splitlines()[0].startswith(f"{run.parts / f'{number:06d}.h5'}: damaged or missing; drawn again")
    run.is_whole()


def test_a_part_that_was_not_listed_yet_counts_for_nothing(run: Runs) -> None:
    run.cut_off(3)
    (run.parts / "000003.h5").write_bytes((run.parts / "000001.h5").read_bytes())
    (run.parts / f".000003.h5.elsewhere-{os.getpid()}-00.part").write_bytes(b"half")
    run.cut_off(3)
    assert names(run.parts) == ["000000.h5", "000001.h5", "000002.h5", "lock", "parts.json"]
    run()
    run.is_whole()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"parts": 3}', '{"format": "x", "of": {}, "like": [], "parts": []}'])
def test_an_unreadable_list_is_refused_and_force_starts_over(run: Runs, text: str) -> None:
    run.cut_off(3)
    (run.parts / "parts.json").write_text(text)
    refused(run(), f"{run.parts / 'parts.json'}: no list of parts", "--force")
    assert (run.parts / "000002.h5").exists()
    assert run("--force").status == 0
    run.is_whole()


def test_parts_lie_beside_the_file_that_a_link_leads_to(run: Runs, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    run.out.symlink_to(tmp_path / "disk" / "there.h5")
    run.cut_off(4)
    assert names(tmp_path / "disk") == [".there.h5.parts"]
    assert run().status == 0
    assert run.out.is_symlink() and names(tmp_path / "disk") == ["there.h5"]
    run.is_whole()


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (noise(1)._replace(cube=np.zeros((2, 9, 8), np.float32)), "but the first cube has"),
        (noise(1)._replace(masks={}), "but the first cube has"),
        (noise(0), "its id was given before"),
    ],
)
@pytest.mark.parametrize("seconds", [0.0, math.inf])
def test_what_could_not_be_joined_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Sample, told: str, seconds: float
) -> None:
    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", seconds)
    for given in ([noise(0), odd], [odd]):  # in one process, and in a later one
        with open_chunks(tmp_path / "generated.h5", {}, ABOUT) as parts:
            parts.resume(force=False)
            with pytest.raises(HsevalError, match=told):
                parts.write_samples(iter(given), lambda _: None)
            assert parts.count == 1


def test_cubes_that_come_in_batches_do_not_wait_for_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, unkept = 0.0, []

    def batches() -> Iterator[Sample]:
        nonlocal now
        for batch in range(5):
            unkept.append(4 * batch - parts.count)
            now += 100.0
            yield from (noise(4 * batch + index) for index in range(4))

    monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", 60.0)
    monkeypatch.setattr(hseval.sampling.chunks, "time", types.SimpleNamespace(monotonic=lambda: now))
    with open_chunks(tmp_path / "generated.h5", {}, ABOUT) as parts:
        parts.write_samples(batches(), lambda _: None)
    assert max(unkept) <= 60 / 25 and parts.count == 20
    assert len(parts.manifest.parts) < 20


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk looks like to its writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


LARGE = np.zeros((2, 256, 256), np.float32)  # 512 KiB


def large(monkeypatch: pytest.MonkeyPatch, *, filling_from: int) -> None:
    """Let the generator yield large cubes, and parts hold all that come after some."""
    small = Steps.sample

    def sample(self: Steps, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        for each in small(self, n, seed=seed, start=start):
            if Steps.drawn[-1] >= filling_from:
                monkeypatch.setattr(hseval.sampling.chunks, "CHUNK_SECONDS", math.inf)
            yield Sample(LARGE + Steps.drawn[-1], {}, each.id)

    monkeypatch.setattr(Steps, "sample", sample)


def test_a_disk_that_fills_up_while_drawing_keeps_the_parts(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    large(monkeypatch, filling_from=2)
    with files_up_to(3 << 20):
        refused(run(n=9), "000002.h5: could not be written: File too large; kept are 2 cubes; the same command goes on")
    assert not run.out.exists() and names(run.parts) == ["000000.h5", "000001.h5", "lock", "parts.json"]
    assert run(n=9).status == 0
    assert Steps.drawn == [2, 3, 4, 5, 6, 7, 8]
    run.is_whole(n=9)


def test_a_disk_that_fills_up_while_joining_keeps_the_parts(
    run: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large(monkeypatch, filling_from=99)
    with files_up_to(3 << 20):
        refused(run(n=9), f"{run.out}: could not be written: File too large; kept are 9 cubes; the same command")
    assert names(tmp_path) == [".generated.h5.parts"]
    assert run(n=9).status == 0
    assert Steps.drawn == []
    run.is_whole(n=9)


PHANTOM = """
import sys, hseval.sampling.chunks
hseval.sampling.chunks.CHUNK_SECONDS = 0.1
from hseval.cli.main import main
main()
"""


def eyes(n: int, out: Path) -> tuple[Any, ...]:
    return ("sample", "phantom", "-n", n, "--set", "size=16", "--set", "oversampling=1", "--out", out)


def kept(out: Path) -> int:
    parts = json.loads((out.with_name(f".{out.name}.parts") / "parts.json").read_text())["parts"]
    return sum(part["cubes"] for part in parts)


def started(out: Path) -> subprocess.Popen[str]:
    """Start sampling more than there is time for, and wait until some cubes are kept."""
    command = [sys.executable, "-c", PHANTOM, *map(str, eyes(10**6, out))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 60
    while not (out.with_name(f".{out.name}.parts") / "parts.json").exists() or kept(out) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return process


def test_after_kill_9_it_goes_on_and_two_at_once_are_refused(tmp_path: Path, hseval: Command) -> None:
    out, fresh = tmp_path / "eyes.h5", tmp_path / "fresh.h5"
    with started(out) as process:
        refused(hseval(*eyes(12, out)), f"{out}: another process is sampling to it")
        assert process.poll() is None
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    there = kept(out)
    assert not out.exists()
    done = hseval(*eyes(there + 3, out))
    assert (done.status, done.err.split(" (")[0]) == (0, f"{out}: going on after {there} cubes")
    assert names(tmp_path) == ["eyes.h5"]
    assert hseval(*eyes(there + 3, fresh)).status == 0
    assert contents(out) == contents(fresh)


def test_sigterm_is_told_in_one_line_and_it_goes_on(tmp_path: Path, hseval: Command) -> None:
    out = tmp_path / "eyes.h5"
    with started(out) as process:
        process.terminate()
        process.terminate()  # as a batch system does, which signals process and group
        printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert told == f"hseval: stopped after {kept(out)} cubes; the same command goes on from there\n"
    assert hseval(*eyes(kept(out) + 1, out)).status == 0
    assert names(tmp_path) == ["eyes.h5"]


def test_a_signal_that_is_put_off_comes_after_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), defer_signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(True)
    assert done
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_differences_name_the_path_and_show_what_is_short() -> None:
    old = {"options": {"size": 32, "noise": math.nan, "gone": None}, "weights": {"a.json": "0" * 64}}
    new = {"options": {"size": 64, "noise": math.nan}, "weights": {"a.json": "1" * 64}, "more": True}
    assert list_differences(old, new) == ["options.size 32, not 64", "another weights.a.json", "more null, not true"]
    assert list_differences(old, old) == []
