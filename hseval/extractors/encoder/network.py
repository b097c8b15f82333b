"""The network behind the encoder: it predicts hidden parts of a cube from the visible ones.

Predicting hidden parts of the input needs no labels and no augmentations, to which features would become insensitive
(masked autoencoders: He et al., CVPR 2022; prediction of hidden pixels: Krull et al., Noise2Void, CVPR 2019). Two
lattices are hidden: every fourth node of the spectrum at all pixels, and one pixel of every 2 x 2 at all nodes. Over
the four phases of a lattice each value is predicted once, from the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.utils.random_streams import create_rng, fork_torch_rng

Lattice = Literal["nodes", "pixels"]
LATTICES: tuple[Lattice, ...] = ("nodes", "pixels")
PHASES = 4


class Network(nn.Module):
    """Three levels of features, whose predictions add up."""

    center: Tensor
    scale: Tensor
    residual_rms: Tensor

    def __init__(self, nodes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 2 * width]  # full, half and quarter resolution
        self.entries = nn.ModuleList(
            nn.Conv2d(before, after, 3) for before, after in zip([2 * nodes, *widths], widths, strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(channels) for channels in widths)
        self.heads = nn.ModuleList(nn.Conv2d(channels, nodes, 1) for channels in widths)
        self.register_buffer("center", torch.zeros(nodes))  # of each node's pixels, over the cubes of the fit
        self.register_buffer("scale", torch.ones(nodes))
        self.register_buffer("residual_rms", torch.ones(len(LATTICES), nodes))

    def forward(self, images: Tensor, visible_mask: Tensor) -> Tensor:
        """Predict images from their visible values.

        Args:
            images: ``(n, node, y, x)``, y and x multiples of 4.
            visible_mask: the same shape, 1 where a value is visible, 0 where it is hidden.

        Returns:
            The prediction ``(n, node, y, x)``.
        """
        features = torch.cat([images * visible_mask, visible_mask - 0.5], dim=1)
        levels: list[Tensor] = []
        # Reflection continues a lattice of period 2 unchanged; repeated or zero values would mark the edges.
        for level, (entry, block) in enumerate(zip(self.entries, self.blocks, strict=True)):
            features = functional.avg_pool2d(features, 2) if level else features
            features = block(entry(functional.pad(features, (1, 1, 1, 1), mode="reflect")))
            levels.append(features)
        prediction: Tensor = self.heads[-1](levels[-1])
        for head, level_features in zip(reversed(self.heads[:-1]), reversed(levels[:-1]), strict=True):
            coarse = functional.interpolate(prediction, scale_factor=2, mode="bilinear", align_corners=False)
            prediction = coarse + head(level_features)
        return prediction


class ResidualBlock(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        padded = functional.pad(functional.gelu(features), (1, 1, 1, 1), mode="reflect")
        output: Tensor = features + self.outer(functional.gelu(self.inner(padded)))
        return output


def build_hidden_mask(lattice: Lattice, phase: int, nodes: int, shape: tuple[int, int]) -> Tensor:
    """Return bool ``(node, y, x)``: what one phase of a lattice hides; axes that do not matter have length 1."""
    if lattice == "nodes":
        return (torch.arange(nodes) % PHASES == phase)[:, None, None]
    rows, columns = (torch.arange(size) % 2 for size in shape)
    return ((rows[:, None] == phase // 2) & (columns == phase % 2))[None]


def create_network(nodes: int, width: int) -> Network:
    """Return a network with arbitrary weights; torch's generators are left unchanged."""
    with fork_torch_rng():  # for the layers' initial values, which are discarded
        return Network(nodes, width)


def initialize_weights(network: Network, seed: int) -> None:
    """Draw the weights (He et al. 2015), each tensor from a stream of its own, independently of torch's version."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.ndim == 1:
                tensor.zero_()
            else:
                rng = create_rng(seed, f"encoder weights {name}")
                values = rng.standard_normal(tuple(tensor.shape), dtype="float32")
                gain = 0.1 if name.startswith("heads.") or ".outer." in name else 2.0
                tensor.copy_(torch.from_numpy(values) * (gain / tensor[0].numel()) ** 0.5)
