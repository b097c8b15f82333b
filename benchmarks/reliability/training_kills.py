"""Kills trainings at random times and runs them again until they end: the files must be those of an undisturbed one.

    python -m benchmarks.reliability.training_kills --seed 13 --kills 20

Kill i hits ``train-ldm``, ``train pca`` or ``fit-extractor`` in turn, at a time that is a function of (seed, i).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.helpers.sets import make_texture_set, save_set

STEPS = ["--set=features_steps=2", "--set=ae_steps=6", "--set=ldm_steps=6", "--set=checkpoint_every=2"]


def main() -> None:
    """Kill and compare; exit 1 if a file differs or is left over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = save_set(folder / "set.h5", make_texture_set(16, size=16, bands=4))
        commands = {
            "ldm": ["train-ldm", data, "--preset", "smoke", *STEPS, "--device", "cpu", "--out"],
            "pca": ["train", "pca", data, "--out"],
            "fit-extractor": ["fit-extractor", data, "--set=steps=40", "--set=width=4", "--device", "cpu", "--out"],
        }
        expected, seconds = {}, {}
        for kind, command in commands.items():
            start = time.monotonic()
            assert _run(*command, _name_output(folder / "whole", kind)) == 0
            seconds[kind] = time.monotonic() - start
            expected[kind] = _read_weights(folder / "whole")
            shutil.rmtree(folder / "whole")
        for number in range(arguments.kills):
            kind = list(commands)[number % 3]
            share = float(np.random.default_rng([arguments.seed, number]).uniform(0.15, 0.7))
            out = _name_output(folder / f"run-{number}", kind)
            status = _run(*commands[kind], out, kill_after=share * seconds[kind])
            resume = ["--resume"] if kind == "ldm" and (out / "config.json").exists() else []
            again = _run(*commands[kind], out, *resume, *(["--force"] if kind != "ldm" else []))
            is_equal = _read_weights(folder / f"run-{number}") == expected[kind]
            faults += again != 0 or not is_equal
            print(f"{number}: {kind}, status {status}, then {again}, equal: {is_equal}", flush=True)
    print(f"{faults} faults in {arguments.kills} kills")
    sys.exit(1 if faults else 0)


def _name_output(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / "weights.safetensors" if kind == "fit-extractor" else folder / "run"


def _run(*arguments: object, kill_after: float | None = None) -> int:
    command = [sys.executable, "-m", "hseval", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
    if process.returncode > 0:
        print(errors, flush=True)
    return process.returncode


def _read_weights(folder: Path) -> dict[str, bytes]:
    """Return all files but logs, configuration, pictures and the copies of earlier checkpoints."""
    left_out = {"previous.safetensors", "config.json", "metrics.jsonl", ".training.lock"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in left_out}


if __name__ == "__main__":
    main()
