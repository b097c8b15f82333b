"""Small textured sets, in memory and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import ArraySet
from hseval.data.writer import write_set


def make_texture_set(
    n: int = 24, *, size: int = 32, bands: int = 6, seed: int = 0, gain: float = 1.0, field: bool = True
) -> ArraySet:
    """Return smooth random spectra times smooth random maps, with a bright and a dark structure and a round ``fov``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    nm = np.linspace(450, 905, bands)
    cubes = np.empty((n, bands, size, size), dtype=np.float32)
    masks = {name: np.zeros((n, size, size), dtype=bool) for name in ("bright", "dark")}
    for i in range(n):
        phases, tilts = rng.uniform(0, 2 * np.pi, 4), rng.uniform(3, 9, 4)
        base = sum(np.sin(t * x * np.cos(p) + t * y * np.sin(p) + p) for p, t in zip(phases, tilts, strict=True))
        base = 0.4 + 0.08 * (base - base.mean()) / base.std() + rng.normal(0, 0.01, (size, size))
        spectrum = np.exp(-(((nm - rng.normal(640, 15)) / 220) ** 2)) * rng.normal(1, 0.06)
        masks["bright"][i], masks["dark"][i] = base > 0.46, base < 0.34
        tint = np.exp(-(((nm - 820) / 150) ** 2))[:, None, None] * 0.1 * np.roll(base, size // 3, axis=1)
        cubes[i] = gain * (spectrum[:, None, None] * base + tint) + rng.normal(0, 0.003, (bands, size, size))
    if field:
        round_field = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.23
        cubes[:, :, ~round_field] = 0
        masks = {name: mask & round_field for name, mask in masks.items()}
        masks["fov"] = np.broadcast_to(round_field, (n, size, size)).copy()
    return ArraySet(cubes, wavelengths=nm, masks=masks, ids=[f"cube-{seed}-{i:03d}" for i in range(n)])


def save_set(path: Path, base: ArraySet, /, **changes: Any) -> Path:
    """Write a set in hseval's HDF5 format, with some arguments of ``write_set`` replaced, and return the path."""
    arguments = {"wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids, "groups": base.groups}
    arguments |= changes
    write_set(path, arguments.pop("cubes", base.cubes), **arguments)
    return path


def replace_parts(base: ArraySet, **changes: Any) -> ArraySet:
    """Return the set with some of its arguments replaced."""
    parts = {
        "cubes": base.cubes, "wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids,
        "groups": base.groups,
    }  # fmt: skip
    return ArraySet(**{**parts, **changes})
