"""Stratified sampling of training pixels: some of every structure, of its surroundings and of the rest."""

from __future__ import annotations

import numpy as np

from hseval.utils.arrays import Array, BoolArray, Float32Array, IntArray

BOUNDARY_WIDTH = 2  # px around structures, which decide where a mask ends
MAX_WEIGHT = 50.0  # the weight of one drawn pixel, at most


def draw_pixels(
    labels: BoolArray, valid: BoolArray, quota: int, rng: np.random.Generator
) -> tuple[IntArray, Float32Array]:
    """Return indices into the valid pixels, ascending, and their weights: how many pixels each represents.

    Up to ``quota`` pixels are drawn of every combination of structures (as many of small ones as of large ones), and
    twice as many of their surroundings and of the rest.

    Args:
        labels: bool ``(structure, y, x)``.
        valid: bool ``(y, x)``.
        quota: pixels a stratum.
        rng: of the draws.
    """
    strata = _compute_strata(labels)[valid]
    indices, weights = [], []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        sample_size = quota * (2 if stratum <= 0 else 1)
        sampled = rng.choice(members, sample_size, replace=False) if len(members) > sample_size else members
        indices.append(sampled)
        weights.append(np.full(len(sampled), min(len(members) / len(sampled), MAX_WEIGHT), dtype=np.float32))
    order = np.argsort(np.concatenate(indices))
    return np.concatenate(indices)[order], np.concatenate(weights)[order]


def _compute_strata(labels: BoolArray) -> Array:
    """Return int ``(y, x)``: the combination of structures, -1 near one, 0 elsewhere."""
    from scipy import ndimage

    flat = labels.reshape(len(labels), -1)
    _, combination = np.unique(flat, axis=1, return_inverse=True)
    is_structure = np.asarray(labels.any(axis=0))
    is_boundary = ndimage.binary_dilation(is_structure, iterations=BOUNDARY_WIDTH) & ~is_structure
    strata = np.where(is_structure, combination.reshape(is_structure.shape) + 1, 0)
    return np.where(is_boundary, -1, strata)
