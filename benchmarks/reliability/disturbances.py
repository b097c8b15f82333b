"""What happens to a running command: signals, full disks, missing locks, files that change, closed streams."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import numpy as np

from benchmarks.reliability.cache_inputs import read_result
from benchmarks.reliability.jobs import Job
from benchmarks.reliability.processes import Run, Workplace, is_worker, list_children, mount, refuse_locks
from tests.helpers.commands import Outcome

IMPORTS = 0.4  # of a command's time; most kills come after that
POLL_S = 0.01
CUBE_READS = 24  # of both sets, by "score slowly"
CLOCK_BEHIND = "import time; now = time.time; time.time = lambda: now() - 100_000"
STATUSES = {SIGKILL: (0, -9), SIGTERM: (0, 130, -15), SIGINT: (0, 130, -2)}  # -2, -15: before Python handles signals
FAILS = (0, 2)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A job to disturb: where, its seconds when undisturbed, and the random numbers of the fault."""

    place: Workplace
    job: Job
    duration: float
    rng: np.random.Generator

    def start(self, **options: Any) -> Run:
        """Start the job's command; ``options`` as of :meth:`Workplace.start`."""
        prelude = f"{self.job.prelude}\n{options.pop('prelude', '')}".strip()
        return self.place.start(self.job.command, prelude=prelude, **options)

    def draw_moment(self) -> float:
        """Return seconds after the start: in one of five cases during the imports."""
        share = self.rng.uniform(0, IMPORTS) if self.rng.random() < 0.2 else self.rng.uniform(IMPORTS, 1)
        return float(share * self.duration)

    def clear(self) -> None:
        """Remove what the job wrote."""
        for name in self.job.writes:
            path = self.place.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Left:
    """How a disturbed command ended.

    Attributes:
        outcome: its exit status and output.
        statuses: exit statuses that are in order.
        hit: whether the fault happened while it ran.
        also_right: results that are right beside the undisturbed one.
        right_after: the right result of the next run, if the fault changed its input.
        may_differ: there need not be a result.
        without_stderr: it could not print its line.
    """

    outcome: Outcome
    statuses: tuple[int, ...] = (0,)
    hit: bool = True
    also_right: tuple[Any, ...] = ()
    right_after: Any = None
    may_differ: bool = False
    without_stderr: bool = False


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """A fault that happens to a job."""

    name: str
    disturb: Callable[[Scene], Left]
    needs_mount: bool = False


def kill(scene: Scene, *, number: signal.Signals) -> Left:
    """Send a signal at a random time; earlier, if the command had ended by then."""
    moment = scene.draw_moment()
    for _ in range(3):
        run = scene.start()
        hit = run.send_after(moment, number)
        outcome = run.wait()
        if hit:
            break
        scene.clear()
        moment /= 2
    return Left(outcome, STATUSES[number], hit)


def interrupt_twice(scene: Scene) -> Left:
    """Send Ctrl-C, and again while the command cleans up."""
    run = scene.start()
    hit = run.send_after(scene.draw_moment(), SIGINT)
    time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        run.process.send_signal(SIGINT)
    return Left(run.wait(), STATUSES[SIGINT], hit)


def kill_worker(scene: Scene) -> Left:
    """Kill a worker process, as the system does when memory runs out."""
    run = scene.start()
    delay = float(scene.rng.uniform(0, 3))
    hit = False
    while run.process.poll() is None and not hit:
        workers = [pid for pid in list_children(run.process.pid) if is_worker(pid)]
        if workers:
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(scene.rng.choice(workers)), SIGKILL)
                hit = True
            break
        time.sleep(POLL_S)
    # A sweep of which a run failed ends with status 1.
    return Left(run.wait(), (0, 1, 2), hit, may_differ="sweep" in scene.job.command)


def run_two(scene: Scene, *, number: signal.Signals | None) -> Left:
    """Run the command twice at once on one cache; kill one of them."""
    folder = scene.place.folder / "second"
    folder.mkdir()
    other = Workplace(folder)
    for path in scene.place.folder.glob("*.h5"):
        shutil.copy(path, other.folder / path.name)
    other.variables["HSEVAL_CACHE"] = scene.place.variables["HSEVAL_CACHE"]
    runs = [scene.start(), other.start(scene.job.command, prelude=scene.job.prelude)]
    hit = number is None or runs[1].send_after(scene.draw_moment(), number)
    outcome = runs[0].wait()
    runs[1].wait()
    scene.place.sessions.extend(other.sessions)
    shutil.rmtree(other.folder)
    return Left(outcome, (0,), hit)


