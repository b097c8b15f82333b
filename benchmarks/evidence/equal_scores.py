"""Two checkouts, the same commands: are all numbers equal?

    python -m benchmarks.evidence.equal_scores OLD NEW [--out FOLDER]

Runs the demo (96 px), ``--metrics all``, a score with a segmenter, a small qualify, Indian Pines and a smoke training
with samples and their score in both checkouts, each with a cache of its own, and compares every number of every file
that they leave, by name: reports (of version 1 in the form of version 2), qualify reports, training logs, cubes and
weights. Words may differ, numbers may not. Finished checkouts are not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.evidence.report_versions import upgrade_report

PLUGINS = ("pca", "ndi", "monai", "diffusers")
# Not functions of the input alone: times, memory, paths; and the versions of JSON formats.
IGNORED_KEYS = {"provenance", "version", "seconds_left", "steps_per_s", "cubes_per_s", "memory_gib"}
STEPS: tuple[tuple[str, ...], ...] = (
    ("hseval", "sample", "phantom", "-n", "160", "--set", "size=96", "--seed", "1", "--out", "train.h5"),
    ("hseval", "sample", "phantom", "-n", "160", "--set", "size=96", "--seed", "2", "--out", "real.h5"),
    ("hseval", "train", "pca", "train.h5", "--out", "pca"),
    ("hseval", "sample", "pca", "--checkpoint", "pca", "-n", "160", "--seed", "3", "--out", "samples.h5"),
    ("hseval", "score", "samples.h5", "--ref", "real.h5", "--train", "train.h5", "--json", "demo.json"),
    ("hseval", "sample", "phantom", "-n", "60", "--set", "size=64", "--seed", "4", "--out", "small-train.h5"),
    ("hseval", "sample", "phantom", "-n", "60", "--set", "size=64", "--seed", "5", "--out", "small-real.h5"),
    ("hseval", "train", "pca", "small-train.h5", "--out", "small-pca"),
    ("hseval", "sample", "pca", "--checkpoint", "small-pca", "-n", "60", "--seed", "6", "--out", "small.h5"),
    ("hseval", "score", "small.h5", "--ref", "small-real.h5", "--train", "small-train.h5", "--metrics", "all",
     "--json", "all.json"),
    ("hseval", "score", "small.h5", "--ref", "small-real.h5", "--segmenter", "pixels", "--json", "segmenter.json"),
    ("hseval", "qualify", "small-real.h5", "--degradations", "blur,noise,duplicates,copy-noise", "--json",
     "qualify.json"),
    ("hseval", "train-ldm", "small-train.h5", "--out", "ldm", "--preset", "smoke"),
    ("hseval", "sample", "ldm", "--checkpoint", "ldm", "-n", "12", "--seed", "7", "--out", "ldm.h5"),
    ("hseval", "score", "ldm.h5", "--ref", "small-real.h5", "--train", "small-train.h5", "--json", "ldm.json"),
)  # fmt: skip
INDIAN_PINES = """
import runpy
from pathlib import Path
reports = runpy.run_path("{checkout}/examples/indian_pines.py")["main"](Path("indian-pines"))
for name, report in reports.items():
    report.save(f"indian-pines-{{name}}.json")
"""


def run(checkout: Path, folder: Path) -> None:
    """Run all steps of one checkout in a folder, unless that was done."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    paths = [checkout, *(checkout / "plugins" / name for name in PLUGINS)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HSEVAL_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    commands = [[sys.executable, "-m", *step] for step in STEPS]
    commands.append([sys.executable, "-c", INDIAN_PINES.format(checkout=checkout)])
    for number, command in enumerate(commands):
        mark = folder / f"step-{number}"
        if mark.exists():
            continue
        print(checkout.name, *command[2:8], flush=True)
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        mark.touch()
    (folder / "done").touch()


def read_numbers(path: Path) -> dict[str, Any]:
    """Return what must be equal in a file, by name: its numbers, or the hashes of its arrays."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        is_report = isinstance(content, dict) and content.get("format") == "hseval-report"
        return dict(_walk(upgrade_report(content) if is_report else content))
    if path.suffix == ".jsonl":
        return dict(_walk([json.loads(line) for line in path.read_text().splitlines()]))
    if path.suffix == ".h5":
        import h5py

        with h5py.File(path) as file:
            arrays = {"cubes": file["cubes"][()]}
    else:
        from safetensors.numpy import load_file

        arrays = load_file(path)
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


def _walk(value: Any, name: str = "") -> Iterator[tuple[str, float | bool]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if key not in IGNORED_KEYS:
                yield from _walk(item, f"{name}.{key}")
    elif isinstance(value, int | float):
        yield name, value


def compare(old: Path, new: Path) -> list[tuple[str, int, int]]:
    """Return each file of the old checkout with how many numbers it holds and how many differ (-1: a file is gone)."""
    suffixes = {".json", ".jsonl", ".h5", ".safetensors"}
    names = sorted(
        str(path.relative_to(old))
        for path in old.rglob("*")
        if path.suffix in suffixes and "cache" not in path.parts and path.name not in {"config.json", "options.json"}
    )
    rows = []
    for name in names:
        before = read_numbers(old / name)
        if not (new / name).exists():  # its content may lie in another file now
            rows.append((name, len(before), -1))
            continue
        after = read_numbers(new / name)
        differ = sum(before.get(number) != after.get(number) for number in before.keys() | after.keys())
        rows.append((name, len(before), differ))
    return rows


def main() -> int:
    """Run both checkouts and print the table; 1 where a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="checkout of the commit before")
    parser.add_argument("new", type=Path, help="checkout of the commit after")
    parser.add_argument("--out", type=Path, default=Path("demo/equal-scores"), help="folder for all that is made")
    options = parser.parse_args()
    out = options.out.resolve()
    for name in ("old", "new"):
        run(getattr(options, name).resolve(), out / name)
    rows = compare(out / "old", out / "new")
    for name, count, differ in rows:
        result = "gone" if differ < 0 else f"{differ} DIFFER" if differ else "equal"
        print(f"{name:50} {count:7} numbers  {result}")
    return int(any(differ > 0 for *_, differ in rows))


if __name__ == "__main__":
    sys.exit(main())
