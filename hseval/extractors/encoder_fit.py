"""Fitting the encoder's network on real cubes: hide, predict, compare; no labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hseval.errors import HsevalError
from hseval.extractors.encoder_network import LATTICES, PHASES, Lattice, Network, hidden, initialise, unfitted
from hseval.seeds import stream

if TYPE_CHECKING:
    import numpy as np

    from hseval.extractors.encoder_options import FitOptions
    from hseval.extractors.encoder_pieces import Pieces

Told = Callable[[str, int, int], None]
CUT_SHARE = 0.3  # share of the steps in which nodes at the ends of the spectrum are hidden as well
CUT_NODES = 0.4  # of the nodes, at most, at one end
JUDGED = 256  # pieces, at most, on which the fitted network is measured
LEAST = 1e-8  # mean squares below this count as perfect


def fitted(pieces: Pieces, options: FitOptions, *, seed: int, device: str, told: Told) -> Network:
    """Return the network fitted on pieces of real cubes, on the CPU.

    Raises:
        HsevalError: the loss is no number any more.
    """
    network = unfitted(pieces.nodes, options.width)
    initialise(network, seed)
    network.centre.copy_(torch.from_numpy(pieces.centre))
    network.scale.copy_(torch.from_numpy(pieces.scale))
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, options.steps))
    for step in range(options.steps):
        rng = stream(seed, "encoder fit", step)
        images, field = (each.to(device) for each in pieces.batch(options.batch, options.crop, rng))
        lattice = LATTICES[step % len(LATTICES)]
        loss = surprise(network, images, field, *masks(lattice, images.shape, rng, device))
        if not torch.isfinite(loss):
            raise HsevalError(f"fit-extractor: the loss is {loss.item()} at step {step}; a smaller rate may help")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        told("fitting", step + 1, options.steps)
    network.eval().requires_grad_(False)
    measure(network, pieces, options, seed=seed, device=device)
    return network.cpu()


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate's factor: a short rise, then half a cosine down to 0."""
    import math

    rise = max(1, min(50, steps // 10))
    return min(1.0, (step + 1) / rise) * 0.5 * (1 + math.cos(math.pi * step / steps))


def masks(lattice: Lattice, shape: torch.Size, rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Return what is hidden and has to be predicted, and what is shown: float ``(n, node, y, x)``.

    Every cube gets a phase of its own; now and then the ends of the spectrum are hidden besides and not asked for,
    as if a camera had no bands there.
    """
    count, nodes, height, width = shape
    out = torch.zeros(count, nodes, height, width, dtype=torch.bool)
    there = torch.ones(count, nodes, dtype=torch.bool)
    for i in range(count):
        out[i] = hidden(lattice, int(rng.integers(PHASES)), nodes, (height, width))
        if rng.random() < CUT_SHARE:
            low, high = (int(rng.integers(int(CUT_NODES * nodes) + 1)) for _ in range(2))
            low, high = (low, 0) if rng.random() < 0.5 else (0, high)
            there[i, :low] = False
            there[i, nodes - high :] = False
    present = there[:, :, None, None]
    return (out & present).float().to(device), (~out & present).float().to(device)


def surprise(network: Network, images: Tensor, field: Tensor, asked: Tensor, shown: Tensor) -> Tensor:
    """Return the mean over nodes of the log mean square that predictions leave unexplained.

    The logarithm gives each node the same weight, however small its residual: it is the likelihood of residuals
    that are normal with a deviation of each node's own.

    Args:
        network: the network.
        images: ``(n, node, y, x)``.
        field: bool ``(n, y, x)``.
        asked: 1 where a value is hidden and has to be predicted.
        shown: 1 where a value is shown.
    """
    guess = network(images, shown)
    counted = asked * field[:, None]
    total = counted.sum(dim=(0, 2, 3))
    square = ((guess - images).square() * counted).sum(dim=(0, 2, 3)) / total.clamp_min(1)
    mean: Tensor = ((square + LEAST).log() * (total > 0)).sum() / (total > 0).sum().clamp_min(1)
    return mean


def measure(network: Network, pieces: Pieces, options: FitOptions, *, seed: int, device: str) -> None:
    """Set ``expected``: the root mean square that each lattice's predictions leave, by node, on whole cubes."""
    with torch.no_grad():
        for place, lattice in enumerate(LATTICES):
            square = torch.zeros(pieces.nodes, device=device)
            total = torch.zeros(pieces.nodes, device=device)
            rng = stream(seed, "encoder measured")
            for _ in range(-(-min(JUDGED, len(pieces)) // options.batch)):
                images, field = (each.to(device) for each in pieces.batch(options.batch, options.crop, rng))
                for phase in range(PHASES):
                    out = hidden(lattice, phase, pieces.nodes, (images.shape[2], images.shape[3])).to(device)
                    asked = (out & field[:, None]).expand_as(images)
                    guess = network(images, (~out).float().expand_as(images))
                    square += torch.where(asked, (guess - images).square(), 0).sum(dim=(0, 2, 3))
                    total += asked.sum(dim=(0, 2, 3))
            network.expected[place] = (square / total.clamp_min(1) + LEAST).sqrt()
