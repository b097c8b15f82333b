"""Make a folder of ENVI files with masks, as a camera's software leaves them: phantom eyes, for the walk in the docs.

    python examples/envi_folder.py FOLDER [-n 64] [--size 64] [--seed 1] [--set OPTION=VALUE ...]

Writes ``FOLDER/eye-00.hdr`` with ``eye-00.img`` (float32, band-sequential, wavelengths in the header), and the
structures as ``FOLDER/masks/<structure>/eye-00.png``. ``--set`` takes the phantom's options.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from spectral.io import envi

from hseval.core.hookspecs import Sample
from hseval.core.plugin_manager import get_plugins


def main(typed: Sequence[str] | None = None) -> Path:
    """Write the folder; SystemExit where it exists already."""
    parser = argparse.ArgumentParser(description="phantom eyes as ENVI files with masks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=64, help="how many (64)")
    parser.add_argument("--size", type=int, default=64, help="px of a side (64)")
    parser.add_argument("--seed", type=int, default=1, help="other seed, other eyes (1)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the phantom")
    given = parser.parse_args(typed)
    if given.folder.exists():
        parser.error(f"{given.folder} exists already")
    options = dict(each.split("=", 1) for each in given.set)
    phantom = get_plugins().build("generator", "phantom", {"size": given.size, **options})
    phantom.load(None)
    for i, sample in enumerate(phantom.sample(given.n, seed=given.seed)):
        write_eye(given.folder, f"eye-{i:02d}", sample, phantom.wavelengths)
    print(f"{given.folder}: {given.n} eyes")
    return Path(given.folder)


def write_eye(folder: Path, stem: str, sample: Sample, wavelengths: Sequence[float]) -> None:
    """Write one cube ``(band, y, x)`` as ENVI, and its masks as PNG beside it."""
    cube, masks, _ = sample
    folder.mkdir(parents=True, exist_ok=True)
    about = {"wavelength": [f"{centre:.2f}" for centre in wavelengths], "wavelength units": "nm"}
    picture = np.moveaxis(np.asarray(cube, dtype=np.float32), 0, -1)
    envi.save_image(str(folder / f"{stem}.hdr"), picture, metadata=about, interleave="bsq", dtype=np.float32)
    for name, mask in masks.items():
        (folder / "masks" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(folder / "masks" / name / f"{stem}.png")


if __name__ == "__main__":
    main()
