"""What can be set when the encoder is fitted."""

from __future__ import annotations

import dataclasses

from hseval.errors import HsevalError
from hseval.options import option


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """What decides the weights, besides the cubes and the seed."""

    steps: int = option(1500, "steps of the fit")
    batch: int = option(16, "crops a step")
    crop: int = option(32, "side of a crop, px")
    width: int = option(16, "channels at full resolution")
    nodes: int = option(16, "places in the spectrum that the network sees (fewer bands: as many)")
    rate: float = option(0.004, "learning rate at its highest")

    def __post_init__(self) -> None:
        """Refuse what can't be fitted."""
        bounds = {"steps": (1, 10**6), "batch": (1, 4096), "crop": (8, 64), "width": (1, 512), "nodes": (4, 256)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise HsevalError(f"fit-extractor: {name} = {getattr(self, name)}, expected {low} to {high}")
        if self.crop % 8:
            raise HsevalError(f"fit-extractor: crop = {self.crop}, expected a multiple of 8")
        if not 0 < self.rate < 1:
            raise HsevalError(f"fit-extractor: rate = {self.rate:g}, expected above 0 and below 1")
