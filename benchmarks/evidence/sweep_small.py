"""A sweep of eight small latent diffusion models, killed in its middle and resumed, ends in the five-panel figure.

Everything is run as a user types it: eyes are drawn, ``hseval sweep`` begins, is ended by SIGKILL once some runs are
done and the next is training, and the same command goes on. What was done before the kill must not be done again.

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
EXPECTED = {"runs": 8, "fits": 8, "stages": 5}  # the perceptual features (of no steps) and four autoencoders
UNET = Path("diffusion", "last.safetensors")  # the first checkpoint of a U-Net
SETS = {"train.h5": 1, "ref.h5": 2}  # name -> seed


def main(given: argparse.Namespace) -> int:
    """Draw, sweep, kill, go on, check, record; return the exit status."""
    out: Path = given.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    environment = {**os.environ, "HSEVAL_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1"}
    for name, seed in SETS.items():
        typed = ["sample", "phantom", "-n", CUBES, "--set", f"size={SIZE}", "--seed", seed, "--out", out / name]
        subprocess.run(command(*typed), check=True, env=environment)
    plan, folder = Path(shutil.copy(PLAN, out)), out / "sweep"
    began = time.monotonic()
    at_kill = killed(command("sweep", plan, "--out", folder), folder, environment)
    done = stamps(folder)
    ended = subprocess.run(command("sweep", plan, "--out", folder), check=False, env=environment)
    wall = time.monotonic() - began
    results, after = load_results(folder), stamps(folder)
    redone = [name for name in done if after.get(name) != done[name]]
    # What is done again under another key leaves the first one's mark as it was: more is done then than was asked for.
    made = {kind: sum(name.startswith(kind) for name in after) for kind in EXPECTED}
    again = {kind: count for kind, count in made.items() if count != EXPECTED[kind]}
    complete = (
        ended.returncode == 0 and not results.failed_rows and all(row.scores and row.timing for row in results.rows)
    )
    print(f"killed with {at_kill}; redone after it: {redone or again or 'nothing'}; {made}, {wall:.0f} s")
    if not given.no_record:
        shutil.copy(folder / "pareto.png", ROOT / "docs" / "images" / "sweep-small.png")
        rows = build_table(results, results.plot.x, results.plot.y)
        timings = {row.label: row.timing for row in results.rows}
        record("evidence/sweep_small", {
            "cubes": CUBES, "size": SIZE, "killed_with": at_kill, "done_before": len(done), "redone": redone,
            "done": made,
            "wall_seconds": wall, "cpu_seconds": cpu_seconds(), "runs": rows, "timing": timings,
        })  # fmt: skip
    return int(not complete or bool(redone) or bool(again))


def command(*arguments: Any) -> list[str]:
    """Return a command of hseval, as typed."""
    return [sys.executable, "-m", "hseval", *map(str, arguments)]


def killed(typed: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Start the sweep and end it by SIGKILL while the run after the first few is being fitted; return what was done."""
    process = subprocess.Popen(typed, env=environment)
    while process.poll() is None:
        runs = list(folder.glob("runs/*/done.json"))
        begun = [path for path in folder.glob("fits/*/files") if not (path.parent / "done.json").exists()]
        if len(runs) >= DONE_BEFORE and any((path / UNET).exists() for path in begun):
            process.send_signal(signal.SIGKILL)
            process.wait()
            stages, fits = (len(list(folder.glob(f"{kind}/*/done.json"))) for kind in ("stages", "fits"))
            return {"runs": len(runs), "stages": stages, "fits": fits, "fits_begun": len(begun)}
        time.sleep(0.1)
    raise SystemExit("the sweep ended before it could be killed")


def stamps(folder: Path) -> dict[str, int]:
    """Return when each stage, fit and run was noted as done, ns."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("*/*/done.json")}


def cpu_seconds() -> float:
    """Return the processor time of all commands."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "sweep", help="folder, emptied first")
    parser.add_argument("--no-record", action="store_true", help="leave the result in the folder alone")
    raise SystemExit(main(parser.parse_args()))
