"""What generator plugins share: cubes as channels, checkpoints, and a training loop that can be resumed.

Nothing of hseval itself needs this package; it is for plugins, and its names are as public as the hooks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hseval.generator_kit.channels import Channels
    from hseval.generator_kit.checkpoint import load_checkpoint, merged_options, save_checkpoint
    from hseval.generator_kit.loop import Loop, chosen_device, seeded, train
    from hseval.generator_kit.sampling import drawn_in_batches, noise_of
    from hseval.generator_kit.state import from_numpy

_LAZY = {
    "Channels": "channels",
    "Loop": "loop",
    "chosen_device": "loop",
    "drawn_in_batches": "sampling",
    "from_numpy": "state",
    "load_checkpoint": "checkpoint",
    "merged_options": "checkpoint",
    "noise_of": "sampling",
    "save_checkpoint": "checkpoint",
    "seeded": "loop",
    "train": "loop",
}

__all__ = [
    "Channels", "Loop", "chosen_device", "drawn_in_batches", "from_numpy", "load_checkpoint", "merged_options",
    "noise_of", "save_checkpoint", "seeded", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"hseval.generator_kit.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'hseval.generator_kit' has no attribute {name!r}")
