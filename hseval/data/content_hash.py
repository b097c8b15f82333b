"""Content hashes of cubes (sha256), and file stamps under which these hashes are cached."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hseval.core.cubes import Cube, CubeSet
    from hseval.utils.arrays import Array

RACY_SECONDS = 2.0  # a file changed this recently could change again without a change of its times


def compute_content_hash(data: Array) -> str:
    """Return the sha256 of pixels ``(band, y, x)``: shape and float32 values, independent of the file."""
    import numpy as np

    data = np.ascontiguousarray(data, dtype="<f4")
    digest = hashlib.sha256(repr(data.shape).encode())
    digest.update(data.data)
    return digest.hexdigest()


def compute_masks_hash(masks: Mapping[str, Any]) -> str:
    """Return the sha256 of a cube's masks and their names."""
    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(masks):
        mask = np.ascontiguousarray(masks[name], dtype=bool)
        digest.update(repr((name, mask.shape)).encode())
        digest.update(np.packbits(mask).data)
    return digest.hexdigest()


def compute_cube_hashes(cube: Cube) -> tuple[str, str, str]:
    """Return the hashes of a cube's pixels, of all its masks, and of its field of view."""
    from hseval.core.cubes import FOV

    field = {name: mask for name, mask in cube.masks.items() if name == FOV}
    return compute_content_hash(cube.data), compute_masks_hash(cube.masks), compute_masks_hash(field)


def compute_key(*values: Any) -> str:
    """Return a key of several JSON-serializable values (40 hex digits of their sha256)."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:40]


def compute_file_stamp(cubes: CubeSet, index: int) -> str | None:
    """Return a key that identifies a cube's bytes without reading them, or None where there is none.

    It covers path, size, mtime and ctime in ns and inode of every source file, and the set's reading recipe. A file
    that changed within the last two seconds has no stamp: its next change might not change its times. Neither has one
    whose time lies in the future, by another machine's clock: when it changed is not known.
    """
    sources = cubes.sources(index)
    if not sources:
        return None
    stats = []
    for path in sources:
        try:
            stat = path.stat()
        except OSError:
            return None
        if time.time() - stat.st_ctime_ns / 1e9 < RACY_SECONDS:
            return None
        stats.append((str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    return compute_key(stats, cubes.recipe(index))
