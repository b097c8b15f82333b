"""A sweep of eight small latent diffusion models, killed and resumed, ends in the five-panel figure.

Everything is run as a user types it: eyes are drawn, ``hseval sweep`` starts, is ended by SIGKILL once some runs are
finished and the next is training, and is resumed with the same command. Nothing finished before may be repeated.

    python -m benchmarks.evidence.sweep_small [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import record
from hseval.sweep.pareto.front import build_table
from hseval.sweep.results import load_results

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "examples" / "sweep-small.toml"
CUBES, SIZE = 96, 48
DONE_BEFORE = 3  # runs, when the first command is killed
EXPECTED = {"runs": 8, "fits": 8, "stages": 5}  # stages: the perceptual features (of no steps) and four autoencoders
UNET = Path("diffusion", "last.safetensors")  # the first checkpoint of a U-Net
SETS = {"train.h5": 1, "ref.h5": 2}  # name -> seed


def main(arguments: argparse.Namespace) -> int:
    """Draw, sweep, kill, resume, check, record; return the exit status."""
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    environment = {**os.environ, "HSEVAL_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1"}
    for name, seed in SETS.items():
        words = ["sample", "phantom", "-n", CUBES, "--set", f"size={SIZE}", "--seed", seed, "--out", out / name]
        subprocess.run(build_command(*words), check=True, env=environment)
    plan, folder = Path(shutil.copy(PLAN, out)), out / "sweep"
    start = time.monotonic()
    at_kill = run_until_killed(build_command("sweep", plan, "--out", folder), folder, environment)
    before = read_finish_times(folder)
    process = subprocess.run(build_command("sweep", plan, "--out", folder), check=False, env=environment)
    wall = time.monotonic() - start
    results, after = load_results(folder), read_finish_times(folder)
    redone = [name for name in before if after.get(name) != before[name]]
    # Work repeated under another key leaves the first finish time as it was, but increases the counts.
    counts = {kind: sum(name.startswith(kind) for name in after) for kind in EXPECTED}
    wrong_counts = {kind: count for kind, count in counts.items() if count != EXPECTED[kind]}
    complete = (
        process.returncode == 0 and not results.failed_rows and all(row.scores and row.timing for row in results.rows)
    )
    print(f"killed with {at_kill}; repeated after it: {redone or wrong_counts or 'nothing'}; {counts}, {wall:.0f} s")
    if not arguments.no_record:
        shutil.copy(folder / "pareto.png", ROOT / "docs" / "images" / "sweep-small.png")
        rows = build_table(results, results.plot.x, results.plot.y)
        timings = {row.label: row.timing for row in results.rows}
        record("evidence/sweep_small", {
            "cubes": CUBES, "size": SIZE, "killed_with": at_kill, "done_before": len(before), "redone": redone,
            "done": counts,
            "wall_seconds": wall, "cpu_seconds": get_cpu_seconds(), "runs": rows, "timing": timings,
        })  # fmt: skip
    return int(not complete or bool(redone) or bool(wrong_counts))


def build_command(*arguments: Any) -> list[str]:
    """Return a command of hseval."""
    return [sys.executable, "-m", "hseval", *map(str, arguments)]


def run_until_killed(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Start the sweep and kill it while the run after the first few is fitted; return counts of finished steps."""
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        runs = list(folder.glob("runs/*/done.json"))
        unfinished = [path for path in folder.glob("fits/*/files") if not (path.parent / "done.json").exists()]
        if len(runs) >= DONE_BEFORE and any((path / UNET).exists() for path in unfinished):
            process.send_signal(signal.SIGKILL)
            process.wait()
            stages, fits = (len(list(folder.glob(f"{kind}/*/done.json"))) for kind in ("stages", "fits"))
            return {"runs": len(runs), "stages": stages, "fits": fits, "fits_begun": len(unfinished)}
        time.sleep(0.1)
    raise SystemExit("the sweep ended before it could be killed")


def read_finish_times(folder: Path) -> dict[str, int]:
    """Return when each stage, fit and run was finished, in ns."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("*/*/done.json")}


def get_cpu_seconds() -> float:
    """Return the processor time of all commands."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "sweep", help="folder, emptied first")
    parser.add_argument("--no-record", action="store_true", help="write the result to the folder only")
    raise SystemExit(main(parser.parse_args()))
