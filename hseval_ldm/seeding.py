"""Seeds of k-means: greedy k-means++ (Arthur and Vassilvitskii 2007) on a sample that fits in memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hseval.seeds import stream

ALIKE = 1e-6  # rows closer than this share of the variance are one row here: float32 can't tell


@torch.no_grad()
def draw(
    sample: Tensor, closest: Tensor, count: int, *, spread: float, seed: int, number: int
) -> tuple[Tensor, Tensor]:
    """Draw rows with a probability in proportion to the squared distance to the nearest centre or earlier draw.

    Of a few candidates each time the one that helps most is taken, as scikit-learn does.

    Args:
        sample: centred rows ``(m, d)``.
        closest: squared distance of each to the centres that there are ``(m,)``; inf: there are none.
        count: how many to draw.
        spread: mean variance of a column, of all rows.
        seed: of the random stream.
        number: which draw under this seed.

    Returns:
        Rows ``(count, d)``, and whether each was away from all centres and earlier draws ``(count,)``.
    """
    power, same = sample.square().sum(dim=1), ALIKE * spread * sample.shape[1]
    uniform = stream(seed, "ldm-kmeans-seeds", number).random((count, 2 + int(math.log(count))))
    picks, novel = [], []
    closest = torch.where(closest > same, closest, 0)
    for fractions in torch.from_numpy(uniform).to(sample.device):
        weight = torch.where(closest.isinf(), 1, closest).cumsum(0, dtype=torch.float64)
        tried = torch.searchsorted(weight, fractions * weight[-1], right=True).clamp(max=len(sample) - 1)
        distances = torch.addmm(power, sample[tried], sample.T, alpha=-2) + power[tried, None]
        nearer = torch.minimum(torch.where(distances > same, distances, 0), closest)
        best = nearer.sum(dim=1, dtype=torch.float64).argmin()
        picks.append(tried[best])
        novel.append(weight[-1] > 0)
        closest = nearer[best]
    return sample[torch.stack(picks)], torch.stack(novel)


def spare(drawn: Tensor, *, spread: float, seed: int) -> Tensor:
    """Return the rows moved aside a little: centres that are distinct, and nearest to no row that has its own."""
    aside = stream(seed, "ldm-kmeans-spare").normal(scale=0.1 * math.sqrt(spread or 1), size=tuple(drawn.shape))
    return drawn + torch.from_numpy(aside).to(drawn)
