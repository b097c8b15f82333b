"""Patches of Indian Pines for ``hseval qualify``: one part of the scene for development, one held back.

Only columns 0 to 72 may be used to choose or tune anything (an extractor, a segmenter, a degradation's severities). The
patches of columns 75 and up are for the final, published table. Class labels serve as structures. Patches touch, so
those of a square of 2 x 2 patches form a group, which is never divided.

    python examples/indian_pines_patches.py OUT.h5 [--held-back]
    hseval qualify OUT.h5

Needs ``tensorly``, which ships the scene (Baumgardner, Biehl & Landgrebe 2015, doi:10.4231/R7RX991C).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from indian_pines import CLASSES, every_nth_band, load_scene

from hseval.data.writer import write_set

PATCH, SQUARE = 12, 2  # side of a patch in px; side of a group in patches
TUNING, HELD_BACK = (0, 73), (75, 145)  # columns, first and past the last


def list_corners(columns: tuple[int, int], rows: int) -> list[tuple[int, int]]:
    """Return the upper left corners of the patches that fit between two columns."""
    first, end = columns
    down, across = rows // PATCH, (end - first) // PATCH
    return [(i * PATCH, first + j * PATCH) for i in range(down) for j in range(across)]


def write_patches(path: Path, *, held_back: bool = False) -> Path:
    """Write the patches of one part as a set."""
    columns = HELD_BACK if held_back else TUNING
    scene, nm, labels = load_scene()
    cubes, bands = every_nth_band(scene, nm)
    corners = list_corners(columns, rows=labels.shape[0])
    cuts = [(slice(y, y + PATCH), slice(x, x + PATCH)) for y, x in corners]
    masks = {name: np.stack([labels[cut] == number for cut in cuts]) for number, name in enumerate(CLASSES, start=1)}
    side = PATCH * SQUARE
    write_set(
        path,
        np.stack([cubes[:, *cut] for cut in cuts]),
        wavelengths=bands,
        masks={name: mask for name, mask in masks.items() if mask.any()},
        ids=[f"patch-{y:03d}-{x:03d}" for y, x in corners],
        groups=[f"square-{y // side:02d}-{(x - columns[0]) // side:02d}" for y, x in corners],
        units="AVIRIS radiance counts",
    )
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--held-back", action="store_true", help="columns 75 and up: not for tuning")
    arguments = parser.parse_args()
    print(write_patches(arguments.out, held_back=arguments.held_back))
