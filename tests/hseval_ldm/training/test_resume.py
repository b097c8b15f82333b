"""A run that is killed and resumed ends with the same files, bit for bit, as an uninterrupted one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from hseval.training.checkpoints import BEST, LAST, unpack_state
from hseval.training.metrics_log import read_metrics_log
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.ldm_processes import run_hseval_forked
from tests.helpers.sets import make_texture_set, save_set

RATES = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}
STAGES = ("features", "autoencoder", "diffusion")

# All random draws (crops, flips, dropout), an evaluation in the middle, and checkpoints at other steps.
SETTINGS = {
    "crop": 16, "flip": "both", "dropout": 0.2, "features_steps": 4, "ae_steps": 8, "ldm_steps": 8, "score_every": 4,
    "disc_start": 0.4, "checkpoint_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def larger_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("larger")
    return save_set(folder / "larger.h5", make_texture_set(16, size=24, bands=3))


def read_lines(run: Path) -> list[dict[str, Any]]:
    """Return the metrics log without the timings."""
    lines = read_metrics_log(run / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in RATES} for line in lines]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_killed_in_each_stage_equals_an_uninterrupted_one(
    larger_set: Path, tiny: Path, tmp_path: Path, precision: str
) -> None:
    options = [f"--set={name}={value}" for name, value in (SETTINGS | {"precision": precision}).items()]
    command = ("train-ldm", larger_set, "--preset", tiny, "--seed", 5, *options)
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    done = run_hseval_forked(*command, "--out", whole)
    assert done.status == 0, done.err

    for stage, step, more in (("features", 2, ()), ("autoencoder", 5, ("--resume",)), ("diffusion", 5, ("--resume",))):
        done = run_hseval_forked(*command, "--out", interrupted, *more, at=(stage, step))
        assert done.status == -signal.SIGKILL, done.err
        assert read_lines(interrupted)[-1]["step"] == step
    done = run_hseval_forked("train-ldm", larger_set, "--out", interrupted, "--resume")
    assert done.status == 0, done.err
    assert "diffusion: resuming from step 4 of 8" in done.err

    for stage in STAGES:
        for which in (LAST, BEST):
            one, other = (get_checkpoints(run / stage).get_path(which) for run in (whole, interrupted))
            assert one.read_bytes() == other.read_bytes(), (stage, which)
    assert read_lines(whole) == read_lines(interrupted)
    assert [line["step"] for line in read_lines(whole) if "discriminator" in line] == [4, 5, 6, 7, 8]
    assert (whole / "config.json").read_bytes() == (interrupted / "config.json").read_bytes()
    tensors = get_checkpoints(whole / "diffusion").load()[0]
    for prefix in ("model", "ema", "optimizer", "scale"):
        assert unpack_state(prefix, tensors), prefix
    tensors = get_checkpoints(whole / "autoencoder").load()[0]
    for prefix in ("model.codebook", "optimizer", "rival", "rival_optimizer"):
        assert unpack_state(prefix, tensors), prefix
