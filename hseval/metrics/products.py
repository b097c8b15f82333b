"""Squared distances of many rows by one float32 product, how far these can be off, and single ones in float64."""

from __future__ import annotations

import contextlib
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.neighbors import rounding_bound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Singles = NDArray[np.float32]
    Places = NDArray[np.int64]

CHECKED = 4096  # pairs that are compared in float64 at a time
THREADS = 8  # at most: each holds a block


def left_factor(rows: NDArray[Any], centre: Floats) -> Singles:
    """Return ``(x, 1, |x|^2)`` for each row x of ``(n, d)`` less ``centre`` ``(d,)``: float32 ``(n, d + 2)``."""
    left = np.empty((len(rows), rows.shape[1] + 2), dtype=np.float32)
    left[:, :-2] = rows - centre
    left[:, -2] = 1
    left[:, -1] = np.einsum("nd,nd->n", left[:, :-2], left[:, :-2], dtype=np.float64)
    return left


def right_factor(left: Singles) -> Singles:
    """Return ``(-2 y, |y|^2, 1)`` for rows ``(y, 1, |y|^2)``: ``left @ right.T`` are squared distances."""
    right = left * np.float32(-2)
    right[:, -2:] = left[:, :-3:-1]
    return right


def slack_of(left: Singles, others: Singles) -> Floats:
    """Return how far, for each row ``(n,)``, the product and a threshold in float32 can be off together.

    Twice the product's bound: what rounding a threshold adds is no more than that, unless the threshold is larger
    than any of the row's distances, and then it decides nothing.
    """
    sizes = left[:, -1].astype(np.float64)
    return 2 * rounding_bound(np.sqrt(sizes), float(np.sqrt(others[:, -1].max())), left.shape[1])


def squared_between(a: NDArray[Any], b: NDArray[Any], i: Places, j: Places) -> Floats:
    """Return squared distances ``(p,)`` of rows ``a[i]`` and ``b[j]`` in float64, by differences: a tie is a tie."""
    found = np.empty(len(i))
    for start in range(0, len(i), CHECKED):
        part = slice(start, start + CHECKED)
        difference = b[j[part]].astype(np.float64, copy=False) - a[i[part]]
        found[part] = np.einsum("nd,nd->n", difference, difference)
    return found


@contextlib.contextmanager
def block_threads() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads, one a core, for blocks of products.

    BLAS gets one thread meanwhile: its own would share each block, wait for one another at its end, and idle while it
    is compared.
    """
    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        yield pool


@functools.cache
def _libraries() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()
