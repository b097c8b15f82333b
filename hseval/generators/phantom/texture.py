"""Smooth random fields on the retina, the same eye at any resolution: mottled pigment, choroidal vessels."""

from __future__ import annotations

import math

import numpy as np

from hseval.utils.arrays import FloatArray

LATTICE_SIZE = 64  # cells after which the lattice of random numbers repeats: more than an image spans


def draw_smooth_noise(rng: np.random.Generator, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return a smooth field of about unit variance at ``x``, ``y`` (in cells of its lattice), float32.

    Cubic splines through a lattice of normal numbers (value noise); the same numbers are drawn whatever the positions.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    lattice = rng.standard_normal((LATTICE_SIZE, LATTICE_SIZE)).astype(np.float32)
    coefficients = spline_filter(lattice, order=3, output=np.float32, mode="grid-wrap")
    return map_coordinates(coefficients, [y, x], order=3, output=np.float32, mode="grid-wrap", prefilter=False)


def draw_mottling(rng: np.random.Generator, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the relative density of pigment around 1: patches of 1.2 mm and grains of 0.2 mm."""
    coarse, fine = draw_smooth_noise(rng, x / 1.2, y / 1.2), draw_smooth_noise(rng, x / 0.2, y / 0.2)
    return np.exp(0.08 * coarse + 0.06 * fine)


def draw_choroidal_vessels(rng: np.random.Generator, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the share of large choroidal vessel in the choroid's depth, 0 to 1.

    Two sheets of wide sinuous bands, the zero lines of noise that is stretched along the vessels' course; the sheets
    run at an angle, so that together they are a network. Bands are 0.15 to 0.4 mm wide and 0.5 to 1 mm apart.
    """
    tilt = rng.uniform(-0.5, 0.5)
    bend = 0.35 * draw_smooth_noise(rng, x / 2.5, y / 2.5), 0.35 * draw_smooth_noise(rng, x / 2.5, y / 2.5)
    first = _draw_sinuous_bands(rng, x + bend[0], y + bend[1], angle=tilt + 0.4, width=0.55)
    second = _draw_sinuous_bands(rng, x + bend[1], y - bend[0], angle=tilt - 0.4, width=0.65)
    return first + 0.8 * second * (1.0 - first)


def _draw_sinuous_bands(
    rng: np.random.Generator, x: FloatArray, y: FloatArray, *, angle: float, width: float
) -> FloatArray:
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    noise = draw_smooth_noise(rng, along / (6.0 * width), across / width)
    return np.asarray(np.exp(-((noise / np.float32(0.38)) ** 2)))
