"""Five generators on two data sets, trained and scored with the same commands, in one table with intervals.

    python -m benchmarks.evidence.leaderboard [--out FOLDER] [--only DATA[:GENERATOR]] [--tables]

``phantom``: eyes of 64 x 64 x 16; 256 for training, 256 as reference, 128 samples. The oracle is the phantom itself,
with another seed. The run of ``make ldm-demo`` in ``demo/ldm`` (on the same eyes) is used for ``ldm`` if it exists.
``indian-pines``: the 72 patches of 12 x 12 x 16 of the scene's columns 0 to 72, a third of their squares for training,
a third as reference; the oracle is the last third: real patches that are used for nothing else.

Finished steps are not repeated: the same command resumes, also within a training. Each generator's time and settings
are recorded. The networks are trained for only minutes on one CPU core, so the table does not show what they can reach.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.evidence.leaderboard_page import build_record, format_page, make_table
from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, METRICS, BoardFiles, Settings
from benchmarks.helpers.machine import record
from benchmarks.ldm.runs import REFERENCE_SEED, TRAINING_SEED, draw_eyes, prepare_folder, read_seconds, run_command
from hseval import open_set
from hseval.data.writer import write_set
from hseval.utils.atomic_files import write_text
from hseval.utils.random_streams import create_rng

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "leaderboard.md"
ORACLE_SEED, SAMPLING_SEED = 4, 3
EYES, SIZE, OVERSAMPLING = 256, 64, 4


def main(arguments: argparse.Namespace) -> int:
    """Run the unfinished generators and write the tables; return the exit status."""
    prepare_folder(arguments.out)
    only_data, _, only_generator = (arguments.only or "").partition(":")
    for name in BOARDS:
        if only_data in ("", name) and not arguments.tables:
            files = BoardFiles(arguments.out, name, arguments.ldm)
            make_real_sets(files)
            for generator in GENERATORS:
                if only_generator in ("", generator):
                    run_generator(files, generator)
    boards = {name: BoardFiles(arguments.out, name, arguments.ldm) for name in BOARDS}
    missing = [
        f"{name}:{generator}"
        for name in BOARDS
        for generator in GENERATORS
        if generator not in boards[name].list_finished()
    ]
    if missing:
        print(f"not finished: {', '.join(missing)}", file=sys.stderr)
    tables = {name: make_table(files) for name, files in boards.items() if len(files.list_finished()) > 1}
    write_text(PAGE, format_page(boards, tables))
    record("evidence/leaderboard", {name: build_record(files) for name, files in boards.items()})
    print("\n\n".join(tables.values()))
    return 0


def make_real_sets(files: BoardFiles) -> None:
    """Write the training and reference sets shared by all generators."""
    if files.data == "phantom":
        for name, seed in (("train", TRAINING_SEED), ("reference", REFERENCE_SEED)):
            draw_eyes(files.get_real_path(name), EYES, seed=seed, size=SIZE, oversampling=OVERSAMPLING)
        return
    if not files.get_samples_path("oracle").exists():  # the last one written
        sys.path.insert(0, str(ROOT / "examples"))
        from indian_pines_patches import write_patches

        assign_squares(write_patches(files.folder / "patches.h5"), files.folder)


def assign_squares(path: Path, folder: Path) -> None:
    """Assign the squares of patches to train, reference and oracle; no square is divided.

    Masks are omitted: of 24 patches, too few contain any one class for a score by structure.
    """
    patches = open_set(str(path))
    assert patches.groups is not None
    squares = sorted(set(patches.groups))
    order = create_rng(0, "leaderboard squares").permutation(len(squares))
    third = len(squares) // 3
    for number, part_name in enumerate(("train", "reference", "oracle")):
        assigned = {squares[index] for index in order[number * third : (number + 1) * third]}
        part = patches.subset([index for index, group in enumerate(patches.groups) if group in assigned])
        cubes = list(part)
        write_set(
            folder / f"{part_name}.h5",
            np.stack([cube.data for cube in cubes]),
            wavelengths=part.wavelengths,
            ids=part.ids,
            groups=part.groups,
            units=part.info.units,
        )


def run_generator(files: BoardFiles, generator: str) -> None:
    """Train, sample and score one generator, except for finished steps; start over if its settings have changed."""
    settings = BOARDS[files.data].settings[generator]
    stored, expected = files.folder / f"{generator}.settings.json", json.loads(json.dumps(settings))
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) != expected:
        for outdated in (files.get_samples_path(generator), files.get_report_path(generator)):
            outdated.unlink(missing_ok=True)
        shutil.rmtree(files.folder / f"{generator}-run", ignore_errors=True)
        write_text(
            files.clock, json.dumps({k: v for k, v in read_seconds(files.clock).items() if generator not in k}) + "\n"
        )
    write_text(stored, json.dumps(settings) + "\n")
    if not files.get_samples_path(generator).exists():
        checkpoint = train_generator(files, generator, settings)
        draw_samples(files, generator, checkpoint)
    if not files.get_report_path(generator).exists():
        samples, train = files.get_samples_path(generator), files.get_real_path("train")
        options = ("--ref", files.get_real_path("reference"), "--train", train, "--metrics", METRICS, "--device", "cpu")
        run_command("score", samples, *options, "--json", files.get_report_path(generator))


def train_generator(files: BoardFiles, generator: str, settings: Settings) -> Path | None:
    """Return the generator's checkpoint, training or resuming it if necessary; None for the oracle."""
    if generator == "oracle":
        return None
    run = files.folder / f"{generator}-run"
    if generator == "ldm" and files.demo:
        shutil.copyfile(files.demo / "seconds.json", files.folder / "ldm-demo-seconds.json")
        return files.demo / "run"
    options = [word for key, value in settings.items() if key != "preset" for word in ("--set", f"{key}={value}")]
    resuming = run.is_dir() and any(run.iterdir())
    with files.add_cpu_seconds(f"training {generator}"):
        if generator == "ldm":
            start = ("--resume",) if resuming else ("--preset", settings["preset"], *options)
            run_command("train-ldm", files.get_real_path("train"), "--out", run, *start)
        else:
            resume = ("--set", "resume=true") if resuming and generator != "pca" else ()
            run_command("train", generator, files.get_real_path("train"), "--out", run, "--force", *options, *resume)
    return run


def draw_samples(files: BoardFiles, generator: str, checkpoint: Path | None) -> None:
    """Draw the samples of a generator, or those of the phantom as oracle."""
    name, seed = (generator, SAMPLING_SEED) if checkpoint else ("phantom", ORACLE_SEED)
    phantom = ["--set", f"size={SIZE}", "--set", f"oversampling={OVERSAMPLING}"]
    options = ["--checkpoint", checkpoint] if checkpoint else phantom
    target = ("-n", BOARDS[files.data].samples, "--seed", seed, "--out", files.get_samples_path(generator))
    with files.add_cpu_seconds(f"sampling {generator}"):
        run_command("sample", name, *options, *target)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "leaderboard", help="folder for all files")
    parser.add_argument(
        "--ldm", type=Path, default=ROOT / "demo" / "ldm", help="folder of make ldm-demo, used if it exists"
    )
    parser.add_argument("--only", metavar="DATA[:GENERATOR]", help="run only this")
    parser.add_argument(
        "--tables", action="store_true", help="run nothing; write page and record from finished reports"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main(parse_arguments()))
