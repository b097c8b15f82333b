"""Shared tools of generator plugins: cubes as channels, checkpoints, and a training loop that can be resumed.

hseval itself does not use this package; it is for plugins, and its names are as public as the hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hseval.utils.lazy_exports import build_getattr

if TYPE_CHECKING:
    from hseval.generator_kit.channels import ChannelCodec
    from hseval.generator_kit.checkpoint import from_numpy, load_checkpoint, merge_options, save_checkpoint
    from hseval.generator_kit.loop import LoopConfig, build_seeded_network, choose_device, train
    from hseval.generator_kit.network_generator import NetworkGenerator, NetworkOptions, NetworkTraining
    from hseval.generator_kit.sampling import draw_noise, sample_in_batches
    from hseval.reporting.preview.contact_sheet import save_contact_sheet
    from hseval.training.checkpoints import (
        BEST,
        LAST,
        StageCheckpoints,
        get_optimizer_state,
        load_optimizer_state,
        pack_state,
        unpack_state,
    )
    from hseval.training.ema import Ema
    from hseval.training.loop import train_stage
    from hseval.training.meters import explain_out_of_memory
    from hseval.training.stage import BestCriterion, NetworkStage, Stage, StepIntervals, update_parameters
    from hseval.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank
    from hseval.utils.progress import ProgressReporter, silence_progress

__all__ = [
    "BEST", "LAST", "BestCriterion", "ChannelCodec", "Ema", "LoopConfig", "NetworkGenerator", "NetworkOptions",
    "NetworkStage", "NetworkTraining", "ProgressReporter", "Ranks", "Stage", "StageCheckpoints", "StepIntervals",
    "build_seeded_network", "choose_device", "draw_noise", "explain_out_of_memory", "from_numpy",
    "get_optimizer_state", "load_checkpoint", "load_optimizer_state", "merge_options", "pack_state",
    "run_on_all_ranks", "run_on_main_rank", "sample_in_batches", "save_checkpoint", "save_contact_sheet",
    "silence_progress", "train", "train_stage", "unpack_state", "update_parameters",
]  # fmt: skip

__getattr__ = build_getattr(
    "hseval.generator_kit",
    {
        "hseval.generator_kit.channels": ("ChannelCodec",),
        "hseval.generator_kit.checkpoint": ("from_numpy", "load_checkpoint", "merge_options", "save_checkpoint"),
        "hseval.generator_kit.loop": ("LoopConfig", "build_seeded_network", "choose_device", "train"),
        "hseval.generator_kit.network_generator": ("NetworkGenerator", "NetworkOptions", "NetworkTraining"),
        "hseval.generator_kit.sampling": ("draw_noise", "sample_in_batches"),
        "hseval.reporting.preview.contact_sheet": ("save_contact_sheet",),
        "hseval.training.checkpoints": (
            "BEST",
            "LAST",
            "StageCheckpoints",
            "get_optimizer_state",
            "load_optimizer_state",
            "pack_state",
            "unpack_state",
        ),
        "hseval.training.ema": ("Ema",),
        "hseval.training.loop": ("train_stage",),
        "hseval.training.meters": ("explain_out_of_memory",),
        "hseval.training.stage": ("BestCriterion", "NetworkStage", "Stage", "StepIntervals", "update_parameters"),
        "hseval.utils.distributed": ("Ranks", "run_on_all_ranks", "run_on_main_rank"),
        "hseval.utils.progress": ("ProgressReporter", "silence_progress"),
    },
)
