"""Train and sample the bundled generator on 256 phantom eyes and compare it with targets, beyond the scores alone.

Everything is run as a user types it. Training and reference eyes are drawn with different seeds; ``pca`` is trained on
the same eyes. The exit status is 1 if a target is missed.

    python -m benchmarks.ldm.demo [--out FOLDER] [--preset demo] [--resume-ok]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ldm.bars import GENERATORS, Bar, compute_bars, summarize_score
from benchmarks.ldm.reconstructions import HeldOut, compute_figures, open_run, reconstruct_held_out
from benchmarks.ldm.runs import (
    REFERENCE_SEED,
    TRAINING_SEED,
    Eyes,
    add_seconds,
    draw_eyes,
    format_markdown,
    load_eyes,
    measure_anatomy,
    prepare_folder,
    read_seconds,
    run_command,
    save_result,
)
from hseval import ArraySet, Report, open_set, score
from hseval.core.options import options_to_dict
from hseval.generator_kit import save_contact_sheet
from hseval_ldm.training.run_config import CONFIG_FILE as CONFIG
from hseval_ldm.training.run_config import read_config

ROOT = Path(__file__).resolve().parents[2]
SAMPLING_SEED = 3
MAX_SHOWN = 5  # real eyes and samples each: a contact sheet shows ten columns at twice their size


def main(arguments: argparse.Namespace) -> int:
    """Train, sample, score, compare, draw; return the exit status."""
    out: Path = arguments.out
    if (out / "run" / CONFIG).exists() and not arguments.resume_ok:
        raise SystemExit(f"{out / 'run'}: holds a run; resume it with --resume-ok, or name another folder with --out")
    prepare_folder(out)
    prepare_samples(out, arguments)
    reference = load_eyes(open_set(out / "reference.h5"))
    held_out = reconstruct_held_out(open_run(out / "run", str(out / "train.h5")))
    samples = {name: load_eyes(open_set(out / f"{name}.h5")) for name in GENERATORS}
    reports = compute_scores(out, held_out)
    anatomies = {name: measure_anatomy(eyes) for name, eyes in (("reference", reference), *samples.items())}
    reconstruction = compute_figures(held_out)
    seconds = read_seconds(out / "seconds.json")
    bars = compute_bars(reports, anatomies, reconstruction, seconds.get("training", float("nan")))
    print_tables(bars, reports)
    pictures = out if arguments.no_record else ROOT / "docs" / "images"
    draw_pictures(pictures, reference, samples["ldm"], held_out)
    result = {
        "cubes": arguments.cubes,
        "size": arguments.size,
        "samples": arguments.samples,
        "options": options_to_dict(read_config(out / "run").options),
        "seconds": seconds,
        "bars": [bar._asdict() for bar in bars],
        "held_out": {"cubes": len(held_out.real), **reconstruction},
        "anatomy": anatomies,
        "scores": {name: {s.name: summarize_score(s) for s in report.scores} for name, report in reports.items()},
    }
    save_result("ldm_demo", result, out, recorded=not arguments.no_record)
    return 0 if all(bar.met or bar.stricter for bar in bars) else 1


def prepare_samples(out: Path, arguments: argparse.Namespace) -> None:
    """Draw eyes, train both generators and sample them; training resumes where it was interrupted."""
    again = not arguments.resume_ok
    for name, seed in (("train", TRAINING_SEED), ("reference", REFERENCE_SEED)):
        path = out / f"{name}.h5"
        draw_eyes(
            path, arguments.cubes, seed=seed, size=arguments.size, oversampling=arguments.oversampling, again=again
        )
    clock, run, train = out / "seconds.json", out / "run", out / "train.h5"
    resuming = (run / CONFIG).exists()
    if not resuming:
        clock.unlink(missing_ok=True)
    elif "training" not in read_seconds(clock):
        raise SystemExit(
            f"{run}: was started without {clock.name}, so its training time is unknown; name another folder with --out"
        )
    with add_seconds(clock, "training"):
        run_command("train-ldm", train, "--out", run, *(("--resume",) if resuming else ("--preset", arguments.preset)))
    run_command("train", "pca", train, "--out", out / "pca", "--force")
    for name, checkpoint in (("ldm", run), ("pca", out / "pca")):
        target = ("-n", arguments.samples, "--seed", SAMPLING_SEED, "--out", out / f"{name}.h5", "--force")
        with add_seconds(clock, f"sampling {name}", anew=True):
            run_command("sample", name, "--checkpoint", checkpoint, *target)


def compute_scores(out: Path, held_out: HeldOut) -> dict[str, Report]:
    """Return the reports on both generators' samples and on the held-out eyes' reconstructions."""
    reference = str(out / "reference.h5")
    reports = {
        name: score(str(out / f"{name}.h5"), ref=reference, train=str(out / "train.h5"), device="cpu")
        for name in GENERATORS
    }
    metrics = ["fid", "spectral-kl", "ms-ssim"]
    return reports | {"reconstructions": score(held_out.finished, ref=reference, metrics=metrics, device="cpu")}


def print_tables(bars: list[Bar], reports: dict[str, Report]) -> None:
    """Print both tables."""
    rows = [{**bar._asdict(), "met": bar.format_outcome()} for bar in bars]
    columns = {"what": ("", ""), "value": ("ldm", ".4g"), "pca": ("pca", ".4g"), "real": ("real", ".4g")}
    print("\n" + format_markdown(rows, columns | {"asked": ("required", ""), "met": ("", "")}) + "\n")
    scores = [{"of": name, **summarize_score(score)} for name, report in reports.items() for score in report.scores]
    columns = {
        "of": ("scores of", ""),
        "metric": ("metric", ""),
        "value": ("value", ".4g"),
        "spread": ("std", ".2g"),
    }
    columns |= {"floor": ("floor", ".4g"), "floor_spread": ("std", ".2g"), "verdict": ("", "")}
    print(format_markdown(scores, columns) + "\n")


def draw_pictures(folder: Path, reference: Eyes, samples: Eyes, held_out: HeldOut) -> None:
    """Draw real eyes and samples, and held-out eyes with their reconstructions: the first of each, not selected."""
    folder.mkdir(parents=True, exist_ok=True)
    count = min(MAX_SHOWN, len(reference.cubes), len(samples.cubes))
    titles = [f"{kind} {number}" for kind in ("real", "sample") for number in range(count)]
    first = [np.concatenate([a[:count], b[:count]]) for a, b in pair_layers(reference, samples)]
    draw_sheet(folder / "ldm-demo.png", first, titles, reference)
    real, decoded = load_eyes(held_out.real), load_eyes(held_out.finished)
    count = min(MAX_SHOWN, len(real.cubes))
    titles = [f"{kind} {number}" for number in range(count) for kind in ("real", "decoded")]
    pairs = [np.stack([a[:count], b[:count]], axis=1).reshape(-1, *a.shape[1:]) for a, b in pair_layers(real, decoded)]
    draw_sheet(folder / "ldm-reconstructions.png", pairs, titles, real)


def pair_layers(a: Eyes, b: Eyes) -> list[tuple[Any, Any]]:
    """Return the cubes of both sets, then each mask of both."""
    return [(a.cubes, b.cubes), *((a.masks[name], b.masks[name]) for name in a.masks)]


def draw_sheet(path: Path, layers: list[Any], titles: list[str], like: Eyes) -> None:
    """Draw cubes and masks, in the order of :func:`pair_layers`."""
    masks = dict(zip(like.masks, layers[1:], strict=True))
    save_contact_sheet(ArraySet(layers[0], wavelengths=like.nm, masks=masks, ids=titles, location=path.stem), path)
    print(f"drawn: {path}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "demo" / "ldm", help="folder for all files")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--resume-ok", action="store_true", help="resume the run in the folder")
    parser.add_argument("--cubes", type=int, default=256, help="eyes to train on, and as many to compare with")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--size", type=int, default=64, help="side of the images, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--no-record", action="store_true", help="write results and pictures to the folder only")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main(parse_arguments()))
