"""Chunks of cubes that are read together, and how features travel between ranks."""

from __future__ import annotations

import numpy as np
import pytest

from hseval.core.cubes import ArraySet
from hseval.pipeline.extract import _compute_chunk_size, _pack_arrays, _unpack_arrays
from hseval.pipeline.worker import ExtractedCube


@pytest.mark.parametrize(
    ("shape", "batch_size", "expected"),
    [
        ((16, 512, 512), 1, 4),  # of 16 MiB each: 64 MiB
        ((16, 1024, 2048), 1, 1),  # of 128 MiB
        ((16, 1024, 2048), 3, 3),  # a batch is never divided
        ((4, 512, 1024), 1, 8),  # of 8 MiB
        ((1, 8, 8), 1, 8),
    ],
)
def test_cubes_of_64_mib_and_at_most_eight_are_read_together(
    shape: tuple[int, int, int], batch_size: int, expected: int
) -> None:
    cubes = ArraySet(np.broadcast_to(np.float32(0), (2, *shape)))
    assert _compute_chunk_size(cubes, batch_size) == expected


def test_what_ranks_send_is_what_they_receive() -> None:
    def make_cube(index: int, *, valid: bool) -> ExtractedCube:
        hashes = tuple(f"{index}{kind}".ljust(64, "0") for kind in "abc")
        columns = {"x": {"mean": np.full(3, float(index)), "std": np.zeros(1)}, "y": {"n": np.array([index])}}
        return ExtractedCube(index, hashes, columns if valid else {})  # type: ignore[arg-type]

    sent = [make_cube(4, valid=False), make_cube(2, valid=True), make_cube(7, valid=True)]
    received = list(_unpack_arrays(_pack_arrays(sent)))
    assert [(cube.index, cube.hashes) for cube in received] == [(cube.index, cube.hashes) for cube in sent]
    for cube, original in zip(received, sent, strict=True):
        np.testing.assert_equal(cube.columns, original.columns)
