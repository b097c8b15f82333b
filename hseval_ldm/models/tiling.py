"""Decoding in overlapping tiles, which needs only the memory of one tile and leaves no seam."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Span = tuple[int, int]


def apply_tiled(function: Callable[[Tensor], Tensor], latents: Tensor, *, tile: int, margin: int, scale: int) -> Tensor:
    """Return ``function(latents)``, computed tile by tile.

    A tile is decoded with ``margin`` more latents on each side, which are then cropped. If ``function`` does not depend
    on latents further away than ``margin``, this equals the untiled result: at the image's edge a tile has no margin,
    so that zero padding applies there as before.

    Args:
        function: maps ``(n, c, h, w)`` to ``(n, k, scale * h, scale * w)``.
        latents: ``(n, c, h, w)``.
        tile: side of a tile in latents, without its margins; 0: the whole image at once.
        margin: see :attr:`hseval_ldm.models.autoencoder.Decoder.receptive_radius`.
        scale: pixels per latent.
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
    """Decode the cells ``y`` by ``x`` with their margins, and crop the margins."""
    (top, bottom), (left, right) = y, x
    first_y, first_x = max(top - margin, 0), max(left - margin, 0)
    decoded = function(latents[..., first_y : bottom + margin, first_x : right + margin])
    start_y, start_x = (top - first_y) * scale, (left - first_x) * scale
    return decoded[..., start_y : start_y + (bottom - top) * scale, start_x : start_x + (right - left) * scale]
