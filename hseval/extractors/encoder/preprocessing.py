"""The encoder's input: a cube at fixed wavelengths in nm, standardized, filled smoothly outside its field.

The nodes lie where the encoder was fitted, whatever bands a cube has. The spectrum is taken as piecewise linear
between band centers and averaged under a hat around each node. Nodes that a cube's bands do not cover are hidden
from the network, which was fitted with hidden nodes; bands beyond the nodes are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hseval.data.field_of_view import compute_canvas_shape, erode_fov, fill_outside
from hseval.extractors.spectral_windows import compute_interpolation_weights
from hseval.utils.arrays import Array, BoolArray, Float32Array, Float64Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import torch

EXTRACTOR_LABEL = "extractor 'encoder'"
QUADRATURE_POINTS = 64  # quadrature points under a hat
MIN_COVERED_SHARE = 0.5  # share of the nodes that a cube's bands have to cover


class EncoderInput(NamedTuple):
    """Node images on a canvas ``(n, node, y, x)``, 0 where hidden or constant, and the eroded field ``(n, y, x)``."""

    images: torch.Tensor
    field: torch.Tensor


def compute_node_wavelengths(wavelengths: Array, count: int) -> Float64Array:
    """Return ``min(count, band)`` centers in nm, evenly from the first band to the last."""
    return np.linspace(float(wavelengths[0]), float(wavelengths[-1]), min(count, len(wavelengths)))


def compute_node_weights(wavelengths: Array, nodes: Float64Array) -> Float64Array:
    """Return the weights ``(node, band)`` that average a spectrum under hats around ``nodes``.

    A node's weights sum to 1; they are 0 if the bands do not reach half-way from the node to its neighbors.

    Raises:
        HsevalError: bands lie beyond the nodes, or cover fewer than half of them.
    """
    bands = np.asarray(wavelengths, dtype=np.float64)
    low, high, gap = nodes[0], nodes[-1], nodes[1] - nodes[0]
    ranges = f"bands from {bands[0]:g} to {bands[-1]:g} nm, but its weights were fitted on {low:g} to {high:g} nm"
    hint = "fit new weights on cubes with these bands: hseval fit-extractor"
    if bands[0] < low - 0.5 * gap or bands[-1] > high + 0.5 * gap:
        raise HsevalError(f"{EXTRACTOR_LABEL}: {ranges}; bands beyond would be ignored, so {hint}")
    # Half a node's gap is allowed for at either end: resampled sets stop short of the nominal ends.
    covered = (np.maximum(nodes - 0.5 * gap, low) >= bands[0] - 0.5 * gap) & (
        np.minimum(nodes + 0.5 * gap, high) <= bands[-1] + 0.5 * gap
    )
    if covered.mean() < MIN_COVERED_SHARE:
        raise HsevalError(f"{EXTRACTOR_LABEL}: {ranges}; less than half is covered, so {hint}")
    offsets = gap * ((np.arange(2 * QUADRATURE_POINTS) + 0.5) / QUADRATURE_POINTS - 1)
    nm = np.clip(nodes[:, None] + offsets, low, high)
    height = np.where(nm == nodes[:, None] + offsets, 1 - np.abs(offsets) / gap, 0)
    weights = compute_interpolation_weights(bands, nm.ravel()).reshape(*nm.shape, len(bands))
    averaging: Float64Array = np.einsum("ns,nsb->nb", height / height.sum(axis=1, keepdims=True), weights)
    averaging[~covered] = 0
    return averaging


def resample_to_nodes(cubes: Float32Array, valid: BoolArray, weights: Float64Array) -> torch.Tensor:
    """Return the images at the nodes, float32 ``(n, node, y, x)``, 0 where not ``valid`` (n, y, x); on the CPU."""
    import torch

    pixels = torch.from_numpy(np.where(valid[:, None], cubes, np.float32(0)).astype(np.float32, copy=False))
    flat = torch.from_numpy(weights.astype(np.float32)) @ pixels.flatten(start_dim=2)
    return flat.reshape(len(cubes), len(weights), *valid.shape[1:])


def standardize_and_fill(
    images: torch.Tensor, valid: BoolArray, center: torch.Tensor, scale: torch.Tensor, *, margin: int = 0
) -> EncoderInput:
    """Return node images, standardized and filled where they are not valid.

    Args:
        images: ``(n, node, y, x)``, of one bounding box.
        valid: ``(n, y, x)``.
        center: ``(node,)``, subtracted.
        scale: ``(node,)``, divided by.
        margin: px of fill beyond the image, at least.
    """
    import torch

    field = torch.from_numpy(erode_fov(valid)).to(images.device)
    standard = (images - center[:, None, None]) / scale[:, None, None]
    canvas = compute_canvas_shape(*valid.shape[1:], margin=margin)
    filled = fill_outside(torch.where(field[:, None], standard, 0), field, canvas=canvas)
    inside = torch.zeros(len(valid), *canvas, dtype=torch.bool, device=images.device)
    inside[:, : valid.shape[1], : valid.shape[2]] = field
    return EncoderInput(filled, inside)
