"""The camera's geometry: the retinal position of each pixel, the field of view and its central stop."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from hseval.generators.phantom.anatomy import MM_PER_DEGREE, Eye
from hseval.utils.arrays import BoolArray, FloatArray

FIELD_RADIUS_FRACTION = 0.485  # of the round field of view, as a share of the image's side
STOP_RADIUS_FRACTION = 0.035  # of the instrument's central stop, in the same unit
FIELD_RADIUS_MM = 31.0 / 2.0 * MM_PER_DEGREE  # radius of a field of 31 degrees on the retina


@dataclasses.dataclass(frozen=True)
class CameraView:
    """The view of an eye, on a grid of ``grid_size`` x ``grid_size`` samples."""

    eye: Eye
    grid_size: int

    @property
    def samples_per_mm(self) -> float:
        """Samples per mm."""
        return FIELD_RADIUS_FRACTION * self.grid_size / FIELD_RADIUS_MM

    def to_retina(self) -> tuple[FloatArray, FloatArray]:
        """Return retinal positions of the samples' centers: temporal and superior, mm, float32 ``(side, side)``."""
        axis = ((np.arange(self.grid_size) + 0.5 - self.grid_size / 2) / self.samples_per_mm).astype(np.float32)
        right, up = axis[None, :], -axis[:, None]
        cosine, sine = math.cos(self.eye.torsion), math.sin(self.eye.torsion)
        (x, y), hand = self.eye.center, self._handedness
        return x + hand * (cosine * right - sine * up), y + sine * right + cosine * up

    def to_samples(self, points: FloatArray) -> FloatArray:
        """Return the (column, row) of points on the retina; a sample's center lies at a whole number."""
        x, y = self._handedness * (points[:, 0] - self.eye.center[0]), points[:, 1] - self.eye.center[1]
        cosine, sine = math.cos(self.eye.torsion), math.sin(self.eye.torsion)
        right, up = cosine * x + sine * y, cosine * y - sine * x
        middle = (self.grid_size - 1) / 2
        return np.stack([middle + self.samples_per_mm * right, middle - self.samples_per_mm * up], axis=1)

    @property
    def _handedness(self) -> float:
        # A left eye's temporal side is on the image's right, a right eye's on its left.
        return -1.0 if self.eye.is_right else 1.0


@functools.lru_cache(maxsize=4)
def compute_field_mask(size: int, oversampling: int) -> BoolArray:
    """Return the valid pixels, bool ``(size, size)``: at least half inside the round field and outside the stop."""
    axis = (np.arange(size * oversampling, dtype=np.float32) + 0.5) / (size * oversampling) - 0.5
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    return (
        average_blocks((square < FIELD_RADIUS_FRACTION**2) & (square >= STOP_RADIUS_FRACTION**2), oversampling) >= 0.5
    )


def compute_field_coordinates(size: int) -> tuple[FloatArray, FloatArray]:
    """Return the pixels' positions in units of the field's radius, (right, down), each ``(size, size)`` float32."""
    axis = (((np.arange(size) + 0.5) / size - 0.5) / FIELD_RADIUS_FRACTION).astype(np.float32)
    return np.broadcast_to(axis[None, :], (size, size)), np.broadcast_to(axis[:, None], (size, size))


def average_blocks(fine_image: FloatArray | BoolArray, oversampling: int) -> FloatArray:
    """Return the mean over blocks of ``oversampling`` x ``oversampling`` samples, float32."""
    side = fine_image.shape[0] // oversampling
    blocks = fine_image.reshape(side, oversampling, side, oversampling)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))
