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

from hseval.extractors.encoder.checkpoint import FitOptions
from hseval.extractors.encoder.network import Network
from hseval.extractors.encoder.preprocessing import (
    compute_node_wavelengths,
    compute_node_weights,
    resample_to_nodes,
    standardize_and_fill,
)
from hseval.extractors.encoder.training import TrainingPatches, fit_network

AT_ONCE = 16  # eyes
FLAT = 1e-4  # deviations below this count as none

Array = NDArray[Any]


class Described(NamedTuple):
    """One eye as the probes see it.

    Attributes:
        pixels: those in the field, ``(pixel, d)``.
        classes: of these pixels, ``(pixel,)``.
        row: of the whole eye, ``(e,)``.
    """

    pixels: Array
    classes: Array
    row: Array


def pretrain(eyes: Eyes, options: FitOptions, *, seed: int) -> Network:
    """Return the network after ``options.steps`` steps of predicting hidden parts of the cubes of ``eyes``."""
    pieces = TrainingPatches(
        eyes.as_set(), compute_node_wavelengths(eyes.nm, options.nodes), seed=seed, on_progress=_silent
    )
    return fit_network(pieces, options, seed=seed, device="cpu", on_progress=_silent)


def untrained(eyes: Eyes, options: FitOptions, *, seed: int) -> Network:
    """Return the network that :func:`pretrain` starts from, to within a step of nothing.

    It knows the eyes' means and deviations by band, as any other network does of what it was pretrained on.
    """
    return pretrain(eyes, dataclasses.replace(options, steps=1, rate=1e-9), seed=seed)


@torch.no_grad()
def described(network: Network | None, eyes: Eyes) -> Iterator[Described]:
    """Yield the frozen features of each eye.

    A pixel has its spectrum, and the features of the network's three levels with nothing hidden, interpolated to it.
    An eye has the means and log deviations, over its field, of the levels; of the spectrum where there is no network.
    """
    for part in _parts(eyes):
        spectra = torch.from_numpy(part.cubes)
        levels = spectra[:, :0] if network is None else _levels(network, part)
        pixels = torch.cat([spectra, levels], dim=1).movedim(1, -1).numpy()
        rows = _moments(spectra if network is None else levels, torch.from_numpy(part.field)).numpy()
        for maps, inside, classes, row in zip(pixels, part.field, part.classes, rows, strict=True):
            yield Described(maps[inside], classes[inside], row)


def _parts(eyes: Eyes) -> Iterator[Eyes]:
    for start in range(0, len(eyes), AT_ONCE):
        yield eyes.at(np.arange(start, min(start + AT_ONCE, len(eyes))))


def _levels(network: Network, eyes: Eyes) -> Tensor:
    """Return the features of all levels at full size, ``(n, channel, y, x)``."""
    nodes = compute_node_wavelengths(eyes.nm, len(network.centre))
    images = resample_to_nodes(eyes.cubes, eyes.field, compute_node_weights(eyes.nm, nodes))
    # The field is round, so its fill has room on the canvas without a margin.
    seen = standardize_and_fill(images, eyes.field, network.centre, network.scale, margin=0).images
    with _caught(network) as levels:
        network(seen, torch.ones_like(seen))
    height, width = eyes.field.shape[1:]
    whole = [functional.interpolate(each, seen.shape[2:], mode="bilinear", align_corners=False) for each in levels]
    return torch.cat(whole, dim=1)[..., :height, :width]  # the picture is in the canvas' top left corner


def _moments(values: Tensor, field: Tensor) -> Tensor:
    """Return each channel's mean and log deviation ``(n, 2 channel)`` over the field ``(n, y, x)``."""
    weight = (field / field.sum(dim=(1, 2), keepdim=True))[:, None].float()
    mean = (values * weight).sum(dim=(2, 3), keepdim=True)
    power = ((values - mean).square() * weight).sum(dim=(2, 3))
    return torch.cat([mean[..., 0, 0], 0.5 * (power + FLAT**2).log()], dim=1).double()


@contextlib.contextmanager
def _caught(network: Network) -> Iterator[list[Tensor]]:
    """Catch the features of the network's levels, finest first, while it is called inside."""
    levels: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, given, made: levels.append(made)) for block in network.blocks]
    try:
        yield levels
    finally:
        for hook in hooks:
            hook.remove()


def _silent(what: str, done: int, total: int) -> None:
    """Report no progress."""
