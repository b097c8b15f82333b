"""Write phantom eyes as a folder of ENVI files with masks, as a camera's software does, for the tutorial in the docs.

    python examples/envi_folder.py FOLDER [-n 64] [--size 64] [--seed 1] [--set OPTION=VALUE ...]

Writes ``FOLDER/eye-00.hdr`` with ``eye-00.img`` (float32, band-sequential, wavelengths in the header), and the
masks as ``FOLDER/masks/<structure>/eye-00.png``. ``--set`` takes the phantom's options.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from spectral.io import envi

from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Sample
from hseval.utils.plural import format_count


def main(argv: Sequence[str] | None = None) -> Path:
    """Write the folder; SystemExit if it exists already."""
    parser = argparse.ArgumentParser(description="phantom eyes as ENVI files with masks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=64, help="number of eyes (64)")
    parser.add_argument("--size", type=int, default=64, help="side in px (64)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the phantom (1)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the phantom")
    arguments = parser.parse_args(argv)
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists already")
    options = dict(option.split("=", 1) for option in arguments.set)
    phantom = get_plugins().build("generator", "phantom", {"size": arguments.size, **options})
    phantom.load(None)
    for i, sample in enumerate(phantom.sample(arguments.n, seed=arguments.seed)):
        write_eye(arguments.folder, f"eye-{i:02d}", sample, phantom.wavelengths)
    print(f"{arguments.folder}: {format_count(arguments.n, 'eye')}")
    return Path(arguments.folder)


def write_eye(folder: Path, stem: str, sample: Sample, wavelengths: Sequence[float]) -> None:
    """Write one cube ``(band, y, x)`` as ENVI, and its masks as PNG."""
    cube, masks, _ = sample
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"wavelength": [f"{center:.2f}" for center in wavelengths], "wavelength units": "nm"}
    image = np.moveaxis(np.asarray(cube, dtype=np.float32), 0, -1)
    envi.save_image(str(folder / f"{stem}.hdr"), image, metadata=metadata, interleave="bsq", dtype=np.float32)
    for name, mask in masks.items():
        (folder / "masks" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(folder / "masks" / name / f"{stem}.png")


if __name__ == "__main__":
    main()
