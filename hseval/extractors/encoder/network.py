"""The network behind the encoder: it predicts hidden parts of a cube from what it is shown of it.

Hiding parts of the input and predicting them needs no labels and no choice of changes to be blind to (masked
autoencoders: He et al., CVPR 2022; blind-spot prediction: Krull et al., Noise2Void, CVPR 2019). Two lattices are
hidden: every fourth node of the spectrum at all pixels, and one pixel of every 2 x 2 at all nodes. Over a lattice's
four phases each value is predicted once, from the rest.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.utils.random_streams import create_rng

Lattice = Literal["nodes", "pixels"]
LATTICES: tuple[Lattice, ...] = ("nodes", "pixels")
PHASES = 4


class Network(nn.Module):
    """Three levels of features, whose predictions add up."""

    centre: Tensor
    scale: Tensor
    expected: Tensor

    def __init__(self, nodes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 2 * width]  # full, half and quarter resolution
        self.entries = nn.ModuleList(
            nn.Conv2d(before, after, 3) for before, after in zip([2 * nodes, *widths], widths, strict=False)
        )
        self.blocks = nn.ModuleList(ResidualBlock(each) for each in widths)
        self.heads = nn.ModuleList(nn.Conv2d(each, nodes, 1) for each in widths)
        self.register_buffer("centre", torch.zeros(nodes))  # of each node's pixels, over the cubes of the fit
        self.register_buffer("scale", torch.ones(nodes))
        self.register_buffer("expected", torch.ones(len(LATTICES), nodes))  # root mean square of what stays unexplained

    def forward(self, images: Tensor, visible_mask: Tensor) -> Tensor:
        """Predict images from what is shown of them.

        Args:
            images: ``(n, node, y, x)``, y and x multiples of 4.
            visible_mask: the same shape, 1 where a value is shown, 0 where it is hidden.

        Returns:
            The prediction ``(n, node, y, x)``.
        """
        features = torch.cat([images * visible_mask, visible_mask - 0.5], dim=1)
        levels: list[Tensor] = []
        # Reflected beyond the edges, a lattice of period 2 goes on as it is; repeated or cut off, its edges would show.
        for level, (entry, block) in enumerate(zip(self.entries, self.blocks, strict=True)):
            features = functional.avg_pool2d(features, 2) if level else features
            features = block(entry(functional.pad(features, (1, 1, 1, 1), mode="reflect")))
            levels.append(features)
        prediction: Tensor = self.heads[-1](levels[-1])
        for head, each in zip(reversed(self.heads[:-1]), reversed(levels[:-1]), strict=True):
            coarse = functional.interpolate(prediction, scale_factor=2, mode="bilinear", align_corners=False)
            prediction = coarse + head(each)
        return prediction


class ResidualBlock(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        padded = functional.pad(functional.gelu(features), (1, 1, 1, 1), mode="reflect")
        changed: Tensor = features + self.outer(functional.gelu(self.inner(padded)))
        return changed


def build_hidden_mask(lattice: Lattice, phase: int, nodes: int, shape: tuple[int, int]) -> Tensor:
    """Return bool ``(node, y, x)`` (1 where an axis does not matter): what one phase of a lattice hides."""
    if lattice == "nodes":
        return (torch.arange(nodes) % PHASES == phase)[:, None, None]
    rows, columns = (torch.arange(size) % 2 for size in shape)
    return ((rows[:, None] == phase // 2) & (columns == phase % 2))[None]


def create_network(nodes: int, width: int) -> Network:
    """Return a network whose weights mean nothing yet; torch's generators are left as they were."""
    with torch.random.fork_rng(devices=[]):  # the layers' own initial values are drawn and thrown away
        return Network(nodes, width)


def initialize_weights(network: Network, seed: int) -> None:
    """Draw the weights (He et al. 2015), each tensor from a stream of its own, whatever torch's version."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.ndim == 1:
                tensor.zero_()
            else:
                drawn = create_rng(seed, f"encoder weights {name}").standard_normal(
                    tuple(tensor.shape), dtype="float32"
                )
                gain = 0.1 if name.startswith("heads.") or ".outer." in name else 2.0
                tensor.copy_(torch.from_numpy(drawn) * (gain / tensor[0].numel()) ** 0.5)
