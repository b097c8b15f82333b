"""Keys of cached features: what is hashed, written out, and what a file's stamp covers."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from hseval.core.cubes import FOV, Cube
from hseval.data.content_hash import (
    compute_content_hash,
    compute_cube_hashes,
    compute_file_stamp,
    compute_key,
    compute_masks_hash,
)
from hseval.readers.folder import FolderReader
from tests.helpers.sets import make_texture_set


def test_a_content_hash_is_that_of_the_shape_and_the_little_endian_float32_values() -> None:
    cube = np.arange(24).reshape(2, 3, 4)
    expected = hashlib.sha256(b"(2, 3, 4)" + cube.astype("<f4").tobytes()).hexdigest()
    for stored in (cube.astype(np.float64), cube.astype(">f4"), np.asfortranarray(cube)):
        assert compute_content_hash(stored) == expected
    assert compute_content_hash(cube.reshape(2, 4, 3)) != expected


def test_masks_are_hashed_with_their_names_and_shapes_in_whatever_order() -> None:
    vein, fov = np.eye(3, 5, dtype=bool), np.ones((3, 5), dtype=bool)
    expected = hashlib.sha256()
    for name, mask in (("fov", fov), ("vein", vein)):
        expected.update(repr((name, (3, 5))).encode() + np.packbits(mask).tobytes())
    assert compute_masks_hash({"vein": vein, "fov": fov}) == expected.hexdigest()
    assert compute_masks_hash({"fov": fov, "vein": vein.astype(np.uint8)}) == expected.hexdigest()
    assert compute_masks_hash({}) == hashlib.sha256().hexdigest()
    cube = Cube(np.zeros((2, 3, 5), dtype=np.float32), {"vein": vein, FOV: fov})
    assert compute_cube_hashes(cube) == (
        compute_content_hash(cube.data),
        expected.hexdigest(),
        compute_masks_hash({FOV: fov}),
    )


def test_a_key_is_that_of_the_values_as_json_whatever_the_order_of_names() -> None:
    expected = hashlib.sha256(b'["scattering", {"a": 1, "b": 2.5}, "x.h5"]').hexdigest()[:40]
    assert compute_key("scattering", {"b": 2.5, "a": 1}, Path("x.h5")) == expected


def test_a_stamp_covers_path_size_times_and_inode_and_recent_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "cube.npy"
    np.save(path, np.zeros((2, 8, 8), dtype=np.float32))
    cubes = FolderReader().open(path)
    assert compute_file_stamp(cubes, 0) is None  # its next change might not change its times
    time.sleep(2.1)
    stat = path.stat()
    times = (stat.st_mtime_ns, stat.st_ctime_ns)
    expected = compute_key([(str(path.absolute()), stat.st_size, *times, stat.st_ino)], cubes.recipe(0))
    assert compute_file_stamp(cubes, 0) == expected
    os.utime(path, ns=(0, stat.st_mtime_ns))  # the same time of modification, another ctime
    assert compute_file_stamp(cubes, 0) is None
    path.unlink()
    assert compute_file_stamp(cubes, 0) is None


def test_a_set_in_memory_has_no_stamp() -> None:
    assert compute_file_stamp(make_texture_set(1, size=16), 0) is None