def fill(scene: Scene, *, name: str, kilobytes: int) -> Left:
    """Let a folder be a file system with little space; ``name`` of it, or ``""``: that of the results."""
    folder = scene.place.folder / (name or "small")
    names = scene.job.writes
    with mount(folder, kilobytes=kilobytes):
        command = scene.job.command if name else _move_results(scene.job, "small")
        outcome = scene.place.run(command, prelude=scene.job.prelude)
        left = [path.name for path in folder.rglob("*") if path.name.endswith((".part", ".probe"))]
        assert not left, f"left on the full disk: {left}"
        if outcome.status == 0 and not name:  # it fitted
            for written in names:
                shutil.move(folder / written, scene.place.folder / written)
    # A sweep of which a run failed ends with status 1.
    return Left(outcome, (0,) if name == "cache" else (0, 1, 2), may_differ="sweep" in scene.job.command)


def make_read_only(scene: Scene, *, name: str) -> Left:
    """Let a folder be unchangeable; ``name`` of it, or ``""``: that of the results."""
    folder = scene.place.folder / (name or "small")
    with mount(folder, kilobytes=0, read_only=True):
        command = scene.job.command if name else _move_results(scene.job, "small")
        outcome = scene.place.run(command, prelude=scene.job.prelude)
    return Left(outcome, (0,) if name else (2,))


