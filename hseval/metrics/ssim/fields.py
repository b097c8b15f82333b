"""The windows of structural similarity that lie inside the fields of view, at every scale."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hseval.utils.errors import NotComputable

BoolArray = NDArray[np.bool_]

WINDOW_SIZE = 11  # px, side of the Gaussian window
MAX_SCALES = 5


def count_scales(shape: tuple[int, int]) -> int:
    """Return how many scales images of ``(y, x)`` pixels allow: 5 from 161 px on, fewer below, 0 under 11 px.

    Each scale halves the one before (an odd side is rounded up), and the coarsest must have room for a window.
    """
    side, scales = min(shape), 0
    while scales < MAX_SCALES and side >= WINDOW_SIZE:
        side, scales = (side + 1) // 2, scales + 1
    return scales


def find_bounding_box(fields: BoolArray) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box that contains every valid pixel of ``(n, y, x)`` fields.

    Raises:
        NotComputable: there is no valid pixel.
    """
    rows, columns = np.flatnonzero(fields.any(axis=(0, 2))), np.flatnonzero(fields.any(axis=(0, 1)))
    if len(rows) == 0:
        raise NotComputable("no pixel lies inside both fields of view")
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def find_windows_by_scale(fields: BoolArray) -> list[BoolArray | None]:
    """Return, by scale, which windows lie inside the fields; None if all do.

    A coarse pixel is valid if all its fine pixels are. An odd side is padded by a row of zeros before it is
    halved (see :mod:`hseval.metrics.ssim.pyramid`); only an image without invalid pixels counts that row, as the
    common definition for full images does.

    Args:
        fields: ``(n, y, x)``.

    Returns:
        Arrays ``(n, y - 10, x - 10)``, each for the y and x of its scale, for as many scales as the shape allows.
    """
    full = np.asarray(fields.all(axis=(1, 2)))
    levels: list[BoolArray | None] = []
    for _ in range(count_scales(fields.shape[1:])):
        levels.append(None if fields.all() else find_windows_inside(fields))
        fields = _halve_fields(fields, full)
    return levels


def count_usable_scales(valid: BoolArray, pairs: Iterable[tuple[int, int]], *, for_all_pairs: bool = True) -> int:
    """Return the largest number of scales at which every pair has a window inside both fields.

    A pair that has none at the finest scale has no value at all, and is ignored.

    Args:
        valid: bool ``(n, y, x)``, cropped to the common box.
        pairs: indices of the paired images.
        for_all_pairs: False: the largest number at which at least one pair has a window.

    Raises:
        NotComputable: the images are smaller than a window, or no pair has a window.
    """
    if count_scales(valid.shape[1:]) == 0:
        size = " x ".join(map(str, valid.shape[1:]))
        raise NotComputable(
            f"MS-SSIM needs at least {WINDOW_SIZE} x {WINDOW_SIZE} px inside both fields of view, found {size}"
        )
    pairs = list(pairs)
    scales = 0
    for windows in find_windows_by_scale(valid):
        has_window = [windows is None or bool((windows[i] & windows[j]).any()) for i, j in pairs]
        if scales == 0:
            pairs = [pair for pair, has in zip(pairs, has_window, strict=True) if has]
            if not pairs:
                raise NotComputable(f"no window of {WINDOW_SIZE} px lies inside both fields of view")
        elif not (all(has_window) if for_all_pairs else any(has_window)):
            break
        scales += 1
    return scales


def find_windows_inside(fields: BoolArray) -> BoolArray:
    """Return bool ``(n, y - 10, x - 10)``: windows, by their top left pixel, whose pixels are all valid."""
    invalid_counts = np.zeros((len(fields), fields.shape[1] + 1, fields.shape[2] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(~fields, axis=1, dtype=np.int32), axis=2, out=invalid_counts[:, 1:, 1:])
    size = WINDOW_SIZE
    n_invalid = invalid_counts[:, size:, size:] - invalid_counts[:, :-size, size:] - invalid_counts[:, size:, :-size]
    return np.asarray(n_invalid + invalid_counts[:, :-size, :-size] == 0)


def _halve_fields(fields: BoolArray, is_full: BoolArray) -> BoolArray:
    n, y, x = fields.shape
    padded: BoolArray = np.empty((n, y + y % 2, x + x % 2), dtype=np.bool_)
    padded[:] = is_full[:, None, None]
    padded[:, y % 2 :, x % 2 :] = fields
    return np.asarray(padded.reshape(n, (y + 1) // 2, 2, (x + 1) // 2, 2).all(axis=(2, 4)))
