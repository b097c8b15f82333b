"""Options of the features and of a fit."""

from __future__ import annotations

import dataclasses

from hseval.core.options import check_ranges, option
from hseval.utils.errors import HsevalError


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """Options of the features."""

    weights: str | None = option(None, "file made by hseval fit-extractor (.safetensors)")


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Options of a fit; cubes and seed decide the rest."""

    steps: int = option(1500, "steps of the fit")
    batch: int = option(16, "crops a step")
    crop: int = option(32, "side of a crop, px")
    width: int = option(16, "channels at full resolution")
    nodes: int = option(16, "spectral nodes of the network's input (at most one per band)")
    rate: float = option(0.004, "peak learning rate")

    def __post_init__(self) -> None:
        """Refuse options that can't be fitted."""
        ranges = {"steps": (1, 10**6), "batch": (1, 4096), "crop": (8, 64), "width": (1, 512), "nodes": (4, 256)}
        check_ranges(self, ranges, owner="fit-extractor")
        if self.crop % 8:
            raise HsevalError(f"fit-extractor: crop = {self.crop}, expected a multiple of 8")
        if not 0 < self.rate < 1:
            raise HsevalError(f"fit-extractor: rate = {self.rate:g}, expected above 0 and below 1")
