"""Decoding in overlapping tiles: as much memory as one tile takes, and no seam."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Span = tuple[int, int]


def apply_tiled(function: Callable[[Tensor], Tensor], latents: Tensor, *, tile: int, margin: int, scale: int) -> Tensor:
    """Return ``apply(latents)``, worked out tile by tile.

    A tile is decoded with a margin of ``margin`` latents on each side and the margin is cut off. Where nothing in
    ``function`` depends on latents further away than ``margin`` this equals the untiled result: at the picture's edge the
    tile ends there too, so that zero padding is what it was.

    Args:
        function: maps ``(n, c, h, w)`` to ``(n, k, scale * h, scale * w)``.
        latents: ``(n, c, h, w)``.
        tile: side of a tile in latents, without its margins; 0: the whole picture at once.
        margin: see :attr:`hseval_ldm.models.autoencoder.Decoder.margin`.
        scale: pixels a latent.
    """
    height, width = latents.shape[-2:]
    if tile <= 0 or (height <= tile and width <= tile):
        return function(latents)
    rows = []
    for y in _split_spans(height, tile):
        row = [_apply_to_tile(function, latents, y, x, margin=margin, scale=scale) for x in _split_spans(width, tile)]
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def _split_spans(length: int, tile: int) -> Iterator[Span]:
    return ((start, min(start + tile, length)) for start in range(0, length, tile))


def _apply_to_tile(
    function: Callable[[Tensor], Tensor], latents: Tensor, y: Span, x: Span, *, margin: int, scale: int
) -> Tensor:
    """Decode the cells ``y`` by ``x`` with their margins, and cut the margins off."""
    (top, bottom), (left, right) = y, x
    above, before = max(top - margin, 0), max(left - margin, 0)
    part = function(latents[..., above : bottom + margin, before : right + margin])
    start_y, start_x = (top - above) * scale, (left - before) * scale
    return part[..., start_y : start_y + (bottom - top) * scale, start_x : start_x + (right - left) * scale]
