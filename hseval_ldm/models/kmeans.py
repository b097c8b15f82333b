"""k-means (Lloyd 1982) over rows that are spread over ranks and read in chunks.

The whole set is rank 0's rows, then rank 1's, and so on (:meth:`~hseval_ldm.utils.distributed.Ranks.get_local_range` deals such blocks).
What is drawn depends on a row's number in that order alone and sums are float64, so the centres do not depend on how
many ranks or chunks the rows are dealt to.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from hseval_ldm.models.nearest import find_nearest_centers
from hseval_ldm.utils.distributed import Ranks

DUPLICATE_TOLERANCE = 1e-6  # rows closer than this share of the variance are one row here: float32 can't tell


@torch.no_grad()
def draw_centers(
    sample: Tensor, closest_distances: Tensor, count: int, *, variance: float, seed: int, draw_index: int
) -> tuple[Tensor, Tensor]:
    """Draw rows with a probability in proportion to the squared distance to the nearest centre or earlier draw.

    Of a few candidates each time the one that helps most is taken, as scikit-learn does.

    Args:
        sample: centred rows ``(m, d)``.
        closest_distances: squared distance of each to the centres that there are ``(m,)``; inf: there are none.
        count: how many to draw.
        variance: mean variance of a column, of all rows.
        seed: of the random stream.
        draw_index: which draw under this seed.

    Returns:
        Rows ``(count, d)``, and whether each was away from all centres and earlier draws ``(count,)``.
    """
    power, same = sample.square().sum(dim=1), DUPLICATE_TOLERANCE * variance * sample.shape[1]
    uniform = create_rng(seed, "ldm-kmeans-seeds", draw_index).random((count, 2 + int(math.log(count))))
    picks, novel = [], []
    closest_distances = torch.where(closest_distances > same, closest_distances, 0)
    for fractions in torch.from_numpy(uniform).to(sample.device):
        weight = torch.where(closest_distances.isinf(), 1, closest_distances).cumsum(0, dtype=torch.float64)
        tried = torch.searchsorted(weight, fractions * weight[-1], right=True).clamp(max=len(sample) - 1)
        distances = torch.addmm(power, sample[tried], sample.T, alpha=-2) + power[tried, None]
        nearer = torch.minimum(torch.where(distances > same, distances, 0), closest_distances)
        best = nearer.sum(dim=1, dtype=torch.float64).argmin()
        picks.append(tried[best])
        novel.append(weight[-1] > 0)
        closest_distances = nearer[best]
    return sample[torch.stack(picks)], torch.stack(novel)


def jitter_centers(centers: Tensor, *, variance: float, seed: int) -> Tensor:
    """Return the rows moved aside a little: centres that are distinct, and nearest to no row that has its own."""
    aside = create_rng(seed, "ldm-kmeans-spare").normal(scale=0.1 * math.sqrt(variance or 1), size=tuple(centers.shape))
    return centers + torch.from_numpy(aside).to(centers)


ChunkSource = Callable[[], Iterable[Tensor]]

SUM_BLOCK_ROWS = 1 << 14  # rows that are float64 at once
SAMPLE_ITERATIONS = 5  # passes over the sample before the first over all rows: worth about three of those


@dataclasses.dataclass(frozen=True)
class KMeansResult:
    """Centres ``(k, d)`` float32, how many rows are nearest to each ``(k,)`` int64, and the mean squared distance."""

    centers: Tensor
    counts: Tensor
    distortion: float


@torch.no_grad()
def kmeans(
    chunks: ChunkSource,
    *,
    codes: int,
    initial_centers: Tensor | None,
    iterations: int,
    ranks: Ranks,
    seed: int,
    tolerance: float = 1e-4,
) -> KMeansResult:
    """Run Lloyd's algorithm until the centres rest, or for ``iterations`` passes.

    There are two passes more, for the moments and the result, and one for a sample where it has to be drawn from.
    A centre that loses all its rows is drawn anew as in k-means++. Where there are fewer distinct rows than codes,
    the spare centres stay finite, distinct and unused.

    Args:
        chunks: starts a pass over this rank's rows: float tensors ``(n, d)``, best of thousands of rows, on any device.
        codes: number k of centres.
        initial_centers: centres ``(k, d)`` to begin with; None: greedy k-means++ on a uniform sample of about 16 rows a code.
        iterations: passes at most; 0 only measures the start.
        ranks: who else has rows.
        seed: of the sample and of what is drawn from it.
        tolerance: rest means that the squared moves sum to at most this share of the mean variance of a column.

    Raises:
        HsevalError: there are no rows on any rank, or a value is not finite.
    """
    if initial_centers is not None and len(initial_centers) != codes:
        raise ValueError(f"start has {len(initial_centers)} centres, codes is {codes}")
    rows = _DistributedRows.measure(chunks, ranks)
    sample = _Sample(rows, codes, seed)
    centres = _initialize_centers(sample) if initial_centers is None else initial_centers.to(rows.mean) - rows.mean
    for number in range(iterations):
        sums, counts, _ = rows.assign(centres)
        means = (sums / counts.clamp(min=1)[:, None]).float()
        moved = torch.where((counts > 0)[:, None], means, centres)
        if not bool((counts > 0).all()):
            moved = _revive_centers(sample, moved, counts == 0, number)
        shift = float((moved - centres).double().square().sum())
        centres = moved
        if shift <= tolerance * rows.variance:
            break
    _, counts, squares = rows.assign(centres)
    return KMeansResult(centres + rows.mean, counts.long(), float(squares) / rows.total)


def _initialize_centers(sample: _Sample) -> Tensor:
    """Return centres drawn from the sample and moved by a few passes over it alone."""
    everywhere = sample.values.new_full((len(sample.values),), torch.inf)
    drawn, novel = draw_centers(
        sample.values, everywhere, sample.codes, variance=sample.source.variance, seed=sample.seed, draw_index=0
    )
    start = torch.where(novel[:, None], drawn, jitter_centers(drawn, variance=sample.source.variance, seed=sample.seed))
    alone = Ranks(device=sample.source.ranks.device)
    found = kmeans(
        lambda: [sample.values],
        codes=sample.codes,
        initial_centers=start,
        iterations=SAMPLE_ITERATIONS,
        ranks=alone,
        seed=sample.seed,
    )
    sample.source.ranks.broadcast_(found.centers)
    return found.centers


def _revive_centers(sample: _Sample, centers: Tensor, is_dead: Tensor, iteration: int) -> Tensor:
    """Return the centres, the dead ones drawn from what is far from the living; kept where nothing is far."""
    closest = find_nearest_centers(sample.values, centers[~is_dead])[1]
    variance = sample.source.variance
    drawn, novel = draw_centers(
        sample.values, closest, int(is_dead.sum()), variance=variance, seed=sample.seed, draw_index=iteration + 1
    )
    centers = centers.clone()
    centers[is_dead] = torch.where(novel[:, None], drawn, centers[is_dead])
    sample.source.ranks.broadcast_(centers)
    return centers


@dataclasses.dataclass(frozen=True)
class _DistributedRows:
    """All ranks' rows, centred: ``mean`` (d,) float32 is taken off; ``variance`` is the mean over the columns."""

    chunks: ChunkSource
    ranks: Ranks
    mean: Tensor
    variance: float
    total: int
    first_index: int  # number of this rank's first row

    @classmethod
    def measure(cls, chunks: ChunkSource, ranks: Ranks) -> _DistributedRows:
        count, moments = 0, torch.zeros(2, 0, dtype=torch.float64, device=ranks.device)
        for part in (part for chunk in chunks() for part in torch.split(chunk, SUM_BLOCK_ROWS)):
            wide = part.to(ranks.device, torch.float64)
            count += len(wide)
            added = torch.stack([wide.sum(dim=0), wide.square().sum(dim=0)])
            moments = moments + added if moments.numel() else added
        counts, widths = ranks.gather(torch.tensor([[count, moments.shape[1]]])).T.tolist()
        total = sum(counts)
        if not moments.numel():  # this rank has no row to tell the dimensions from
            moments = moments.new_zeros(2, max(widths))
        ranks.sum_(moments)
        if not total:
            raise HsevalError("k-means: there is not one latent to cluster (no token lies inside the field of view)")
        if not bool(moments.isfinite().all()):
            raise HsevalError("k-means: a latent is not finite")
        mean, power = moments / total
        variance = float((power - mean.square()).clamp(min=0).mean())
        return cls(chunks, ranks, mean.float(), variance, total, sum(counts[: ranks.rank]))

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks():
            yield chunk.to(self.mean) - self.mean

    def assign(self, centers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return float64 sums ``(k, d)`` and counts ``(k,)`` of the rows of each centre, and all squared distances."""
        sums = torch.zeros(centers.shape, dtype=torch.float64, device=centers.device)
        counts, squares = sums.new_zeros(len(centers)), sums.new_zeros(())
        for chunk in self:
            indices, distances = find_nearest_centers(chunk, centers)
            counts += torch.bincount(indices, minlength=len(centers))
            squares += distances.sum(dtype=torch.float64)
            for part, index in zip(
                torch.split(chunk, SUM_BLOCK_ROWS), torch.split(indices, SUM_BLOCK_ROWS), strict=True
            ):
                sums.index_add_(0, index, part.double())
        self.ranks.sum_(sums, counts, squares)
        return sums, counts, squares

    def select(self, numbers: Tensor) -> Tensor:
        """Return the rows of these ascending numbers ``(m, d)``, on every rank."""
        found = self.mean.new_zeros(len(numbers), len(self.mean))
        first = self.first_index
        for chunk in self:
            low, high = torch.searchsorted(numbers, torch.tensor([first, first + len(chunk)])).tolist()
            found[low:high] = chunk[(numbers[low:high] - first).to(chunk.device)]
            first += len(chunk)
        self.ranks.sum_(found)  # each row is one rank's, and zero on the others
        return found


@dataclasses.dataclass(frozen=True)
class _Sample:
    """A uniform sample of all ranks' rows, about 16 a code, the same on every rank; read when first needed."""

    source: _DistributedRows
    codes: int
    seed: int

    @functools.cached_property
    def values(self) -> Tensor:
        total = self.source.total
        size = min(total, max(2 * self.codes, min(16 * self.codes, 1 << 15)))
        numbers = create_rng(self.seed, "ldm-kmeans-sample").choice(total, size, replace=False, shuffle=False)
        return self.source.select(torch.from_numpy(np.sort(numbers)))
