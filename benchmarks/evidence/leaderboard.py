"""Five generators on two data sets, made and scored by the same commands, in one table with intervals.

    python -m benchmarks.evidence.leaderboard [--out FOLDER] [--only DATA[:GENERATOR]] [--tables]

``phantom``: eyes of 64 x 64 x 16; 256 to train on, 256 to compare with, 128 samples. The oracle is the phantom itself,
with another seed. What ``make ldm-demo`` left in ``demo/ldm`` (the same eyes) is used for ``ldm`` where it is there.
``indian-pines``: the 72 patches of 12 x 12 x 16 of the scene's columns 0 to 72, a third of their squares to train on, a
third to compare with; the oracle is the last third: real patches that nobody has seen.

Whatever is finished is kept: the same command goes on, training in its middle. Each generator's time and settings are
recorded; the networks are trained for minutes on one CPU core, which is little, and the table says no more than that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

from benchmarks.evidence.leaderboard_page import page, result, table
from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, METRICS, Place, Settings
from benchmarks.helpers.machine import record
from benchmarks.ldm.runs import REFERENCE_SEED, TRAINING_SEED, begin, command, draw_eyes, spent
from hseval import open_set
from hseval.data.writer import write_set
from hseval.utils.atomic_files import write_text
from hseval.utils.random_streams import create_rng

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "leaderboard.md"
ORACLE_SEED, SAMPLING_SEED = 4, 3
EYES, SIZE, OVERSAMPLING = 256, 64, 4


def main(given: argparse.Namespace) -> int:
    """Make what is missing, then the tables; return the exit status."""
    begin(given.out)
    only, _, alone = (given.only or "").partition(":")
    for name in BOARDS:
        if only in ("", name) and not given.tables:
            place = Place(given.out, name, given.ldm)
            real_sets(place)
            for generator in GENERATORS:
                if alone in ("", generator):
                    made(place, generator)
    places = {name: Place(given.out, name, given.ldm) for name in BOARDS}
    missing = [f"{name}:{each}" for name in BOARDS for each in GENERATORS if not places[name].report(each).exists()]
    if missing:
        print(f"not made yet: {', '.join(missing)}", file=sys.stderr)
    tables = {name: table(place) for name, place in places.items() if len(place.finished()) > 1}
    write_text(PAGE, page(places, tables))
    record("evidence/leaderboard", {name: result(place) for name, place in places.items()})
    print("\n\n".join(tables.values()))
    return 0


def real_sets(place: Place) -> None:
    """Make the sets that everyone is trained on and compared with."""
    if place.data == "phantom":
        for name, seed in (("train", TRAINING_SEED), ("reference", REFERENCE_SEED)):
            draw_eyes(place.real(name), EYES, seed=seed, size=SIZE, oversampling=OVERSAMPLING)
        return
    if not place.samples("oracle").exists():  # the last one written
        sys.path.insert(0, str(ROOT / "examples"))
        from indian_pines_patches import write_patches

        divide(write_patches(place.folder / "patches.h5"), place.folder)


def divide(path: Path, folder: Path) -> None:
    """Deal the squares of the patches to train, reference and oracle; no square is divided.

    Masks are left out: of 24 patches, too few show any one class for a score of its own.
    """
    patches = open_set(str(path))
    assert patches.groups is not None
    squares = sorted(set(patches.groups))
    order = create_rng(0, "leaderboard squares").permutation(len(squares))
    third = len(squares) // 3
    for number, part_name in enumerate(("train", "reference", "oracle")):
        mine = {squares[place] for place in order[number * third : (number + 1) * third]}
        part = patches.subset([index for index, group in enumerate(patches.groups) if group in mine])
        cubes = list(part)
        write_set(
            folder / f"{part_name}.h5",
            np.stack([cube.data for cube in cubes]),
            wavelengths=part.wavelengths,
            ids=part.ids,
            groups=part.groups,
            units=part.info.units,
        )


def made(place: Place, generator: str) -> None:
    """Train, sample and score one generator, as far as that is not done."""
    settings = BOARDS[place.data].settings[generator]
    kept, wanted = place.folder / f"{generator}.settings.json", json.loads(json.dumps(settings))
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8")) != wanted:
        for left in (place.samples(generator), place.report(generator)):
            left.unlink(missing_ok=True)
        shutil.rmtree(place.folder / f"{generator}-run", ignore_errors=True)
        write_text(place.clock, json.dumps({k: v for k, v in spent(place.clock).items() if generator not in k}) + "\n")
    write_text(kept, json.dumps(settings) + "\n")
    if not place.samples(generator).exists():
        checkpoint = trained(place, generator, settings)
        draw(place, generator, checkpoint)
    if not place.report(generator).exists():
        samples, train = place.samples(generator), place.real("train")
        against = ("--ref", place.real("reference"), "--train", train, "--metrics", METRICS, "--device", "cpu")
        command("score", samples, *against, "--json", place.report(generator))


def trained(place: Place, generator: str, settings: Settings) -> Path | None:
    """Return the generator's checkpoint, trained as far as it is not; None for the oracle."""
    if generator == "oracle":
        return None
    run = place.folder / f"{generator}-run"
    if generator == "ldm" and place.demo:
        shutil.copyfile(place.demo / "seconds.json", place.folder / "ldm-demo-seconds.json")
        return place.demo / "run"
    given = [word for key, value in settings.items() if key != "preset" for word in ("--set", f"{key}={value}")]
    begun = run.is_dir() and any(run.iterdir())
    with place.counted(f"training {generator}"):
        if generator == "ldm":
            way = ("--resume",) if begun else ("--preset", settings["preset"], *given)
            command("train-ldm", place.real("train"), "--out", run, *way)
        else:
            resume = ("--set", "resume=true") if begun and generator != "pca" else ()
            command("train", generator, place.real("train"), "--out", run, "--force", *given, *resume)
    return run


def draw(place: Place, generator: str, checkpoint: Path | None) -> None:
    """Draw the samples; the oracle of real patches is there already."""
    name, seed = (generator, SAMPLING_SEED) if checkpoint else ("phantom", ORACLE_SEED)
    phantom = ["--set", f"size={SIZE}", "--set", f"oversampling={OVERSAMPLING}"]
    options = ["--checkpoint", checkpoint] if checkpoint else phantom
    target = ("-n", BOARDS[place.data].samples, "--seed", seed, "--out", place.samples(generator))
    with place.counted(f"sampling {generator}"):
        command("sample", name, *options, *target)


def options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "leaderboard", help="folder for all that is made")
    parser.add_argument("--ldm", type=Path, default=ROOT / "demo" / "ldm", help="what make ldm-demo left, if anything")
    parser.add_argument("--only", metavar="DATA[:GENERATOR]", help="make this alone, now")
    parser.add_argument("--tables", action="store_true", help="make nothing; write page and record of what there is")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main(options()))
