"""A small U-Net, its training and its application; importing this module imports torch."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hseval.training.loop import train_stage
from hseval.training.stage import NetworkStage
from hseval.utils.random_streams import create_rng, fork_torch_rng

DEPTH = 3  # halvings
WIDTHS = (16, 32, 64, 96)
CROP_SIZE = 96  # px: side of a training crop
BATCH_PIXELS = 8 * CROP_SIZE**2
MAX_CROPS = 32
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-4


@dataclasses.dataclass(frozen=True)
class TrainingExample:
    """One cube to learn from, in a compact form.

    Attributes:
        relative: float16 ``(window, y, x)``.
        median_spectrum: float32 ``(window,)``, of the cube.
        valid: bool ``(y, x)``.
        labels: bool ``(structure, y, x)``.
    """

    relative: NDArray[np.float16]
    median_spectrum: NDArray[np.float32]
    valid: NDArray[np.bool_]
    labels: NDArray[np.bool_]

    def crop(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return channels and labels of a crop, stacked."""
        region = (slice(None), rows, columns)
        channels = stack_channels(self.relative[region], self.median_spectrum, self.valid[rows, columns])
        return np.concatenate([channels, self.labels[region]])


def stack_channels(
    relative: NDArray[np.floating[Any]], median_spectrum: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the network's input, float32 ``(2 window + 1, y, x)``: spectra, the cube's median, and the valid mask."""
    level = median_spectrum[:, None, None] * valid
    return np.concatenate([relative, level, valid[None]]).astype(np.float32)


class UNet(nn.Module):
    """Ronneberger et al., U-Net, 2015, with batch norm and few channels; one independent logit a structure."""

    def __init__(self, channels: int, structures: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, WIDTHS[0], 1)
        self.down = nn.ModuleList(_make_conv_block(old, new) for old, new in itertools.pairwise((WIDTHS[0], *WIDTHS)))
        self.up = nn.ModuleList(_make_conv_block(WIDTHS[i] + WIDTHS[i + 1], WIDTHS[i]) for i in reversed(range(DEPTH)))
        self.leave = nn.Conv2d(WIDTHS[0], structures, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, structure, y, x)``; sides are multiples of ``2 ** DEPTH``."""
        features = self.down[0](self.enter(images))
        skips = []
        for block in list(self.down)[1:]:
            skips.append(features)
            features = block(functional.max_pool2d(features, 2))
        for block in self.up:
            features = block(torch.cat([_upsample(features), skips.pop()], dim=1))
        logits: Tensor = self.leave(features)
        return logits


def _make_conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        convolution = nn.Conv2d(before, out_channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _upsample(images: Tensor) -> Tensor:
    # By repetition: its backward pass sums in one order on every device.
    return images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def pad_images(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``(..., y, x)`` with zeros below and to the right, up to sides that are multiples of ``2 ** DEPTH``."""
    step = 2**DEPTH
    padding = [(0, -size % step) for size in images.shape[-2:]]
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + padding)


@dataclasses.dataclass(frozen=True)
class CropSampler:
    """Draws batches of crops; every draw depends on the step alone.

    Attributes:
        examples: one per cube.
        crop_shape: ``(height, width)`` of a crop.
        batch_size: crops a batch.
    """

    examples: Sequence[TrainingExample]
    crop_shape: tuple[int, int]
    batch_size: int

    @classmethod
    def from_examples(cls, examples: Sequence[TrainingExample]) -> CropSampler:
        """Return a sampler whose crop size and batch size suit the cubes' size."""
        step = 2**DEPTH
        sizes = np.array([example.valid.shape for example in examples])
        height, width = (min(CROP_SIZE, -(-int(size) // step) * step) for size in sizes.max(axis=0))
        return cls(examples, (height, width), int(np.clip(BATCH_PIXELS // (height * width), 2, MAX_CROPS)))

    def draw_batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images ``(n, c, y, x)`` and labels float32 ``(n, structure, y, x)``, turned and flipped at random."""
        rng = create_rng(0, "unet crops", step)
        batch = np.stack([self._draw_crop(rng) for _ in range(self.batch_size)])
        structures = len(self.examples[0].labels)
        return torch.from_numpy(batch[:, :-structures]), torch.from_numpy(batch[:, -structures:])

    def _draw_crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        example = self.examples[int(rng.integers(len(self.examples)))]
        regions = []
        for center, size, side in zip(
            self._draw_center(example.labels, rng), example.valid.shape, self.crop_shape, strict=True
        ):
            start = int(np.clip(center - side // 2, 0, max(size - side, 0)))
            regions.append(slice(start, start + side))
        crop = example.crop(*regions)
        padding = [(0, 0), *((0, side - size) for side, size in zip(self.crop_shape, crop.shape[1:], strict=True))]
        crop = np.pad(crop, padding)
        if self.crop_shape[0] == self.crop_shape[1]:
            crop = np.rot90(crop, int(rng.integers(4)), axes=(1, 2))
        return crop[:, :, :: 1 if rng.integers(2) else -1]

    def _draw_center(self, labels: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a crop's center: half the time on a random structure of the cube, otherwise anywhere."""
        present = np.flatnonzero(labels.any(axis=(1, 2)))
        anywhere = rng.integers(labels.shape[1:])
        if not len(present) or rng.integers(2):
            return anywhere
        pixels = np.argwhere(labels[rng.choice(present)])
        return np.asarray(pixels[rng.integers(len(pixels))])


def train(network: UNet, crops: CropSampler, *, steps: int, device: str) -> None:
    """Train in place, by AdamW with a one-cycle learning rate (Smith and Topin, Super-convergence, 2018)."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=max(steps, 2))

    def compute_step_loss(step: int) -> Tensor:
        if step:
            schedule.step()  # of the learning rate and of the first moment's decay
        images, labels = (tensor.to(device) for tensor in crops.draw_batch(step))
        return compute_loss(network(images), labels)

    stage = NetworkStage(
        "unet",
        network.train(),
        optimizer,
        compute_step_loss,
        steps=steps,
        batch_size=crops.batch_size,
        max_gradient_norm=None,
        loss_option="unet.steps",
    )
    train_stage(stage, None)
    network.eval()


def compute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return cross-entropy plus 1 - soft Dice over the batch (Milletari et al., V-Net, 2016), mean of structures."""
    entropy = functional.binary_cross_entropy_with_logits(logits, labels)
    probabilities = logits.sigmoid()
    overlaps, sizes = (tensor.sum(dim=(0, 2, 3)) for tensor in (probabilities * labels, probabilities + labels))
    return entropy + (1 - (2 * overlaps + 1) / (sizes + 1)).mean()


def get_weights(network: UNet) -> dict[str, NDArray[np.float32]]:
    """Return a network's weights as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def restore_network(weights: Mapping[str, NDArray[np.float32]], device: str) -> UNet:
    """Return a network with the given weights."""
    channels, structures = weights["enter.weight"].shape[1], weights["leave.weight"].shape[0]
    network = UNet(channels, structures)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    return network.to(device).eval()


def build_seeded_network(channels: int, structures: int) -> UNet:
    """Return a new network whose weights depend on its shape alone; torch's global generator is not advanced."""
    with fork_torch_rng(0):
        return UNet(channels, structures)


def predict_probabilities(network: UNet, images: NDArray[np.float32], device: str) -> NDArray[np.float32]:
    """Return ``(structure, y, x)`` for one cube's channels ``(c, y, x)``."""
    height, width = images.shape[1:]
    with torch.inference_mode():
        logits = network(torch.from_numpy(pad_images(images))[None].to(device))[0]
    probabilities: NDArray[np.float32] = logits.sigmoid().cpu().numpy()[:, :height, :width]
    return probabilities
