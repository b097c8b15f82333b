"""k-means (Lloyd 1982) over rows that are distributed over ranks and read in chunks.

The whole set is rank 0's rows, then rank 1's, and so on (:meth:`~hseval.utils.distributed.Ranks.get_local_range`
returns such blocks). Random draws depend on a row's number in that order alone, and sums are float64, so the centers do
not depend on the number of ranks or chunks.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hseval.generator_kit import Ranks
from hseval.plugin import HsevalError, create_rng

DUPLICATE_TOLERANCE = 1e-6  # share of the variance within which rows count as equal, the resolution of float32
MAX_DISTANCES = {"cpu": 1 << 20, "cuda": 1 << 26}  # distances computed at once: what fits the cache of a core; 256 MiB


@torch.no_grad()
def draw_centers(
    sample: Tensor, closest_distances: Tensor, count: int, *, variance: float, seed: int, draw_index: int
) -> tuple[Tensor, Tensor]:
    """Draw rows with a probability in proportion to the squared distance to the nearest center or earlier draw.

    Of a few candidates per draw the one that reduces the distances most is taken, as scikit-learn does.

    ``sample`` are centered rows ``(m, d)``; ``closest_distances`` ``(m,)`` is the squared distance of each to the
    nearest center, inf if there are no centers; ``variance`` is the mean of the columns, of all rows. The random stream
    is (seed, draw_index).

    Returns:
        Rows ``(count, d)``, and whether each is distinct from all centers and earlier draws ``(count,)``.
    """
    squared_norms, same = sample.square().sum(dim=1), DUPLICATE_TOLERANCE * variance * sample.shape[1]
    uniform = create_rng(seed, "ldm-kmeans-seeds", draw_index).random((count, 2 + int(math.log(count))))
    picks, novel = [], []
    closest_distances = torch.where(closest_distances > same, closest_distances, 0)
    for fractions in torch.from_numpy(uniform).to(sample.device):
        weight = torch.where(closest_distances.isinf(), 1, closest_distances).cumsum(0, dtype=torch.float64)
        candidates = torch.searchsorted(weight, fractions * weight[-1], right=True).clamp(max=len(sample) - 1)
        distances = torch.addmm(squared_norms, sample[candidates], sample.T, alpha=-2) + squared_norms[candidates, None]
        nearer = torch.minimum(torch.where(distances > same, distances, 0), closest_distances)
        best = nearer.sum(dim=1, dtype=torch.float64).argmin()
        picks.append(candidates[best])
        novel.append(weight[-1] > 0)
        closest_distances = nearer[best]
    return sample[torch.stack(picks)], torch.stack(novel)


def jitter_centers(centers: Tensor, *, variance: float, seed: int) -> Tensor:
    """Return the centers with a small random shift, so that they are distinct and nearest to no row with a center."""
    shift = create_rng(seed, "ldm-kmeans-spare").normal(scale=0.1 * math.sqrt(variance or 1), size=tuple(centers.shape))
    return centers + torch.from_numpy(shift).to(centers)


ChunkSource = Callable[[], Iterable[Tensor]]

SUM_BLOCK_ROWS = 1 << 14  # rows converted to float64 at a time
SAMPLE_ITERATIONS = 5  # passes over the sample before the first over all rows; they save about three of the latter


@dataclasses.dataclass(frozen=True)
class KMeansResult:
    """Centers ``(k, d)`` float32, the number of rows nearest to each ``(k,)`` int64, and the mean squared distance."""

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
    """Run Lloyd's algorithm until the centers converge, or for ``iterations`` passes.

    There are two more passes, for the moments and the result, and one for a sample if it is needed.
    A center that loses all its rows is drawn again as in k-means++. If there are fewer distinct rows than codes,
    the spare centers stay finite, distinct and unused.

    ``chunks`` starts a pass over this rank's rows: float tensors ``(n, d)``, preferably of thousands of rows, on any
    device. ``initial_centers`` are ``(k, d)``; None: greedy k-means++ on a uniform sample of about 16 rows per code.
    With 0 ``iterations`` the initial centers are only evaluated. The centers have converged when the squared shifts sum
    to at most the share ``tolerance`` of the mean variance of a column.

    Raises:
        HsevalError: there are no rows on any rank, or a value is not finite.
    """
    if initial_centers is not None and len(initial_centers) != codes:
        raise ValueError(f"initial_centers has {len(initial_centers)} rows, expected codes={codes}")
    rows = _DistributedRows.measure(chunks, ranks, codes=codes, seed=seed)
    centers = _initialize_centers(rows) if initial_centers is None else initial_centers.to(rows.mean) - rows.mean
    for iteration in range(iterations):
        sums, counts, _ = rows.assign(centers)
        means = (sums / counts.clamp(min=1)[:, None]).float()
        updated = torch.where((counts > 0)[:, None], means, centers)
        if not bool((counts > 0).all()):
            updated = _revive_centers(rows, updated, counts == 0, iteration)
        shift = float((updated - centers).double().square().sum())
        centers = updated
        if shift <= tolerance * rows.variance:
            break
    _, counts, squares = rows.assign(centers)
    return KMeansResult(centers + rows.mean, counts.long(), float(squares) / rows.total)


def _initialize_centers(rows: _DistributedRows) -> Tensor:
    """Return centers drawn from the sample and refined by a few passes over it alone."""
    sample, variance, seed = rows.sample, rows.variance, rows.seed
    no_centers = sample.new_full((len(sample),), torch.inf)
    sampled, novel = draw_centers(sample, no_centers, rows.codes, variance=variance, seed=seed, draw_index=0)
    jittered = jitter_centers(sampled, variance=variance, seed=seed)
    result = kmeans(
        lambda: [sample],
        codes=rows.codes,
        initial_centers=torch.where(novel[:, None], sampled, jittered),
        iterations=SAMPLE_ITERATIONS,
        ranks=Ranks(device_name=rows.ranks.device_name),
        seed=seed,
    )
    rows.ranks.broadcast_(result.centers)
    return result.centers


def _revive_centers(rows: _DistributedRows, centers: Tensor, is_dead: Tensor, iteration: int) -> Tensor:
    """Return the centers with the dead ones redrawn from rows far from the others; unchanged where no row is far."""
    closest, count = find_nearest_centers(rows.sample, centers[~is_dead])[1], int(is_dead.sum())
    sampled, novel = draw_centers(
        rows.sample, closest, count, variance=rows.variance, seed=rows.seed, draw_index=iteration + 1
    )
    centers = centers.clone()
    centers[is_dead] = torch.where(novel[:, None], sampled, centers[is_dead])
    rows.ranks.broadcast_(centers)
    return centers


@dataclasses.dataclass(frozen=True)
class _DistributedRows:
    """All ranks' rows, centered: ``mean`` (d,) float32 is subtracted; ``variance`` is the mean over the columns."""

    chunks: ChunkSource
    ranks: Ranks
    mean: Tensor
    variance: float
    total: int
    first_index: int  # number of this rank's first row
    codes: int
    seed: int

    @classmethod
    def measure(cls, chunks: ChunkSource, ranks: Ranks, *, codes: int, seed: int) -> _DistributedRows:
        count, moments = 0, torch.zeros(2, 0, dtype=torch.float64, device=ranks.device)
        for block in (block for chunk in chunks() for block in torch.split(chunk, SUM_BLOCK_ROWS)):
            exact = block.to(ranks.device, torch.float64)
            count += len(exact)
            block_moments = torch.stack([exact.sum(dim=0), exact.square().sum(dim=0)])
            moments = moments + block_moments if moments.numel() else block_moments
        counts, widths = ranks.gather(torch.tensor([[count, moments.shape[1]]])).T.tolist()
        total = sum(counts)
        if not moments.numel():  # this rank has no row, and so no number of dimensions
            moments = moments.new_zeros(2, max(widths))
        ranks.sum_(moments)
        if not total:
            raise HsevalError("k-means: no latents to cluster (no token lies inside the field of view)")
        if not bool(moments.isfinite().all()):
            raise HsevalError("k-means: a latent is not finite")
        mean, mean_square = moments / total
        variance = float((mean_square - mean.square()).clamp(min=0).mean())
        return cls(chunks, ranks, mean.float(), variance, total, sum(counts[: ranks.rank]), codes, seed)

    @functools.cached_property
    def sample(self) -> Tensor:
        """A uniform sample of all ranks' rows, about 16 per code, the same on every rank; read when first needed."""
        size = min(self.total, max(2 * self.codes, min(16 * self.codes, 1 << 15)))
        numbers = create_rng(self.seed, "ldm-kmeans-sample").choice(self.total, size, replace=False, shuffle=False)
        return self.select(torch.from_numpy(np.sort(numbers)))

    def __iter__(self) -> Iterator[Tensor]:
        for chunk in self.chunks():
            yield chunk.to(self.mean) - self.mean

    def assign(self, centers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return float64 sums ``(k, d)`` and counts ``(k,)`` of the rows of each center, and all squared distances."""
        sums = torch.zeros(centers.shape, dtype=torch.float64, device=centers.device)
        counts, squares = sums.new_zeros(len(centers)), sums.new_zeros(())
        for chunk in self:
            indices, distances = find_nearest_centers(chunk, centers)
            counts += torch.bincount(indices, minlength=len(centers))
            squares += distances.sum(dtype=torch.float64)
            blocks = zip(torch.split(chunk, SUM_BLOCK_ROWS), torch.split(indices, SUM_BLOCK_ROWS), strict=True)
            for block, block_indices in blocks:
                sums.index_add_(0, block_indices, block.double())
        self.ranks.sum_(sums, counts, squares)
        return sums, counts, squares

    def select(self, numbers: Tensor) -> Tensor:
        """Return the rows of these ascending numbers ``(m, d)``, on every rank."""
        selected = self.mean.new_zeros(len(numbers), len(self.mean))
        first = self.first_index
        for chunk in self:
            low, high = torch.searchsorted(numbers, torch.tensor([first, first + len(chunk)])).tolist()
            selected[low:high] = chunk[(numbers[low:high] - first).to(chunk.device)]
            first += len(chunk)
        self.ranks.sum_(selected)  # each row is on one rank, and zero on the others
        return selected


@torch.no_grad()
def find_nearest_centers(rows: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's nearest center, the first of equals, ``(n,)`` int64, and the squared distance ``(n,)``.

    Distances are float32 regardless of autocast and TF32, and about the mean of the centers: ``|x|^2 - 2 x c + |c|^2``
    cancels badly far from the origin.

    Args:
        rows: ``(n, d)`` of any float type.
        centers: ``(k, d)`` on the same device.
    """
    rows, centers = rows.float(), centers.float()
    offset = centers.mean(dim=0)
    transposed = (centers - offset).T.contiguous()
    squared_norms = transposed.square().sum(dim=0)
    block_size = max(MAX_DISTANCES.get(rows.device.type, MAX_DISTANCES["cpu"]) // len(centers), 16)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(rows.device.type, enabled=False):
            blocks = torch.split(rows, block_size)
            nearest = [_find_nearest_in_block(block - offset, transposed, squared_norms) for block in blocks]
    finally:
        torch.set_float32_matmul_precision(precision)
    indices = torch.cat(nearest)
    return indices, (rows - centers[indices]).square().sum(dim=1)


def _find_nearest_in_block(block: Tensor, transposed_centers: Tensor, squared_norms: Tensor) -> Tensor:
    # A single row would use another routine (matrix times vector), with other rounding.
    padded = torch.cat([block, block.new_zeros(16 - len(block), block.shape[1])]) if len(block) < 16 else block
    # min is twice as fast as argmin on a CPU.
    return torch.addmm(squared_norms, padded, transposed_centers, alpha=-2).min(dim=1).indices[: len(block)]
