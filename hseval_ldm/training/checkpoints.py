"""The format of the checkpoints of a run's stages."""

from __future__ import annotations

from pathlib import Path

from hseval.generator_kit import StageCheckpoints


def get_checkpoints(folder: Path) -> StageCheckpoints:
    """Return the checkpoints in the folder of a stage."""
    return StageCheckpoints(folder, "hseval-ldm-checkpoint-1", create_hint="create it with hseval train-ldm")
