"""The encoder behind the perceptual term: small, and trained on the user's own cubes without labels.

Networks trained on RGB photographs know nothing of spectra, and the extractor that scores the samples must not be
what they were trained to please. This one learns to tell places apart: a pixel's features have to be found again
among those of its cube's other places after gains, offsets and noise changed the bands (contrast of pixels: Wang et
al. 2021, DenseCL; loss: van den Oord et al. 2018, InfoNCE).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.utils.random_streams import stream
from hseval_ldm.models.autoencoder import ChannelNorm, Halve, unchanged_types

TEMPERATURE = 0.1
PLACES = 64  # of each level and cube that have to be told apart


class Features(nn.Module):
    """Three levels of features: full, half and quarter resolution."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(bands, width, 3, padding=1), nn.SiLU(), _block(width)),
                nn.Sequential(Halve(width, 2 * width), _block(2 * width)),
                nn.Sequential(Halve(2 * width, 4 * width), _block(4 * width)),
            ]
        )
        self.heads = nn.ModuleList([nn.Conv2d(width * 2**level, 64, 1) for level in range(3)])

    def forward(self, cubes: Tensor) -> list[Tensor]:
        """Return float32 ``(n, channel, y / 2^level, x / 2^level)`` of normalised cubes, 0 outside their field."""
        levels, features = [], cubes
        for layer in self.levels:
            features = layer(features)
            levels.append(features.float())
        return levels

    def contrast(self, one: Tensor, other: Tensor, places: list[Tensor]) -> Tensor:
        """Return the InfoNCE loss of two views ``(n, band, y, x)`` of the same cubes, a mean of per-cube means.

        A place is told apart from the others of its own cube, so that the loss does not depend on how a batch is
        shared among ranks. A cube without places counts as 0.

        Args:
            one: a view.
            other: another view; the same pixel shows the same place.
            places: for each level, int64 ``(k,)`` positions in its flattened ``(n, y, x)`` grid.
        """
        terms = []
        for head, first, second, at in zip(self.heads, self(one), self(other), places, strict=True):
            rows = [head(f).movedim(1, -1).flatten(0, 2)[at].float() for f in (first, second)]
            with unchanged_types(one.device):
                terms.append(_told_apart(*rows, cube=at // first[0, 0].numel(), count=len(one)))
        return torch.stack(terms).mean()


def _told_apart(first: Tensor, second: Tensor, *, cube: Tensor, count: int) -> Tensor:
    """Return InfoNCE of rows ``(k, d)`` that belong to cubes ``(k,)`` 0 .. count - 1, as the mean of per-cube means."""
    logits = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T / TEMPERATURE
    logits = logits.masked_fill(cube[:, None] != cube, -torch.inf)
    answer = torch.arange(len(cube), device=cube.device)
    each = sum(functional.cross_entropy(way, answer, reduction="none") for way in (logits, logits.T))
    return (0.5 * each / cube.bincount(minlength=count)[cube]).sum() / count


def _block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
    )


def changed(cubes: Tensor, field: Tensor, *, seed: int, view: int, step: int, first: int) -> Tensor:
    """Return a view of normalised cubes ``(n, band, y, x)``: gains, offsets and noise, drawn by cube and band.

    Cube ``i`` of the batch is number ``first + i`` of the step's global batch, and draws from its own stream.
    """
    views = []
    for index, cube in enumerate(cubes):
        rng = stream(seed, "features", step, view, first + index)
        bands = len(cube)
        gain = rng.lognormal(0, 0.1) * rng.lognormal(0, 0.05, bands)
        offset, deviation = rng.normal(0, 0.1, bands), 0.2 * rng.random()
        noise = rng.standard_normal(cube.shape, dtype="float32")
        drawn = [torch.as_tensor(v, dtype=torch.float32, device=cube.device) for v in (gain, offset, noise)]
        views.append(cube * drawn[0][:, None, None] + drawn[1][:, None, None] + float(deviation) * drawn[2])
    return torch.stack(views) * field


def places_in(field: Tensor, *, seed: int, step: int, first: int) -> list[Tensor]:
    """Return, for each of the three levels, up to ``PLACES`` positions a cube whose cell lies inside the field.

    Cube ``i`` of the batch is number ``first + i`` of the step's global batch, and draws from its own stream.
    """
    from hseval_ldm.models.losses import patches_inside

    chosen = []
    for level in range(3):
        size = [side >> level for side in field.shape[-2:]]
        cells, parts = size[0] * size[1], []
        for index, cube in enumerate(patches_inside(field, size)):
            inside = cube.flatten().nonzero()[:, 0]
            order = stream(seed, "places", step, level, first + index).permutation(len(inside))[:PLACES]
            parts.append(index * cells + inside[torch.as_tensor(order, device=inside.device)])
        chosen.append(torch.cat(parts))
    return chosen
