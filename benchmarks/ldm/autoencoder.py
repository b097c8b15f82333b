"""Reconstruction of held-out phantom eyes: VQ-GAN and VQ-VAE, with k-means every epoch, first only and off.

All six are trained from the same seed for the same number of steps, on the same eyes and with the same perceptual
encoder; the last checkpoint is evaluated. Finished runs in the folder are reused, interrupted ones are resumed.

    python -m benchmarks.ldm.autoencoder --out FOLDER [--steps 1500] [--preset demo]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.ldm.reconstructions import compute_figures, open_run, reconstruct_held_out
from benchmarks.ldm.runs import (
    TRAINING_SEED,
    add_seconds,
    draw_eyes,
    format_markdown,
    load_or_measure,
    prepare_folder,
    read_seconds,
    round_trip_json,
    save_result,
)
from hseval import open_set
from hseval.core.cubes import CubeSet
from hseval.core.options import options_to_dict
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import train
from hseval_ldm.training.run_config import CONFIG_FILE as CONFIG
from hseval_ldm.training.run_config import get_checkpoints

MODELS, KMEANS = ("vqgan", "vqvae"), ("every", "first", "off")
FEATURES = "features"
COLUMNS = {
    "model": ("model", ""),
    "kmeans": ("k-means", ""),
    "psnr": ("PSNR, dB", ".1f"),
    "angle": ("angle, degrees", ".2f"),
    "ms_ssim": ("MS-SSIM", ".4f"),
    "contrast_retention_all": ("vessel contrast retained", ".2f"),
    "contrast_retention_artery": ("arteries", ".2f"),
    "contrast_retention_vein": ("veins", ".2f"),
    "contrast_retention_thin": ("thin vessels", ".2f"),
    "contrast_retention_wide": ("wide vessels", ".2f"),
    "dice_artery": ("Dice, artery", ".2f"),
    "dice_vein": ("vein", ".2f"),
    "dice_onh": ("disc", ".2f"),
    "perplexity": ("perplexity", ".0f"),
    "codes": ("codes used", ".0f"),
    "rfid": ("rFID", ".0f"),
    "seconds": ("seconds", ".0f"),
}


def main(arguments: argparse.Namespace) -> None:
    """Train the unfinished autoencoders, print the table and record it."""
    out: Path = arguments.out
    prepare_folder(out)
    eyes = f"eyes-{arguments.cubes}-{arguments.size}-{arguments.oversampling}.h5"
    kind = {"size": arguments.size, "oversampling": arguments.oversampling}
    data = open_set(draw_eyes(out / eyes, arguments.cubes, seed=TRAINING_SEED, **kind))
    settings = {name: getattr(arguments, name) for name in ("preset", "steps", "cubes", "size", "oversampling", "seed")}
    settings["options"] = options_to_dict(LdmOptions(preset=arguments.preset, **get_overrides(arguments)))
    check_settings(out, settings)
    rows = []
    for model in arguments.models:
        for kmeans in arguments.kmeans:
            print(f"{model}, k-means {kmeans}", flush=True)
            rows.append(measure_autoencoder(out, data, settings, arguments, model=model, kmeans=kmeans))
    print(format_markdown(rows, COLUMNS))
    save_result("ldm_autoencoder", {**settings, "rows": rows}, out, recorded=not arguments.no_record)


def measure_autoencoder(
    out: Path, data: CubeSet, settings: dict[str, Any], arguments: argparse.Namespace, *, model: str, kmeans: str
) -> dict[str, Any]:
    """Return the figures of one autoencoder, trained if necessary."""
    run = out / f"{model}-{kmeans}"
    clock = out / "seconds.json"

    def train_and_measure() -> dict[str, Any]:
        run.mkdir(exist_ok=True)
        share_features(out, data, run, arguments)
        with add_seconds(clock, run.name):
            train_stage(data, run, arguments, stage="autoencoder", model=model, kmeans=kmeans)
        held_out = reconstruct_held_out(open_run(run, data))
        return {**compute_figures(held_out), "seconds": read_seconds(clock)[run.name], "held_out": len(held_out.real)}

    return {"model": model, "kmeans": kmeans, **load_or_measure(out / f"{run.name}.json", settings, train_and_measure)}


def share_features(out: Path, data: CubeSet, run: Path, arguments: argparse.Namespace) -> None:
    """Train the perceptual encoder once for all runs, and copy it into this run."""
    own = out / FEATURES
    with add_seconds(out / "seconds.json", FEATURES):
        own.mkdir(exist_ok=True)
        train_stage(data, own, arguments, stage=FEATURES)
    if (own / FEATURES).exists() and not get_checkpoints(run / FEATURES).exist():
        shutil.copytree(own / FEATURES, run / FEATURES, dirs_exist_ok=True)


def train_stage(data: CubeSet, run: Path, arguments: argparse.Namespace, **values: Any) -> None:
    """Train one stage to its end, resuming an interrupted run."""
    resume = (run / CONFIG).exists()
    options = LdmOptions(preset=arguments.preset, **get_overrides(arguments), **values, resume=resume)
    train(options, data, run, seed=arguments.seed, device="cpu")


def get_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that differ from the preset's: evaluated at the end only, so the last checkpoint counts."""
    return {"ae_steps": arguments.steps, "score_every": arguments.steps}


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Stop if the folder holds runs with other settings, which would be resumed with these."""
    stored, requested = load_or_measure(out / "settings.json", {}, lambda: settings), round_trip_json(settings)
    if stored != requested:
        differ = ", ".join(sorted(name for name in requested if stored.get(name) != requested[name]))
        raise SystemExit(f"{out}: holds runs with other settings ({differ} differ); name another folder with --out")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--steps", type=int, default=1500, help="of each autoencoder")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--kmeans", nargs="+", choices=KMEANS, default=KMEANS)
    parser.add_argument("--cubes", type=int, default=256, help="eyes, some of them held out")
    parser.add_argument("--size", type=int, default=64, help="side of the images, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-record", action="store_true", help="write the result to the folder only")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
