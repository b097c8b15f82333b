"""Fitting the encoder's network on real cubes, without labels: hide values, predict them, compare."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.core.cubes import FOV, CubeSet
from hseval.data.field_of_view import compute_bounding_box, find_valid_pixels
from hseval.extractors.encoder.network import (
    LATTICES,
    PHASES,
    Lattice,
    Network,
    build_hidden_mask,
    create_network,
    initialize_weights,
)
from hseval.extractors.encoder.preprocessing import compute_node_weights, resample_to_nodes, standardize_and_fill
from hseval.training.loop import train_stage
from hseval.training.stage import NetworkStage
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from hseval.extractors.encoder.options import FitOptions

PATCH_SIZE = 64  # px, at most
MAX_PATCHES = 4096  # in memory: 1 GiB at 16 nodes
PLACEMENT_TRIES = 8  # random places of which the one with most of the field is taken
EDGE_MASK_PROBABILITY = 0.3  # share of the steps in which nodes at the ends of the spectrum are hidden as well
MAX_EDGE_MASK_SHARE = 0.4  # of the nodes, at most, at one end
MAX_EVALUATION_PATCHES = 256  # patches, at most, on which the fitted network's residuals are measured
MSE_FLOOR = 1e-8  # mean squares below this count as perfect

ProgressCallback = Callable[[str, int, int], None]


class TrainingPatches:
    """Standardized patches ``(node, y, x)`` with their fields: the training data.

    Attributes:
        center, scale: float32 ``(node,)``, mean and standard deviation of the valid pixels of the cubes that were read.
        content_hash: sha256 of the cubes' sorted hashes, independent of their order and files.
        cube_count: number of different cubes with a valid pixel.
    """

    def __init__(self, data: CubeSet, nodes: NDArray[np.float64], *, seed: int, on_progress: ProgressCallback) -> None:
        """Read the cubes; of more than ``MAX_PATCHES`` a random subset.

        Raises:
            HsevalError: no cube has a valid pixel, or all valid pixels are the same at some node.
        """
        self.node_count = len(nodes)
        weights = compute_node_weights(data.wavelengths, nodes)
        indices = np.sort(create_rng(seed, "encoder cubes").permutation(len(data))[:MAX_PATCHES])
        images: list[tuple[str, torch.Tensor, NDArray[np.bool_]]] = []
        boxes_per_cube = max(1, MAX_PATCHES // len(indices))
        for done, index in enumerate(indices, start=1):
            cube = data[int(index)]
            valid = find_valid_pixels(cube.data, cube.masks.get(FOV))
            digest = hashlib.sha256(np.ascontiguousarray(cube.data[:, valid], dtype="<f4").tobytes()).hexdigest()
            boxes = draw_patch_boxes(valid, boxes_per_cube, create_rng(seed, f"encoder pieces {digest}"))
            for number, box in enumerate(boxes):
                part = resample_to_nodes(cube.data[None, :, *box], valid[None][:, *box], weights)[0]
                images.append((f"{digest} {number:04d}", part, valid[box]))
            on_progress("reading", done, len(indices))
        if not images:
            raise HsevalError(f"{data.info.location}: no cube has a valid pixel")
        images.sort(key=lambda patch: patch[0])  # so that order and names of the files don't matter
        self.cube_count = len({name.split()[0] for name, *_ in images})
        self.content_hash = hashlib.sha256("".join(name for name, *_ in images).encode()).hexdigest()
        parts = [(part, valid) for _, part, valid in images]
        self.center, self.scale = compute_node_mean_and_std(parts, data.info.location)
        self.patches = [self._standardize(part, valid) for _, part, valid in images]

    def __len__(self) -> int:
        return len(self.patches)

    def draw_batch(self, count: int, crop: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``count`` crops ``(n, node, crop, crop)``, rotated and flipped at random, and their fields."""
        crops = [self._draw_crop(int(rng.integers(len(self))), crop, rng) for _ in range(count)]
        return torch.stack([images for images, _ in crops]), torch.stack([field for _, field in crops])

    def _draw_crop(self, index: int, crop: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        images, field, (height, width) = self.patches[index]
        top, left = (int(rng.integers(max(0, size - crop) + 1)) for size in (height, width))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        images, field = (array[..., top : top + crop, left : left + crop] for array in (images, field))
        images, field = images.rot90(turns, (-2, -1)), field.rot90(turns, (-2, -1))
        return (images.flip(-1), field.flip(-1)) if flip else (images, field)

    def _standardize(
        self, part: torch.Tensor, valid: NDArray[np.bool_]
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        center, scale = torch.from_numpy(self.center), torch.from_numpy(self.scale)
        margin = max(0, PATCH_SIZE - min(valid.shape))  # so that every crop lies on the canvas
        images, field = standardize_and_fill(part[None], valid[None], center, scale, margin=margin)
        return images[0], field[0], (valid.shape[0], valid.shape[1])


def draw_patch_boxes(valid: NDArray[np.bool_], max_count: int, rng: np.random.Generator) -> list[Any]:
    """Return boxes of at most ``PATCH_SIZE`` px that cover a field about once: each the fullest of several."""
    if not valid.any():
        return []
    field_box = compute_bounding_box(valid)
    sizes = [box.stop - box.start for box in field_box]
    count = min(max_count, math.prod(math.ceil(size / PATCH_SIZE) for size in sizes))
    if count == 1 and max(sizes) <= PATCH_SIZE:
        return [field_box]
    boxes = []
    for _ in range(count):
        candidates = []
        for _ in range(PLACEMENT_TRIES):
            starts = [box.start + int(rng.integers(max(0, box.stop - box.start - PATCH_SIZE) + 1)) for box in field_box]
            box = tuple(slice(start, start + min(size, PATCH_SIZE)) for start, size in zip(starts, sizes, strict=True))
            candidates.append(box)
        boxes.append(max(candidates, key=lambda box: int(valid[box].sum())))
    return [box for box in boxes if valid[box].any()]


def compute_node_mean_and_std(
    images: list[tuple[torch.Tensor, NDArray[np.bool_]]], location: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation ``(node,)`` of the valid pixels of images ``(node, y, x)``.

    Raises:
        HsevalError: no node varies.
    """
    pixels = [part.numpy()[:, valid].astype(np.float64) for part, valid in images]
    count = sum(part.shape[1] for part in pixels)
    center = sum(part.sum(axis=1) for part in pixels) / count
    power = sum(((part - center[:, None]) ** 2).sum(axis=1) for part in pixels) / count
    scale = np.sqrt(power)
    # A dead band does no harm: its residual is 0. If all are dead, nothing can be learned.
    dead = scale <= 1e-6 * max(float(np.abs(center).max()), 1e-30)
    if dead.all():
        raise HsevalError(f"{location}: all valid pixels are the same, so there is nothing to fit on")
    scale[dead] = scale[~dead].min()
    return center.astype(np.float32), scale.astype(np.float32)


def fit_network(
    patches: TrainingPatches, options: FitOptions, *, seed: int, device: str, on_progress: ProgressCallback
) -> Network:
    """Return the network fitted on patches of real cubes, on the CPU.

    Raises:
        HsevalError: the loss is not finite.
    """
    network = create_network(patches.node_count, options.width)
    initialize_weights(network, seed)
    network.center.copy_(torch.from_numpy(patches.center))
    network.scale.copy_(torch.from_numpy(patches.scale))
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)

    def compute_step_loss(step: int) -> Tensor:
        on_progress("fitting", step, options.steps)
        rng = create_rng(seed, "encoder fit", step)
        images, field = (tensor.to(device) for tensor in patches.draw_batch(options.batch, options.crop, rng))
        lattice = LATTICES[step % len(LATTICES)]
        return compute_loss(network, images, field, *draw_masks(lattice, images.shape, rng, device))

    stage = NetworkStage(
        "fit-extractor",
        network,
        optimizer,
        compute_step_loss,
        steps=options.steps,
        batch_size=options.batch,
        learning_rate=lambda step: options.rate * compute_lr_factor(step, options.steps),
        loss_option="rate",
        memory_option="batch",
    )
    train_stage(stage, None)
    on_progress("fitting", options.steps, options.steps)
    network.eval().requires_grad_(False)
    measure_residual_rms(network, patches, options, seed=seed, device=device)
    return network.cpu()


def compute_lr_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warmup, times half a cosine down to 0."""
    warmup = max(1, min(50, steps // 10))
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def draw_masks(lattice: Lattice, shape: torch.Size, rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Return the masks of targets (hidden, to be predicted) and of visible values, float ``(n, node, y, x)``.

    Every cube gets a random phase; sometimes an end of the spectrum is neither target nor visible, as if a camera had
    no bands there.
    """
    count, nodes, height, width = shape
    hidden = torch.zeros(count, nodes, height, width, dtype=torch.bool)
    covered = torch.ones(count, nodes, dtype=torch.bool)
    for i in range(count):
        hidden[i] = build_hidden_mask(lattice, int(rng.integers(PHASES)), nodes, (height, width))
        if rng.random() < EDGE_MASK_PROBABILITY:
            low, high = (int(rng.integers(int(MAX_EDGE_MASK_SHARE * nodes) + 1)) for _ in range(2))
            low, high = (low, 0) if rng.random() < 0.5 else (0, high)
            covered[i, :low] = False
            covered[i, nodes - high :] = False
    present = covered[:, :, None, None]
    return (hidden & present).float().to(device), (~hidden & present).float().to(device)


def compute_loss(network: Network, images: Tensor, field: Tensor, target_mask: Tensor, visible_mask: Tensor) -> Tensor:
    """Return the mean over nodes of the log mean square residual.

    The logarithm gives each node the same weight, however small its residual: it is the likelihood of residuals
    that are normal with a standard deviation of each node's own.

    Args:
        network: the network.
        images: ``(n, node, y, x)``.
        field: bool ``(n, y, x)``.
        target_mask: 1 where a hidden value has to be predicted.
        visible_mask: 1 where a value is visible.
    """
    prediction = network(images, visible_mask)
    weight = target_mask * field[:, None]
    total = weight.sum(dim=(0, 2, 3))
    square = ((prediction - images).square() * weight).sum(dim=(0, 2, 3)) / total.clamp_min(1)
    mean: Tensor = ((square + MSE_FLOOR).log() * (total > 0)).sum() / (total > 0).sum().clamp_min(1)
    return mean


def measure_residual_rms(
    network: Network, patches: TrainingPatches, options: FitOptions, *, seed: int, device: str
) -> None:
    """Set ``network.residual_rms``, the root mean square residual of each lattice's predictions, by node."""
    with torch.no_grad():
        for row, lattice in enumerate(LATTICES):
            square = torch.zeros(patches.node_count, device=device)
            total = torch.zeros(patches.node_count, device=device)
            rng = create_rng(seed, "encoder measured")
            for _ in range(-(-min(MAX_EVALUATION_PATCHES, len(patches)) // options.batch)):
                images, field = (tensor.to(device) for tensor in patches.draw_batch(options.batch, options.crop, rng))
                for phase in range(PHASES):
                    shape = (images.shape[2], images.shape[3])
                    hidden = build_hidden_mask(lattice, phase, patches.node_count, shape).to(device)
                    target = (hidden & field[:, None]).expand_as(images)
                    prediction = network(images, (~hidden).float().expand_as(images))
                    square += torch.where(target, (prediction - images).square(), 0).sum(dim=(0, 2, 3))
                    total += target.sum(dim=(0, 2, 3))
            network.residual_rms[row] = (square / total.clamp_min(1) + MSE_FLOOR).sqrt()
