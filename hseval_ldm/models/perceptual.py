"""The encoder of the perceptual term: small, and trained on the user's own cubes without labels.

Networks trained on RGB photographs do not represent spectra, and the extractor that scores the samples must not be
what they were trained to satisfy. This one learns to distinguish positions: a pixel's features must be identified
among those of other positions of its cube after gains, offsets and noise changed the bands (contrast of pixels: Wang
et al. 2021, DenseCL; loss: van den Oord et al. 2018, InfoNCE).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.plugin import create_rng
from hseval_ldm.models.autoencoder import ChannelNorm, Downsample, disable_autocast

TEMPERATURE = 0.1
POSITIONS_PER_CUBE = 64  # positions per level and cube that the loss contrasts


class PerceptualEncoder(nn.Module):
    """Three levels of features: full, half and quarter resolution."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(bands, width, 3, padding=1), nn.SiLU(), _build_block(width)),
                nn.Sequential(Downsample(width, 2 * width), _build_block(2 * width)),
                nn.Sequential(Downsample(2 * width, 4 * width), _build_block(4 * width)),
            ]
        )
        self.heads = nn.ModuleList([nn.Conv2d(width * 2**level, 64, 1) for level in range(3)])

    def forward(self, cubes: Tensor) -> list[Tensor]:
        """Return float32 ``(n, channel, y / 2^level, x / 2^level)`` of normalized cubes, 0 outside their field."""
        levels, features = [], cubes
        for layer in self.levels:
            features = layer(features)
            levels.append(features.float())
        return levels

    def contrastive_loss(self, view_a: Tensor, view_b: Tensor, positions: list[Tensor]) -> Tensor:
        """Return the InfoNCE loss of two views ``(n, band, y, x)`` of the same cubes, a mean of per-cube means.

        A position is contrasted with the others of its own cube, so that the loss does not depend on how a batch is
        divided among ranks. A cube without positions counts as 0. The views are pixel-aligned; ``positions`` are, for
        each level, int64 ``(k,)`` positions in its flattened ``(n, y, x)`` grid.
        """
        terms = []
        for head, level_a, level_b, indices in zip(self.heads, self(view_a), self(view_b), positions, strict=True):
            features = [head(f).movedim(1, -1).flatten(0, 2)[indices].float() for f in (level_a, level_b)]
            with disable_autocast(view_a.device):
                cube_index = indices // level_a[0, 0].numel()
                terms.append(_info_nce_loss(*features, cube_index=cube_index, n_cubes=len(view_a)))
        return torch.stack(terms).mean()


def _info_nce_loss(anchors: Tensor, positives: Tensor, *, cube_index: Tensor, n_cubes: int) -> Tensor:
    """Return the InfoNCE loss of features ``(k, d)`` of the cubes ``cube_index`` ``(k,)``, a mean of per-cube means."""
    logits = functional.normalize(anchors, dim=1) @ functional.normalize(positives, dim=1).T / TEMPERATURE
    logits = logits.masked_fill(cube_index[:, None] != cube_index, -torch.inf)
    targets = torch.arange(len(cube_index), device=cube_index.device)
    entropy = sum(functional.cross_entropy(scores, targets, reduction="none") for scores in (logits, logits.T))
    return (0.5 * entropy / cube_index.bincount(minlength=n_cubes)[cube_index]).sum() / n_cubes


def _build_block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
    )


def augment_view(cubes: Tensor, field: Tensor, *, seed: int, view: int, step: int, first_index: int) -> Tensor:
    """Return a view of normalized cubes ``(n, band, y, x)``: gains, offsets and noise, drawn by cube and band.

    Cube ``i`` of the batch is number ``first_index + i`` of the step's global batch, and draws from its own stream.
    """
    views = []
    for index, cube in enumerate(cubes):
        rng = create_rng(seed, "features", step, view, first_index + index)
        bands = len(cube)
        gain = rng.lognormal(0, 0.1) * rng.lognormal(0, 0.05, bands)
        offset, std = rng.normal(0, 0.1, bands), 0.2 * rng.random()
        noise = rng.standard_normal(cube.shape, dtype="float32")
        arrays = (gain[:, None, None], offset[:, None, None], noise)
        gains, offsets, white = (torch.as_tensor(a, dtype=torch.float32, device=cube.device) for a in arrays)
        views.append(cube * gains + offsets + float(std) * white)
    return torch.stack(views) * field


def draw_positions(field: Tensor, *, seed: int, step: int, first_index: int) -> list[Tensor]:
    """Return, per level, up to ``POSITIONS_PER_CUBE`` positions of each cube whose cell lies inside the field.

    Cube ``i`` of the batch is number ``first_index + i`` of the step's global batch, and draws from its own stream.
    """
    from hseval_ldm.models.losses import find_inside_patches

    positions = []
    for level in range(3):
        size = [side >> level for side in field.shape[-2:]]
        n_cells, level_positions = size[0] * size[1], []
        for index, cube in enumerate(find_inside_patches(field, size)):
            inside = cube.flatten().nonzero()[:, 0]
            rng = create_rng(seed, "places", step, level, first_index + index)
            order = rng.permutation(len(inside))[:POSITIONS_PER_CUBE]
            level_positions.append(index * n_cells + inside[torch.as_tensor(order, device=inside.device)])
        positions.append(torch.cat(level_positions))
    return positions