def _move_results(job: Job, folder: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{word}" if word in job.writes else word for word in job.command)


def run_limited(scene: Scene, *, prepare: Callable[[], None], statuses: tuple[int, ...] = FAILS) -> Left:
    """Run the command with something taken from its process."""
    return Left(scene.start(prepare=prepare).wait(), statuses)


def run_with(scene: Scene, *, variables: Mapping[str, str | None]) -> Left:
    """Run the command with other variables of the environment."""
    return Left(scene.start(variables=variables).wait())


def run_without_stream(scene: Scene, *, descriptor: int) -> Left:
    """Run the command with stdout or stderr closed, as ``>&-`` does."""
    outcome = scene.start(prepare=partial(os.close, descriptor)).wait()
    return Left(outcome, (0, 1, 2), without_stderr=descriptor == 2)


def turn_back_clock(scene: Scene) -> Left:
    """Run the command with a clock that is a day behind: all files are of the future."""
    return Left(scene.start(prelude=CLOCK_BEHIND).wait())


def date_files_ahead(scene: Scene) -> Left:
    """Let the sets be changed in the future, by their times."""
    for path in scene.place.folder.glob("*.h5"):
        os.utime(path, (time.time() + 100_000, time.time() + 100_000))
    return Left(scene.start().wait())


def lock_cache(scene: Scene) -> Left:
    """Let another process hold the cache for ever."""
    scene.start().wait()
    scene.clear()
    database = next((scene.place.folder / "cache").glob("*.sqlite"))
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute("begin exclusive")
        outcome = scene.start().wait(90)
    return Left(outcome)


def replace_while_read(scene: Scene, *, how: str) -> Left:
    """Replace the samples, in the middle of reading them, by other cubes; the next run must see these."""
    folder, command = scene.place.folder, scene.job.command
    samples, other = folder / "samples.h5", folder / "other.h5"
    elsewhere = tuple({"samples.h5": "other.h5", "score.json": "other.json"}.get(word, word) for word in command)
    scene.place.run((*elsewhere, "--no-cache"))
    right_after = read_result((folder / "other.json").read_text())
    run = scene.start()
    hit = _wait_for_reads(scene, run)
    if how == "renamed":
        other.replace(samples)
    elif how == "overwritten":
        with samples.open("r+b") as handle:
            handle.write(other.read_bytes())
    outcome = run.wait()
    return Left(outcome, FAILS, hit, also_right=(right_after,), right_after=right_after)


def truncate_while_read(scene: Scene) -> Left:
    """Cut off the samples in the middle of reading them; they come back for the next run."""
    samples = scene.place.folder / "samples.h5"
    whole = samples.read_bytes()
    run = scene.start()
    hit = _wait_for_reads(scene, run)
    os.truncate(samples, int(scene.rng.integers(len(whole))))
    outcome = run.wait()
    samples.write_bytes(whole)
    return Left(outcome, FAILS, hit)


def _wait_for_reads(scene: Scene, run: Run) -> bool:
    """Wait until a random number of cubes is read; return whether the command is still running then."""
    reads, count = scene.place.folder / "reads", int(scene.rng.integers(1, CUBE_READS))
    reads.unlink(missing_ok=True)
    while run.process.poll() is None and (not reads.exists() or reads.stat().st_size < count):
        time.sleep(POLL_S)
    return run.process.poll() is None


def remove_cache(scene: Scene) -> Left:
    """Clear the cache while the command uses it."""
    run = scene.start()
    hit = _wait_for_reads(scene, run)
    for path in (scene.place.folder / "cache").iterdir():
        path.unlink()
    return Left(run.wait(), (0,), hit)


def print_to_full_disk(scene: Scene) -> Left:
    """Let stdout be a full disk."""
    return Left(scene.start(stdout=Path("/dev/full")).wait(), (0, 1, 2), may_differ=True)


def limit_files() -> None:
    """Allow the process to open few files."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))


def limit_size() -> None:
    """Allow the process to write small files only."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def _list_kills() -> Iterator[tuple[Disturbance, str]]:
    counts = {  # of SIGKILL, SIGTERM and SIGINT
        "score": (3, 2, 2), "score by workers": (3, 1, 1), "score to a page": (3, 2, 1), "sample": (4, 2, 2),
        "qualify": (3, 1, 1), "sweep": (3, 1, 1), "train pca": (2, 1, 1), "train-ldm": (3, 1, 1),
        "fit-extractor": (2, 1, 1),
    }  # fmt: skip
    for job, job_counts in counts.items():
        for number, count in zip((SIGKILL, SIGTERM, SIGINT), job_counts, strict=True):
            yield from ((Disturbance(number.name, partial(kill, number=number)), job) for _ in range(count))
    for job in ("score", "sample", "train-ldm"):
        yield Disturbance("Ctrl-C twice", interrupt_twice), job
    for job, count in (("score by workers", 3), ("sweep", 2)):
        yield from ((Disturbance("a worker is killed", kill_worker), job) for _ in range(count))
    yield Disturbance("two at once on one cache", partial(run_two, number=None)), "score"
    for _ in range(3):
        yield Disturbance("two at once on one cache, one is killed", partial(run_two, number=SIGKILL)), "score"


def _list_disk_faults() -> Iterator[tuple[Disturbance, str]]:
    def add(name: str, disturb: Callable[[Scene], Left]) -> Disturbance:
        return Disturbance(name, disturb, needs_mount=True)

    for job, kilobytes in (("score", 12), ("qualify", 64)):
        yield add("the cache's disk is full", partial(fill, name="cache", kilobytes=kilobytes)), job
    for job in ("score", "score by workers", "score to a page", "qualify", "train-ldm"):
        yield add("TMPDIR is full", partial(fill, name="tmp", kilobytes=4)), job
    for job in ("score", "score to a page", "sample", "qualify", "train pca", "train-ldm", "fit-extractor", "sweep"):
        yield add("the results' disk is full", partial(fill, name="", kilobytes=8)), job
        yield add("the results' folder is read-only", partial(make_read_only, name="")), job
    yield add("the cache is read-only", partial(make_read_only, name="cache")), "score"


def _list_other_faults() -> Iterator[tuple[Disturbance, str]]:
    for job in ("score", "sample"):
        yield Disturbance("files can't grow", partial(run_limited, prepare=limit_size)), job
    yield Disturbance("few open files", partial(run_limited, prepare=limit_files)), "score by workers"
    for job in ("score", "score by workers", "sample", "qualify", "sweep", "train-ldm"):
        yield Disturbance("no file locks", partial(run_limited, prepare=refuse_locks, statuses=(0,))), job
    other_error = partial(refuse_locks, errno.EOPNOTSUPP)
    yield Disturbance("locks not supported", partial(run_limited, prepare=other_error, statuses=(0,))), "score"
    yield Disturbance("the clock is a day behind", turn_back_clock), "score"
    yield Disturbance("files of the future", date_files_ahead), "score"
    yield Disturbance("the cache is locked for ever", lock_cache), "score"
    yield Disturbance("the cache is cleared meanwhile", remove_cache), "score slowly"
    for _ in range(3):
        for how in ("renamed", "overwritten"):
            name = f"samples replaced while read ({how})"
            yield Disturbance(name, partial(replace_while_read, how=how)), "score slowly"
        yield Disturbance("samples cut off while read", truncate_while_read), "score slowly"
    for job in ("score", "sample", "qualify"):
        for descriptor, stream in ((1, "stdout"), (2, "stderr")):
            yield Disturbance(f"{stream} is closed", partial(run_without_stream, descriptor=descriptor)), job
        yield Disturbance("stdout is a full disk", print_to_full_disk), job
    environments: dict[str, tuple[str, dict[str, str | None]]] = {
        "HOME can't be written": ("score", {"HOME": "/proc/nowhere", "HSEVAL_CACHE": None}),
        "HOME is missing": ("score", {"HOME": None, "HSEVAL_CACHE": None, "XDG_CACHE_HOME": "/proc/nowhere"}),
        "TMPDIR is missing": ("score by workers", {"TMPDIR": "/nowhere"}),
        "LANG is C": ("score", {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}),
    }
    for name, (job, variables) in environments.items():
        yield Disturbance(name, partial(run_with, variables=variables)), job


FAULTS = (*_list_kills(), *_list_disk_faults(), *_list_other_faults())
