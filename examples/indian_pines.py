"""Score real open data: Indian Pines (AVIRIS, 1992), cut into patches of 16 bands.

The scene is split into a checkerboard of blocks with gaps: both halves have the same land cover and share no pixel.
One half is the reference. The other is scored against it twice: unchanged, which no metric should find different from
real, and degraded (spectra shifted by one band, images blurred by 1 px), which ``fid`` and ``spectral-kl`` should
detect. Class labels serve as structures.

    python examples/indian_pines.py [FOLDER]

Needs ``tensorly``, which ships the scene (Baumgardner, Biehl & Landgrebe 2015, doi:10.4231/R7RX991C).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import hseval
from hseval.data.writer import write_set
from hseval.renderers.terminal import TerminalRenderer

PATCH, GAP, BANDS = 12, 2, 16
SHIFT_BANDS, BLUR_PX = 1.0, 1.0
CLASSES = (
    "alfalfa", "corn-notill", "corn-mintill", "corn", "grass-pasture", "grass-trees", "grass-pasture-mowed",
    "hay-windrowed", "oats", "soybean-notill", "soybean-mintill", "soybean-clean", "wheat", "woods",
    "buildings-grass-trees-drives", "stone-steel-towers",
)  # fmt: skip

Array = NDArray[Any]


def load_scene() -> tuple[Array, Array, Array]:
    """Return the scene ``(band, y, x)``, its wavelengths in nm, ascending, and its class labels ``(y, x)``."""
    from tensorly.datasets import load_indian_pines

    scene = load_indian_pines()
    labels, wavelengths = scene["ticks"]
    # The spectrometers of AVIRIS overlap, so the wavelengths decrease twice: sort the bands by wavelength.
    order = np.argsort(wavelengths, kind="stable")
    cube = np.moveaxis(scene["tensor"], -1, 0)[order].astype(np.float32)
    return cube, np.asarray(wavelengths)[order], labels


def every_nth_band(cube: Array, wavelengths: Array, shift: float = 0.0) -> tuple[Array, Array]:
    """Return 16 bands over the whole spectrum; with a shift (in bands), interpolated off their nominal centers."""
    indices = np.linspace(5, len(cube) - 6, BANDS).round()
    low = np.floor(indices + shift).astype(int)
    weight = (indices + shift - low).astype(np.float32)[:, None, None]
    return (1 - weight) * cube[low] + weight * cube[low + 1], wavelengths[indices.astype(int)]


def checkerboard(size: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the corners of the black and of the white blocks."""
    step = PATCH + GAP
    corners = [(i, j) for i in range(size // step) for j in range(size // step)]
    black, white = ([(i * step, j * step) for i, j in corners if (i + j) % 2 == parity] for parity in (0, 1))
    return black, white


def write_half(path: Path, cube: Array, wavelengths: Array, labels: Array, corners: list[tuple[int, int]]) -> Path:
    """Write the patches at the given corners as a set; every block is a group of its own."""
    cuts = [(slice(y, y + PATCH), slice(x, x + PATCH)) for y, x in corners]
    masks = {name: np.stack([labels[cut] == number for cut in cuts]) for number, name in enumerate(CLASSES, start=1)}
    names = [f"block-{y:03d}-{x:03d}" for y, x in corners]
    write_set(
        path,
        np.stack([cube[:, *cut] for cut in cuts]),
        wavelengths=wavelengths,
        masks={name: mask for name, mask in masks.items() if mask.any()},
        ids=names,
        groups=names,
        units="AVIRIS radiance counts",
    )
    return path


def make_sets(folder: Path) -> tuple[Path, Path, Path]:
    """Write the reference, the held-out half and the degraded one; return their paths."""
    scene, nm, labels = load_scene()
    black, white = checkerboard(labels.shape[0])
    real, bands = every_nth_band(scene, nm)
    shifted, _ = every_nth_band(scene, nm, shift=SHIFT_BANDS)
    blurred = ndimage.gaussian_filter(shifted, (0, BLUR_PX, BLUR_PX))
    return (
        write_half(folder / "reference.h5", real, bands, labels, black),
        write_half(folder / "held-out.h5", real, bands, labels, white),
        write_half(folder / "degraded.h5", blurred, bands, labels, white),
    )


def main(folder: Path) -> dict[str, hseval.Report]:
    """Make the sets, score both halves and print the reports."""
    folder.mkdir(parents=True, exist_ok=True)
    reference, held_out, degraded = make_sets(folder)
    reports = {}
    for name, samples in (("held-out", held_out), ("degraded", degraded)):
        reports[name] = hseval.score(samples, ref=reference, metrics=["fid", "spectral-kl", "ms-ssim"])
        print(f"\n{name} half of Indian Pines\n")
        TerminalRenderer().render(reports[name], sys.stdout)
    return reports


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "indian-pines"))
