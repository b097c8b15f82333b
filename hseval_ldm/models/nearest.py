"""The nearest center of each row, in float32; shared by k-means and the codebook."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_DISTANCES = {"cpu": 1 << 20, "cuda": 1 << 26}  # distances computed at once: what fits the cache of a core; 256 MiB


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
