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
    from hseval.training.checkpoint_file import load_weights
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
    from hseval.training.run_folder import check_training_set, hold_run_folder, sort_as_recorded
    from hseval.training.stage import BestCriterion, NetworkStage, Stage, StepIntervals, update_parameters
    from hseval.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank
    from hseval.utils.input_files import read_text
    from hseval.utils.progress import ProgressReporter, silence_progress
    from hseval.utils.structured_files import convert_record, load_json

__all__ = [
    "BEST", "LAST", "BestCriterion", "ChannelCodec", "Ema", "LoopConfig", "NetworkGenerator", "NetworkOptions",
    "NetworkStage", "NetworkTraining", "ProgressReporter", "Ranks", "Stage", "StageCheckpoints", "StepIntervals",
    "build_seeded_network", "check_training_set", "choose_device", "convert_record", "draw_noise",
    "explain_out_of_memory", "from_numpy", "get_optimizer_state", "hold_run_folder", "load_checkpoint", "load_json",
    "load_optimizer_state", "load_weights", "merge_options", "pack_state",
    "read_text", "run_on_all_ranks", "run_on_main_rank", "sample_in_batches", "save_checkpoint", "save_contact_sheet",
    "silence_progress", "sort_as_recorded", "train", "train_stage", "unpack_state", "update_parameters",
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
        "hseval.training.checkpoint_file": ("load_weights",),
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
        "hseval.training.run_folder": ("check_training_set", "hold_run_folder", "sort_as_recorded"),
        "hseval.training.stage": ("BestCriterion", "NetworkStage", "Stage", "StepIntervals", "update_parameters"),
        "hseval.utils.distributed": ("Ranks", "run_on_all_ranks", "run_on_main_rank"),
        "hseval.utils.input_files": ("read_text",),
        "hseval.utils.progress": ("ProgressReporter", "silence_progress"),
        "hseval.utils.structured_files": ("convert_record", "load_json"),
    },
)
