"""Kills commands and takes away what they need, then runs them again undisturbed, and compares with the right result.

    python -m benchmarks.reliability.faults --seed 13 [--only score] [--record]

What may be seen of a fault: the right result, or one line and exit status 2 (130 after Ctrl-C and SIGTERM, minus the
signal's number after kill -9). The same command must then give the right result, and leave nothing else behind.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.helpers.machine import RESULTS, record
from benchmarks.reliability.disturbances import FAULTS, Disturbance, Left, Scene
from benchmarks.reliability.jobs import JOBS, write_sets
from benchmarks.reliability.processes import Workplace, can_mount

RERUNS = 3  # of a sweep: a worker that was orphaned may still hold a run when the next sweep begins
LEFTOVERS = (".part", ".probe")
TORCH_CACHE = "tmp/torchinductor_"  # a folder that torch makes when an optimizer is imported


@dataclasses.dataclass(frozen=True)
class FaultResult:
    """What came of one fault.

    Attributes:
        fault: its name.
        job: the command that was disturbed.
        status: its exit status.
        hit: whether the fault happened while the command ran.
        problem: what was wrong; empty: nothing.
        seconds: until the command had ended.
        rerun_seconds: until it had run again.
    """

    fault: str
    job: str
    status: int | None
    hit: bool
    problem: str
    seconds: float
    rerun_seconds: float = 0.0


def find_right_results(names: list[str]) -> dict[str, tuple[Any, float]]:
    """Run jobs undisturbed; return the result and the seconds of each."""
    results = {}
    for name in names:
        with _create_workplace() as place:
            start = time.monotonic()
            outcome = place.run(JOBS[name].command, prelude=JOBS[name].prelude)
            assert outcome.status == 0 and not outcome.err, (name, outcome)
            results[name] = JOBS[name].read(place.folder), time.monotonic() - start
    return results


@contextlib.contextmanager
def _create_workplace() -> Iterator[Workplace]:
    with tempfile.TemporaryDirectory(prefix="hseval-fault-", ignore_cleanup_errors=True) as folder:
        write_sets(Path(folder))
        yield Workplace(Path(folder))


def try_fault(
    disturbance: Disturbance, job_name: str, right: tuple[Any, float], rng: np.random.Generator
) -> FaultResult:
    """Disturb a job in a fresh folder, run it again undisturbed, and return what was wrong."""
    job = JOBS[job_name]
    result, duration = right
    start = time.monotonic()
    with _create_workplace() as place:
        scene = Scene(place, job, duration, rng)
        try:
            left = disturbance.disturb(scene)
            seconds = time.monotonic() - start
            problems = [*_assess_disturbed(left, scene, result), *_describe_leftovers(place, left.outcome.status)]
            problems += _rerun(scene, left, result)
        except (TimeoutError, AssertionError, OSError) as error:  # a hang, or what a disturbance itself looks at
            return FaultResult(disturbance.name, job_name, None, True, repr(error), time.monotonic() - start)
        problems += [f"orphan: {name}" for name in place.end_orphans()]
    rerun_seconds = time.monotonic() - start - seconds
    return FaultResult(
        disturbance.name, job_name, left.outcome.status, left.hit, "; ".join(problems), seconds, rerun_seconds
    )


def _assess_disturbed(left: Left, scene: Scene, right: Any) -> Iterator[str]:
    outcome = left.outcome
    if "Traceback" in outcome.err + outcome.out:
        yield f"traceback: {outcome.err[-600:]!r}"
    elif outcome.status not in left.statuses:
        yield f"status {outcome.status}, expected one of {left.statuses}: {outcome.err[-300:]!r}"
    elif outcome.status in (2, 130) and len(outcome.err.strip().splitlines()) != 1 and not left.without_stderr:
        yield f"not one line: {outcome.err[-600:]!r}"
    elif outcome.status == 0 and outcome.err:
        yield f"untidy: {outcome.err[-600:]!r}"
    if outcome.status == 0 and not left.may_differ:
        try:
            if scene.job.read(scene.place.folder) not in (right, *left.also_right):
                yield "wrong number"
        except (OSError, ValueError, KeyError, AssertionError) as error:
            yield f"no result in spite of status 0: {error!r}"


def _describe_leftovers(place: Workplace, status: int) -> list[str]:
    """Return partial files, and, unless the process was killed, what is left in the temporary folder."""
    files = sorted(str(path.relative_to(place.folder)) for path in place.folder.rglob("*"))
    left = [
        name
        for name in files
        if name.endswith(LEFTOVERS) or (name.startswith("tmp/") and not name.startswith(TORCH_CACHE))
    ]
    return [f"left behind: {', '.join(left[:5])}"] if left and status != -9 else []


def _rerun(scene: Scene, left: Left, right: Any) -> Iterator[str]:
    """Run the job again, undisturbed, and compare its result."""
    job, folder = scene.job, scene.place.folder
    expected = left.right_after if left.right_after is not None else right
    command = job.again if job.again is not None and (folder / job.writes[0]).exists() else job.command
    for attempt in range(RERUNS if "sweep" in command else 1):
        outcome = scene.place.run(command, prelude=job.prelude)
        if outcome.status == 0 or attempt == RERUNS - 1:
            break
        time.sleep(1)
    if outcome.status != 0 or outcome.err:
        yield f"again: status {outcome.status}, {outcome.err[-600:]!r}"
    elif job.read(folder) != expected:
        yield "again: wrong number"
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(LEFTOVERS)]
    if names:
        yield f"again: left behind: {', '.join(names[:5])}"


def main() -> None:
    """Try all faults, print one line each, and record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--only", default="", help="regular expression of the lines to try")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/reliability/faults.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        has_mounts = can_mount(Path(folder))
    chosen = [(number, disturbance, job) for number, (disturbance, job) in enumerate(FAULTS)
              if re.search(arguments.only, f"{job}: {disturbance.name}")]  # fmt: skip
    left_out = [f"{job}: {fault.name}" for _, fault, job in chosen if fault.needs_mount and not has_mounts]
    right = find_right_results(sorted({job for _, _, job in chosen}))
    results = {}
    for number, disturbance, job in chosen:
        if disturbance.needs_mount and not has_mounts:
            continue
        rng = np.random.default_rng([arguments.seed, number, zlib.crc32(disturbance.name.encode())])
        result = try_fault(disturbance, job, right[job], rng)
        results[number] = result
        print(f"{job}: {disturbance.name}: status {result.status}, {result.seconds:.1f} + {result.rerun_seconds:.1f} s"
              f"{'' if result.hit else ' (missed)'} {result.problem or 'ok'}", flush=True)  # fmt: skip
    problems = sum(bool(result.problem) for result in results.values())
    print(f"{len(results)} faults, {problems} problems; left out, because they need root: {left_out or 'none'}")
    if arguments.record:
        rows = {number: {"number": number, **dataclasses.asdict(result)} for number, result in results.items()}
        earlier = json.loads((RESULTS / "reliability" / "faults.json").read_text())
        if arguments.only and earlier["seed"] == arguments.seed:  # faults not tried now keep what was recorded
            rows = {row["number"]: row for row in earlier["faults"]} | rows
            left_out = earlier["left_out"]
        faults = [rows[number] for number in sorted(rows)]
        print(record("reliability/faults", {"seed": arguments.seed, "left_out": left_out, "faults": faults}))
    sys.exit(problems > 0)


if __name__ == "__main__":
    main()
