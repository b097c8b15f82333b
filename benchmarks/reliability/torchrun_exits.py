"""How often commands on two ranks of torchrun end with another status than 0.

    python -m benchmarks.reliability.torchrun_exits --runs 50 --command train-ldm
    python -m benchmarks.reliability.torchrun_exits --runs 10 --command score

Fails when a run does; the message of each failure is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.sets import make_texture_set, save_set
from tests.helpers.two_ranks import run_torchrun

TRAINING_STEPS = ("features_steps=2", "ae_steps=4", "ldm_steps=4")


def main() -> None:
    """Run one command again and again; exit 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--command", choices=("train-ldm", "score"), default="train-ldm")
    parser.add_argument("--seed", type=int, default=0, help="of the cubes and of the command")
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(arguments.runs):
            sets = [
                save_set(folder / f"{role}-{index}.h5", make_texture_set(16, size=16, bands=3, seed=seed))
                for role, seed in (("samples", arguments.seed + index), ("real", arguments.seed + index + 1))
            ]
            start = time.monotonic()
            done = run_torchrun(
                "-m", "hseval", *_build_command(arguments.command, sets, folder / f"run-{index}", index)
            )
            failures += done.returncode != 0
            print(f"run {index + 1}: status {done.returncode}, {time.monotonic() - start:.1f} s", flush=True)
            if done.returncode:
                print(done.stderr, flush=True)
    print(f"{arguments.command}: {failures} of {arguments.runs} runs failed")
    sys.exit(1 if failures else 0)


def _build_command(command: str, sets: list[Path], out: Path, seed: int) -> list[object]:
    samples, real = sets
    if command == "score":
        return ["score", samples, "--ref", real, "--metrics", "fid", "--quick", "--seed", seed, "--device", "cpu"]
    steps = [f"--set={assignment}" for assignment in TRAINING_STEPS]
    return ["train-ldm", real, "--out", out, "--preset", "smoke", *steps, "--seed", seed, "--device", "cpu"]


if __name__ == "__main__":
    main()
