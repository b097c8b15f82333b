"""Large sets: time and memory of ``hseval score`` on 2,000 cubes of 224 x 224 x 16, and of a second score.

Sets are made once in a folder (``--folder``): phantom eyes, each rotated, mirrored and brightened into several cubes.
The command runs as a user types it; memory is the largest sum of resident sizes of all its processes, minus the size
of each after importing the libraries.

    python -m benchmarks.scoring.score [--folder F] [--cubes 500 1000 2000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.helpers.machine import record
from hseval.core.plugin_manager import get_plugins
from hseval.data.writer import SetWriter
from hseval.utils.random_streams import create_rng

SIZE, EYES, REFERENCE = 224, 40, 256
LOADED = 2**28  # bytes above which a process is taken to have imported the libraries
LIBRARIES = "import torch, numpy, h5py, safetensors, threadpoolctl"


def make_set(path: Path, count: int, *, seed: int) -> Path:
    """Write ``count`` cubes made from 40 eyes by the eight flips and rotations, gain and noise, unless they exist."""
    if path.exists():
        return path
    phantom = get_plugins().build("generator", "phantom", {"size": SIZE})
    phantom.load(None)
    eyes = list(phantom.sample(EYES, seed=seed))
    rng = create_rng(seed, "benchmark")
    with SetWriter(path, wavelengths=phantom.wavelengths) as writer:
        for i in range(count):
            eye, turn, mirrored = eyes[i % EYES], i // EYES % 4, i // EYES // 4 % 2
            cube = np.rot90(eye.cube[:, :, ::-1] if mirrored else eye.cube, turn, axes=(1, 2))
            masks = {n: np.rot90(m[:, ::-1] if mirrored else m, turn) for n, m in eye.masks.items()}
            noise = rng.standard_normal(cube.shape, dtype=np.float32) * np.float32(0.002)
            writer.add(cube * np.float32(rng.uniform(0.9, 1.1)) + noise, masks, f"eye-{i:05d}")
    return path


def measure_resident(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process and its descendants, and how many of them have loaded the libraries.

    Some have not: multiprocessing's resource tracker, a child that is just starting.
    """
    total, count = 0, 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):
        return 0, 0
    total = pages * os.sysconf("SC_PAGE_SIZE")
    count = int(total > LOADED)
    for child in children:
        child_bytes, child_count = measure_resident(int(child))
        total, count = total + child_bytes, count + child_count
    return total, count


def run_and_watch(command: Sequence[str]) -> dict[str, float]:
    """Run a command; return its seconds, its peak resident bytes and the number of processes at the peak."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, processes = 0, 0
    while process.poll() is None:
        now, count = measure_resident(process.pid)
        if now > peak:
            peak, processes = now, count
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak, "processes": processes}


def measure_library_bytes() -> float:
    """Return the resident bytes of a process that has only imported the libraries."""
    code = f"{LIBRARIES}\nimport os\npages = int(open('/proc/self/statm').read().split()[1])\n"
    code += "print(pages * os.sysconf('SC_PAGE_SIZE'))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main(folder: Path, counts: Sequence[int]) -> None:
    """Score sets of growing size, the last one twice, and record time and memory."""
    reference = make_set(folder / "reference.h5", REFERENCE, seed=1)
    # Different eyes in each set: cubes shared by two sets would come from the cache.
    samples = [make_set(folder / f"samples-{count}.h5", count, seed=count) for count in counts]
    os.environ["HSEVAL_CACHE"] = str(folder / "cache")
    score = [sys.executable, "-m", "hseval", "score"]
    subprocess.run([sys.executable, "-m", "hseval", "cache", "clear"], check=True, stdout=subprocess.DEVNULL)
    libraries = measure_library_bytes()
    runs: dict[str, Any] = {}
    first = run_and_watch([*score, str(reference), "--ref", str(reference)])
    runs["reference alone (fills the cache)"] = first
    for count, path in zip(counts, samples, strict=True):
        runs[f"{count} samples, cached reference"] = run_and_watch([*score, str(path), "--ref", str(reference)])
    runs[f"{counts[-1]} samples again"] = run_and_watch([*score, str(samples[-1]), "--ref", str(reference)])
    for name, run in runs.items():
        run["beyond_libraries_gib"] = (run["peak_bytes"] - run["processes"] * libraries) / 2**30
        print(f"{name:38} {run['seconds']:7.1f} s  {run['beyond_libraries_gib']:5.2f} GiB beyond the libraries")
    record(
        "scoring/score", {"size": SIZE, "bands": 16, "reference": REFERENCE, "library_bytes": libraries, "runs": runs}
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hseval-benchmark")
    parser.add_argument("--cubes", type=int, nargs="+", default=[500, 1000, 2000])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(vars(arguments), default=str))
    main(arguments.folder, arguments.cubes)
