"""Decoding in overlapping tiles: as much memory as one tile takes, and no seam."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Span = tuple[int, int]


def tiled(apply: Callable[[Tensor], Tensor], latents: Tensor, *, tile: int, reach: int, scale: int) -> Tensor:
    """Return ``apply(latents)``, worked out tile by tile.

    A tile is decoded with a margin of ``reach`` latents on each side and the margin is cut off. Where nothing in
    ``apply`` depends on latents further away than ``reach`` this equals the untiled result: at the picture's edge the
    tile ends there too, so that zero padding is what it was.

    Args:
        apply: maps ``(n, c, h, w)`` to ``(n, k, scale * h, scale * w)``.
        latents: ``(n, c, h, w)``.
        tile: side of a tile in latents, without its margins; 0: the whole picture at once.
        reach: see :attr:`hseval_ldm.models.autoencoder.Decoder.reach`.
        scale: pixels a latent.
    """
    height, width = latents.shape[-2:]
    if tile <= 0 or (height <= tile and width <= tile):
        return apply(latents)
    rows = []
    for y in _spans(height, tile):
        row = [_decoded(apply, latents, y, x, reach=reach, scale=scale) for x in _spans(width, tile)]
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def _spans(length: int, tile: int) -> Iterator[Span]:
    return ((start, min(start + tile, length)) for start in range(0, length, tile))


def _decoded(apply: Callable[[Tensor], Tensor], latents: Tensor, y: Span, x: Span, *, reach: int, scale: int) -> Tensor:
    """Decode the cells ``y`` by ``x`` with their margins, and cut the margins off."""
    (top, bottom), (left, right) = y, x
    above, before = max(top - reach, 0), max(left - reach, 0)
    part = apply(latents[..., above : bottom + reach, before : right + reach])
    start_y, start_x = (top - above) * scale, (left - before) * scale
    return part[..., start_y : start_y + (bottom - top) * scale, start_x : start_x + (right - left) * scale]
