"""The encoder of ``pretraining.py``: the one that ``hseval fit-extractor`` fits, and its frozen features."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pretraining_eyes import Eyes
from torch import Tensor
from torch.nn import functional

from hseval.extractors.encoder.network import Network
from hseval.extractors.encoder.options import FitOptions
from hseval.extractors.encoder.preprocessing import (
    compute_node_wavelengths,
    compute_node_weights,
    resample_to_nodes,
    standardize_and_fill,
)
from hseval.extractors.encoder.training import TrainingPatches, fit_network

BATCH_SIZE = 16  # eyes
MIN_STD = 1e-4  # regularizes the log standard deviations

Array = NDArray[Any]


class EyeFeatures(NamedTuple):
    """Features of one eye, the input of the probes.

    Attributes:
        pixels: features of the pixels in the field, ``(pixel, d)``.
        classes: of these pixels, ``(pixel,)``.
        features: of the whole eye, ``(e,)``.
    """

    pixels: Array
    classes: Array
    features: Array


def pretrain(eyes: Eyes, options: FitOptions, *, seed: int) -> Network:
    """Return the network after ``options.steps`` steps of predicting hidden parts of the cubes of ``eyes``."""
    patches = TrainingPatches(
        eyes.as_set(), compute_node_wavelengths(eyes.nm, options.nodes), seed=seed, on_progress=_ignore_progress
    )
    return fit_network(patches, options, seed=seed, device="cpu", on_progress=_ignore_progress)


def build_untrained(eyes: Eyes, options: FitOptions, *, seed: int) -> Network:
    """Return the initial network of :func:`pretrain`, changed only by one negligible step.

    It has the eyes' means and standard deviations by band, as any other network has those of its pretraining data.
    """
    return pretrain(eyes, dataclasses.replace(options, steps=1, rate=1e-9), seed=seed)


@torch.no_grad()
def compute_features(network: Network | None, eyes: Eyes) -> Iterator[EyeFeatures]:
    """Yield the frozen features of each eye.

    A pixel has its spectrum, and the features of the network's three levels with nothing hidden, interpolated to it.
    An eye has the means and log standard deviations, over its field, of the levels, or of the spectrum without a
    network.
    """
    for batch in _split(eyes):
        spectra = torch.from_numpy(batch.cubes)
        levels = spectra[:, :0] if network is None else _compute_levels(network, batch)
        pixels = torch.cat([spectra, levels], dim=1).movedim(1, -1).numpy()
        moments = _compute_moments(spectra if network is None else levels, torch.from_numpy(batch.field)).numpy()
        for maps, inside, classes, features in zip(pixels, batch.field, batch.classes, moments, strict=True):
            yield EyeFeatures(maps[inside], classes[inside], features)


def _split(eyes: Eyes) -> Iterator[Eyes]:
    for start in range(0, len(eyes), BATCH_SIZE):
        yield eyes.at(np.arange(start, min(start + BATCH_SIZE, len(eyes))))


def _compute_levels(network: Network, eyes: Eyes) -> Tensor:
    """Return the features of all levels at full size, ``(n, channel, y, x)``."""
    nodes = compute_node_wavelengths(eyes.nm, len(network.center))
    images = resample_to_nodes(eyes.cubes, eyes.field, compute_node_weights(eyes.nm, nodes))
    # The field is round, so the fill around it needs no margin.
    images = standardize_and_fill(images, eyes.field, network.center, network.scale, margin=0).images
    with _capture_levels(network) as levels:
        network(images, torch.ones_like(images))
    height, width = eyes.field.shape[1:]
    full_size = [functional.interpolate(x, images.shape[2:], mode="bilinear", align_corners=False) for x in levels]
    return torch.cat(full_size, dim=1)[..., :height, :width]  # the image is in the top left corner of the padded one


def _compute_moments(values: Tensor, field: Tensor) -> Tensor:
    """Return each channel's mean and log standard deviation ``(n, 2 channel)`` over the field ``(n, y, x)``."""
    weight = (field / field.sum(dim=(1, 2), keepdim=True))[:, None].float()
    mean = (values * weight).sum(dim=(2, 3), keepdim=True)
    variance = ((values - mean).square() * weight).sum(dim=(2, 3))
    return torch.cat([mean[..., 0, 0], 0.5 * (variance + MIN_STD**2).log()], dim=1).double()


@contextlib.contextmanager
def _capture_levels(network: Network) -> Iterator[list[Tensor]]:
    """Collect the features of the network's levels, finest first, from a call in the block."""
    levels: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, inputs, output: levels.append(output)) for block in network.blocks]
    try:
        yield levels
    finally:
        for hook in hooks:
            hook.remove()


def _ignore_progress(label: str, done: int, total: int) -> None:
    """Report no progress."""
