"""The check of every cube before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count


def check_sample(
    cube: NDArray[Any],
    masks: Mapping[str, NDArray[Any]],
    structures: Sequence[str],
    wavelengths: NDArray[Any] | None,
    *,
    location: str,
) -> None:
    """Raise HsevalError unless a cube and its masks fit a set of these structures and wavelengths."""
    if cube.ndim != 3 or cube.dtype != np.float32 or 0 in cube.shape:
        raise HsevalError(f"{location}: shape {cube.shape} of {cube.dtype}; float32 (band, y, x) expected")
    if wavelengths is not None and len(wavelengths) != cube.shape[0]:
        raise HsevalError(
            f"{location}: {format_count(cube.shape[0], 'band')}, but {format_count(len(wavelengths), 'wavelength')}"
        )
    if set(masks) != set(structures):
        raise HsevalError(f"{location}: masks {sorted(masks)}; {sorted(structures)} expected")
    for name, mask in masks.items():
        if mask.shape != cube.shape[1:]:
            raise HsevalError(f"{location}: mask {name!r} of shape {mask.shape}, but the cube has {cube.shape[1:]}")
        if mask.dtype.kind not in "biu":
            raise HsevalError(f"{location}: mask {name!r} of type {mask.dtype}; bool or uint8 expected")
