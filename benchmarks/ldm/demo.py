"""The bundled generator on 256 phantom eyes: trained, sampled and held against bars that scores alone do not show.

Everything is run as a user types it. Training and reference eyes are drawn with different seeds; ``pca`` is trained on
the same eyes. Exit status 1 if a bar is missed.

    python -m benchmarks.ldm.demo [--out FOLDER] [--preset demo] [--resume-ok]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ldm.bars import GENERATORS, Bar, held_against, summary
from benchmarks.ldm.eye_measures import FIELD
from benchmarks.ldm.reconstructions import HeldOut, figures, held_out, opened
from benchmarks.ldm.runs import (
    REFERENCE_SEED,
    TRAINING_SEED,
    Eyes,
    anatomy,
    begin,
    command,
    counted,
    draw_eyes,
    in_memory,
    keep,
    markdown,
    spent,
)
from hseval import Report, open_set, score
from hseval.core.options import options_to_dict
from hseval_ldm.training.contact_sheet import save_contact_sheet
from hseval_ldm.training.run_config import CONFIG_FILE as CONFIG
from hseval_ldm.training.run_config import read_config

ROOT = Path(__file__).resolve().parents[2]
SAMPLING_SEED = 3
SHOWN = 5  # real eyes and samples each: ten columns are shown at twice their size


def main(given: argparse.Namespace) -> int:
    """Train, sample, score, compare, draw; return the exit status."""
    out: Path = given.out
    if (out / "run" / CONFIG).exists() and not given.resume_ok:
        raise SystemExit(f"{out / 'run'}: holds a run; go on with it by --resume-ok, or name another folder by --out")
    begin(out)
    make(out, given)
    reference = in_memory(open_set(out / "reference.h5"))
    found = held_out(opened(out / "run", str(out / "train.h5")))
    samples = {name: in_memory(open_set(out / f"{name}.h5")) for name in GENERATORS}
    reports = scored(out, found)
    seen = {name: anatomy(eyes) for name, eyes in (("reference", reference), *samples.items())}
    kept = figures(found)
    seconds = spent(out / "seconds.json")
    bars = held_against(reports, seen, kept, seconds.get("training", float("nan")))
    tell(bars, reports)
    pictures = out if given.no_record else ROOT / "docs" / "images"
    draw(pictures, reference, samples["ldm"], found)
    result = {
        "cubes": given.cubes,
        "size": given.size,
        "samples": given.samples,
        "options": options_to_dict(read_config(out / "run").options),
        "seconds": seconds,
        "bars": [bar._asdict() for bar in bars],
        "held_out": {"cubes": len(found.real), **kept},
        "anatomy": seen,
        "scores": {name: {s.name: summary(s) for s in report.scores} for name, report in reports.items()},
    }
    keep("ldm_demo", result, out, recorded=not given.no_record)
    return 0 if all(bar.met or bar.stricter for bar in bars) else 1


def make(out: Path, given: argparse.Namespace) -> None:
    """Draw eyes, train both generators and sample them; training goes on where it was cut off."""
    again = not given.resume_ok
    for name, seed in (("train", TRAINING_SEED), ("reference", REFERENCE_SEED)):
        path = out / f"{name}.h5"
        draw_eyes(path, given.cubes, seed=seed, size=given.size, oversampling=given.oversampling, again=again)
    clock, run, train = out / "seconds.json", out / "run", out / "train.h5"
    going_on = (run / CONFIG).exists()
    if not going_on:
        clock.unlink(missing_ok=True)
    elif "training" not in spent(clock):
        raise SystemExit(
            f"{run}: was begun without {clock.name}, so its time is not known; name another folder by --out"
        )
    with counted(clock, "training"):
        command("train-ldm", train, "--out", run, *(("--resume",) if going_on else ("--preset", given.preset)))
    command("train", "pca", train, "--out", out / "pca", "--force")
    for name, checkpoint in (("ldm", run), ("pca", out / "pca")):
        target = ("-n", given.samples, "--seed", SAMPLING_SEED, "--out", out / f"{name}.h5", "--force")
        with counted(clock, f"sampling {name}", anew=True):
            command("sample", name, "--checkpoint", checkpoint, *target)


def scored(out: Path, found: HeldOut) -> dict[str, Report]:
    """Return hseval's scores of both generators' samples, and of the held-out eyes' reconstructions."""
    reference = str(out / "reference.h5")
    reports = {
        name: score(str(out / f"{name}.h5"), ref=reference, train=str(out / "train.h5"), device="cpu")
        for name in GENERATORS
    }
    metrics = ["fid", "spectral-kl", "ms-ssim"]
    return reports | {"reconstructions": score(found.finished, ref=reference, metrics=metrics, device="cpu")}


def tell(bars: list[Bar], reports: dict[str, Report]) -> None:
    """Print both tables."""
    rows = [{**bar._asdict(), "met": bar.told()} for bar in bars]
    columns = {"what": ("", ""), "value": ("ldm", ".4g"), "pca": ("pca", ".4g"), "real": ("real", ".4g")}
    print("\n" + markdown(rows, columns | {"asked": ("asked for", ""), "met": ("", "")}) + "\n")
    scores = [{"of": name, **summary(each)} for name, report in reports.items() for each in report.scores]
    columns = {
        "of": ("scores of", ""),
        "metric": ("metric", ""),
        "value": ("value", ".4g"),
        "spread": ("spread", ".2g"),
    }
    columns |= {"floor": ("floor", ".4g"), "floor_spread": ("spread", ".2g"), "verdict": ("", "")}
    print(markdown(scores, columns) + "\n")


def draw(folder: Path, reference: Eyes, samples: Eyes, found: HeldOut) -> None:
    """Draw real eyes beside samples, and held-out eyes beside their reconstructions: the first of each, unpicked."""
    folder.mkdir(parents=True, exist_ok=True)
    count = min(SHOWN, len(reference.cubes), len(samples.cubes))
    titles = [f"{what} {number}" for what in ("real", "sample") for number in range(count)]
    first = [np.concatenate([one[:count], two[:count]]) for one, two in both(reference, samples)]
    sheet(folder / "ldm-demo.png", first, titles, reference)
    real, made = in_memory(found.real), in_memory(found.finished)
    count = min(SHOWN, len(real.cubes))
    titles = [f"{what} {number}" for number in range(count) for what in ("real", "decoded")]
    pairs = [np.stack([one[:count], two[:count]], axis=1).reshape(-1, *one.shape[1:]) for one, two in both(real, made)]
    sheet(folder / "ldm-reconstructions.png", pairs, titles, real)


def both(one: Eyes, two: Eyes) -> list[tuple[Any, Any]]:
    """Return the cubes of both, then each mask of both."""
    return [(one.cubes, two.cubes), *((one.masks[name], two.masks[name]) for name in one.masks)]


def sheet(path: Path, layers: list[Any], titles: list[str], like: Eyes) -> None:
    """Draw cubes and masks, in the order of :func:`both`."""
    masks = dict(zip(like.masks, layers[1:], strict=True))
    save_contact_sheet(layers[0], like.nm, out=path, titles=titles, field=masks[FIELD], masks=masks)
    print(f"drawn: {path}")


def options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "ldm", help="folder for all that is made")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--resume-ok", action="store_true", help="go on with what the folder holds")
    parser.add_argument("--cubes", type=int, default=256, help="eyes to train on, and as many to compare with")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--no-record", action="store_true", help="leave results and pictures in the folder alone")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main(options()))
