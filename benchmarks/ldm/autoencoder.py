"""Reconstruction of held-out phantom eyes: VQ-GAN and VQ-VAE, with k-means every epoch, first only and off.

All six are trained from the same seed for the same number of steps, on the same eyes and under the same perceptual
encoder; the last checkpoint is judged. What is finished is kept in the folder and not done again, what was cut off
goes on.

    python -m benchmarks.ldm.autoencoder --out FOLDER [--steps 1500] [--preset demo]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from benchmarks.ldm.reconstructions import figures, held_out, opened
from benchmarks.ldm.runs import TRAINING_SEED, as_json, begin, counted, draw_eyes, keep, markdown, once, spent
from hseval import open_set
from hseval.core.cubes import CubeSet
from hseval.core.options import options_to_dict
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint
from hseval_ldm.training.run import train
from hseval_ldm.training.run_config import CONFIG_FILE as CONFIG

MODELS, KMEANS = ("vqgan", "vqvae"), ("every", "first", "off")
FEATURES = "features"
COLUMNS = {
    "model": ("model", ""),
    "kmeans": ("k-means", ""),
    "psnr": ("PSNR, dB", ".1f"),
    "angle": ("angle, degrees", ".2f"),
    "ms_ssim": ("MS-SSIM", ".4f"),
    "kept_all": ("vessels' contrast kept", ".2f"),
    "kept_artery": ("arteries'", ".2f"),
    "kept_vein": ("veins'", ".2f"),
    "kept_thin": ("thin ones'", ".2f"),
    "kept_wide": ("wide ones'", ".2f"),
    "dice_artery": ("Dice, artery", ".2f"),
    "dice_vein": ("vein", ".2f"),
    "dice_onh": ("disc", ".2f"),
    "perplexity": ("perplexity", ".0f"),
    "codes": ("codes used", ".0f"),
    "rfid": ("rFID", ".0f"),
    "seconds": ("seconds", ".0f"),
}


def main(given: argparse.Namespace) -> None:
    """Train what is not finished, print the table and record it."""
    out: Path = given.out
    begin(out)
    eyes = f"eyes-{given.cubes}-{given.size}-{given.oversampling}.h5"
    kind = {"size": given.size, "oversampling": given.oversampling}
    data = open_set(draw_eyes(out / eyes, given.cubes, seed=TRAINING_SEED, **kind))
    settings = {name: getattr(given, name) for name in ("preset", "steps", "cubes", "size", "oversampling", "seed")}
    settings["options"] = options_to_dict(LdmOptions(preset=given.preset, **changed(given)))
    refuse_others(out, settings)
    rows = []
    for model in given.models:
        for kmeans in given.kmeans:
            print(f"{model}, k-means {kmeans}", flush=True)
            rows.append(row(out, data, settings, given, model=model, kmeans=kmeans))
    print(markdown(rows, COLUMNS))
    keep("ldm_autoencoder", {**settings, "rows": rows}, out, recorded=not given.no_record)


def row(
    out: Path, data: CubeSet, settings: dict[str, Any], given: argparse.Namespace, *, model: str, kmeans: str
) -> dict[str, Any]:
    """Return the figures of one autoencoder, trained if it is not yet."""
    run = out / f"{model}-{kmeans}"
    clock = out / "seconds.json"

    def measured() -> dict[str, Any]:
        run.mkdir(exist_ok=True)
        share_features(out, data, run, given)
        with counted(clock, run.name):
            trained(data, run, given, stage="autoencoder", model=model, kmeans=kmeans)
        found = held_out(opened(run, data))
        return {**figures(found), "seconds": spent(clock)[run.name], "held_out": len(found.real)}

    return {"model": model, "kmeans": kmeans, **once(out / f"{run.name}.json", settings, measured)}


def share_features(out: Path, data: CubeSet, run: Path, given: argparse.Namespace) -> None:
    """Train the perceptual encoder, once for all, and give it to a run."""
    own = out / FEATURES
    with counted(out / "seconds.json", FEATURES):
        own.mkdir(exist_ok=True)
        trained(data, own, given, stage=FEATURES)
    if (own / FEATURES).exists() and not checkpoint.has_checkpoint(run / FEATURES):
        shutil.copytree(own / FEATURES, run / FEATURES, dirs_exist_ok=True)


def trained(data: CubeSet, run: Path, given: argparse.Namespace, **chosen: Any) -> None:
    """Train one stage to its end, from where it is."""
    options = LdmOptions(preset=given.preset, **changed(given), **chosen, resume=(run / CONFIG).exists())
    train(options, data, run, seed=given.seed, device="cpu")


def changed(given: argparse.Namespace) -> dict[str, Any]:
    """Return how the options differ from the preset's: judged at the end alone, so that the last checkpoint is kept."""
    return {"ae_steps": given.steps, "score_every": given.steps}


def refuse_others(out: Path, settings: dict[str, Any]) -> None:
    """Stop if the folder holds runs of other settings: they would go on under these."""
    there, mine = once(out / "settings.json", {}, lambda: settings), as_json(settings)
    if there != mine:
        differ = ", ".join(sorted(name for name in mine if there.get(name) != mine[name]))
        raise SystemExit(f"{out}: holds runs with other settings ({differ} differ); name another folder by --out")


def options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--steps", type=int, default=1500, help="of each autoencoder")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--kmeans", nargs="+", choices=KMEANS, default=KMEANS)
    parser.add_argument("--cubes", type=int, default=256, help="eyes, some of them held out")
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-record", action="store_true", help="leave the result in the folder alone")
    return parser.parse_args()


if __name__ == "__main__":
    main(options())
