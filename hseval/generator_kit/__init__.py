"""Shared tools of generator plugins: cubes as channels, checkpoints, and a training loop that can be resumed.

hseval itself does not use this package; it is for plugins, and its names are as public as the hooks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hseval.generator_kit.channels import ChannelCodec
    from hseval.generator_kit.checkpoint import load_checkpoint, merge_options, save_checkpoint
    from hseval.generator_kit.loop import LoopConfig, build_seeded_network, choose_device, train
    from hseval.generator_kit.sampling import draw_noise, sample_in_batches
    from hseval.generator_kit.state import from_numpy

_LAZY_EXPORTS = {
    "ChannelCodec": "channels",
    "LoopConfig": "loop",
    "choose_device": "loop",
    "sample_in_batches": "sampling",
    "from_numpy": "state",
    "load_checkpoint": "checkpoint",
    "merge_options": "checkpoint",
    "draw_noise": "sampling",
    "save_checkpoint": "checkpoint",
    "build_seeded_network": "loop",
    "train": "loop",
}

__all__ = [
    "ChannelCodec",
    "LoopConfig",
    "build_seeded_network",
    "choose_device",
    "draw_noise",
    "from_numpy",
    "load_checkpoint",
    "merge_options",
    "sample_in_batches",
    "save_checkpoint",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY_EXPORTS:
        return getattr(importlib.import_module(f"hseval.generator_kit.{_LAZY_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'hseval.generator_kit' has no attribute {name!r}")
