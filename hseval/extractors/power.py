"""The radial power spectrum of every band: the amount of fine and of coarse structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from hseval.core.cubes import FOV
from hseval.data.field_of_view import erode_fov, find_valid_pixels
from hseval.extractors.radial import MIN_PERIODS, compute_bin_centers, compute_field_taper, compute_radial_power
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array

DENSITY_FLOOR = 1e-10  # of the cube's mean square, added to the density: -100 dB, far below any camera's noise


class RadialPower:
    """Mean power spectral density in radial bins, band by band, in dB of the cube's mean square."""

    name: ClassVar[str] = "power"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "radial power spectrum of every band, in dB of the cube's mean square"
    reads_structures: ClassVar[bool] = False

    def __call__(
        self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]
    ) -> dict[str, Float32Array]:
        """Return the spectra of a batch of cubes ``(n, band, y, x)``.

        Returns:
            ``db`` ``(n, band, 25)``, 10 log10 of the density over the cube's mean square; NaN for a cube without a
            valid pixel. ``modes`` ``(n, 25)``, the approximate number of independent frequencies in each bin; 0 where
            the field is too small to resolve the bin's frequencies, or has none of them (``db`` is then that of the
            nearest bin that has some): ``db`` carries no information there.
        """
        fields = find_valid_pixels(cubes, masks[FOV])
        spectra = [_compute_power_spectrum(cube, field) for cube, field in zip(cubes, fields, strict=True)]
        bins = len(compute_bin_centers())
        return {
            "db": np.stack([db for db, _ in spectra]) if spectra else np.empty((0, cubes.shape[1], bins), np.float32),
            "modes": np.stack([modes for _, modes in spectra]) if spectra else np.empty((0, bins), np.float32),
        }


def _compute_power_spectrum(cube: Float32Array, valid: BoolArray) -> tuple[Float32Array, Float32Array]:
    bins = len(compute_bin_centers())
    if not valid.any():
        return np.full((len(cube), bins), np.nan, np.float32), np.zeros(bins, np.float32)
    mean_square = np.square(cube[:, valid], dtype=np.float64).mean()
    field, images = fill_small_holes(cube, erode_fov(valid[None])[0])
    window = compute_field_taper(field)
    density, share = compute_radial_power(images, window)
    modes = share * np.square(window).sum() ** 2 / np.power(window, 4).sum()
    modes[compute_bin_centers() * np.sqrt(field.sum()) < MIN_PERIODS] = 0
    db = 10 * np.log10(density / (mean_square or 1.0) + DENSITY_FLOOR)
    return _fill_from_nearest(db, share > 0).astype(np.float32), modes.astype(np.float32)


def fill_small_holes(cube: Float32Array, valid: BoolArray) -> tuple[BoolArray, Float32Array]:
    """Return the field with its smallest holes closed, and the cube with these filled smoothly.

    A taper around every dead pixel would leave nothing of the field; filling one changes next to nothing. Holes wider
    than two pixels stay outside.

    Args:
        cube: ``(band, y, x)``.
        valid: bool ``(y, x)``.
    """
    from scipy.ndimage import binary_closing

    closed = np.asarray(binary_closing(np.pad(valid, 2), np.ones((3, 3), dtype=bool)))[2:-2, 2:-2] | valid
    if not (closed & ~valid).any():
        return valid, cube
    import torch

    from hseval.data.field_of_view import compute_canvas_shape, fill_outside

    images = torch.from_numpy(np.where(valid, cube, np.float32(0)))[None]
    filled = fill_outside(images, torch.from_numpy(valid)[None], canvas=compute_canvas_shape(*valid.shape))
    return closed, filled[0, :, : valid.shape[0], : valid.shape[1]].numpy()


def _fill_from_nearest(db: Float64Array, known: BoolArray) -> Float64Array:
    """Return ``db`` ``(band, bin)`` with unknown bins replaced by the nearest known one."""
    if not known.any():
        return db
    known_indices = np.flatnonzero(known)
    nearest = known_indices[np.abs(known_indices[None, :] - np.arange(len(known))[:, None]).argmin(axis=1)]
    return db[:, nearest]
