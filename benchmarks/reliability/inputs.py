"""Damages a valid file of every kind that is read, some hundred times, and records what commands make of it.

    python -m benchmarks.reliability.inputs --seed 13 --count 500 [--kinds cache,report] [--record]

Input i of a kind is a function of (seed, kind, i) alone. Each runs in a child process that may take 1 GiB more than the
libraries, and a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.helpers import machine
from benchmarks.reliability.attempts import FAULTS, RESULTS, Attempt
from benchmarks.reliability.kinds import KINDS

BATCH = 50  # inputs a process: what one leaves behind may show in the next, as in a long session
TIMEOUT_S = 60.0  # a busy machine may take some seconds for what takes milliseconds
MEMORY = 1 << 30  # bytes above the libraries
Result = tuple[Attempt, int, float]  # bytes above the libraries, seconds
Batch = tuple[str, Any, int, Sequence[int], Path]  # kind, valid input, seed, numbers, folder
_context = multiprocessing.get_context("fork")


@dataclasses.dataclass(frozen=True)
class KindResult:
    """The attempts on one kind of input: their results, bytes above the libraries at most, and seconds."""

    attempts: tuple[Attempt, ...]
    peak_bytes: int
    seconds: tuple[float, ...]

    def to_record(self) -> dict[str, Any]:
        """Return counts of results, and every fault with its number."""
        counts = Counter(attempt.result for attempt in self.attempts)
        faults = [
            {"number": number, **dataclasses.asdict(attempt)}
            for number, attempt in enumerate(self.attempts)
            if attempt.result in FAULTS
        ]
        return {
            "inputs": len(self.attempts),
            **{result: counts[result] for result in RESULTS},
            "peak_mib": round(self.peak_bytes / (1 << 20)),
            "slowest_s": round(max(self.seconds), 1),
            "seconds": round(sum(self.seconds)),
            "faults": faults,
        }


def create_input_rng(seed: int, kind: str, number: int) -> np.random.Generator:
    """Return the random numbers that decide about one input."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


@contextlib.contextmanager
def make_valid_inputs(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Make the valid inputs of these kinds; those of several kinds that are made by one function only once."""
    makers = dict.fromkeys(KINDS[name].make for name in names)
    with tempfile.TemporaryDirectory(prefix="hseval-valid-") as folder:
        made = {}
        for number, make in enumerate(makers):
            path = Path(folder) / str(number)
            path.mkdir()
            made[make] = make(path)
        yield {name: made[KINDS[name].make] for name in names}


def run_kind(name: str, valid: Any, *, seed: int, numbers: Sequence[int], timeout_s: float = TIMEOUT_S) -> KindResult:
    """Try damaged copies of the valid input of a kind."""
    results: list[Result] = []
    while len(results) < len(numbers):
        batch = numbers[len(results) : len(results) + BATCH]
        with tempfile.TemporaryDirectory(prefix=f"hseval-{name}-") as folder:
            results += _run_batch((name, valid, seed, batch, Path(folder)), timeout_s)
    attempts, peaks, seconds = zip(*results, strict=True)
    return KindResult(attempts, max(peaks), seconds)


def _run_batch(batch: Batch, timeout_s: float) -> list[Result]:
    """Return the results of a batch, up to the first input that its process did not survive."""
    receiver, sender = _context.Pipe(duplex=False)
    child = _context.Process(target=_try_inputs, args=(sender, batch))
    child.start()
    sender.close()
    results: list[Result] = []
    start = time.monotonic()
    try:
        while len(results) < len(batch[3]):
            if not receiver.poll(timeout_s):
                results.append((Attempt("", "hang", f"no result after {timeout_s:g} s"), 0, timeout_s))
                break
            results.append((*receiver.recv(), time.monotonic() - start))
            start = time.monotonic()
    except EOFError:
        child.join()
        results.append((Attempt("", "crash", f"the process ended with status {child.exitcode}"), 0, 0.0))
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid or 0, signal.SIGKILL)
    child.join()
    return results


def _try_inputs(sender: Connection, batch: Batch) -> None:
    name, valid, seed, numbers, place = batch
    os.setpgid(0, 0)
    libraries, size = _read_memory("VmRSS"), _read_memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for number in numbers:
        folder = place / str(number)
        folder.mkdir()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        try:
            attempt = KINDS[name].attempt(valid, folder, create_input_rng(seed, name, number))
        except MemoryError:
            attempt = Attempt("", "memory", traceback.format_exc(limit=-4))
        except Exception:  # noqa: BLE001 - a fault of hseval's functions, or of the driver; it has to be looked at
            attempt = Attempt("", "traceback", traceback.format_exc(limit=-6))
        peak = _read_memory("VmHWM") - libraries
        if peak > MEMORY and attempt.result not in FAULTS:
            attempt = dataclasses.replace(attempt, result="memory", detail=f"{peak / MEMORY:.1f} GiB")
        shutil.rmtree(folder, ignore_errors=True)
        sender.send((attempt, peak))


def _read_memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Run the kinds that are asked for, print a table, and record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--count", type=int, default=500, help="inputs of each kind")
    parser.add_argument("--number", type=int, help="try this input alone")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/reliability/inputs.json")
    arguments = parser.parse_args()
    numbers = range(arguments.count) if arguments.number is None else [arguments.number]
    names = arguments.kinds.split(",")
    results = {}
    with make_valid_inputs(names) as valid:
        for name in names:
            results[name] = run_kind(name, valid[name], seed=arguments.seed, numbers=numbers).to_record()
            _print_result(name, results[name])
    if arguments.record:
        earlier = json.loads((machine.RESULTS / "reliability" / "inputs.json").read_text())
        if earlier["seed"] == arguments.seed:  # kinds that were not tried now keep what was recorded
            results = {**earlier["kinds"], **results}
        kinds = {name: results[name] for name in KINDS if name in results}
        print(machine.record("reliability/inputs", {"seed": arguments.seed, "kinds": kinds}))
    sys.exit(any(result["faults"] for result in results.values()))


def _print_result(name: str, result: dict[str, Any]) -> None:
    counts = " ".join(f"{key} {value}" for key, value in result.items() if key != "faults" and value)
    print(f"{name:16s} {counts}", flush=True)
    for fault in result["faults"]:
        print(f"  {fault['number']}: {fault['result']}: {fault['command']}\n    {fault['detail'][:1500]}", flush=True)


if __name__ == "__main__":
    main()
