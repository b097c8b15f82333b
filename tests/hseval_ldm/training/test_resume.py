"""A run that was killed and went on leaves, bit for bit, what one that never stopped leaves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from hseval_ldm.training import checkpoint
from hseval_ldm.training.metrics_log import read_metrics_log
from tests.helpers.ldm_processes import run_hseval_forked
from tests.helpers.sets import make_texture_set, save_set

PACE = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}
STAGES = ("features", "autoencoder", "diffusion")

# Everything that draws: crops, flips, dropout; an evaluation in the middle, and checkpoints beside it.
SETTINGS = {
    "crop": 16, "flip": "both", "dropout": 0.2, "features_steps": 4, "ae_steps": 8, "ldm_steps": 8, "score_every": 4,
    "disc_start": 0.4, "checkpoint_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("larger")
    return save_set(folder / "larger.h5", make_texture_set(16, size=24, bands=3))


def lines(run: Path) -> list[dict[str, Any]]:
    """Return the journal without what depends on the machine's mood."""
    found = read_metrics_log(run / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in PACE} for line in found]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_killed_in_each_stage_ends_like_one_never_killed(
    larger: Path, tiny: Path, tmp_path: Path, precision: str
) -> None:
    given = [f"--set={name}={value}" for name, value in (SETTINGS | {"precision": precision}).items()]
    typed = ("train-ldm", larger, "--preset", tiny, "--seed", 5, *given)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = run_hseval_forked(*typed, "--out", whole)
    assert done.status == 0, done.err

    for stage, step, more in (("features", 2, ()), ("autoencoder", 5, ("--resume",)), ("diffusion", 5, ("--resume",))):
        done = run_hseval_forked(*typed, "--out", cut, *more, at=(stage, step))
        assert done.status == -signal.SIGKILL, done.err
        assert lines(cut)[-1]["step"] == step
    done = run_hseval_forked("train-ldm", larger, "--out", cut, "--resume")
    assert done.status == 0, done.err
    assert "diffusion: going on from step 4 of 8" in done.err

    for stage in STAGES:
        for which in (checkpoint.LAST, checkpoint.BEST):
            one, other = (checkpoint.get_path(run / stage, which) for run in (whole, cut))
            assert one.read_bytes() == other.read_bytes(), (stage, which)
    assert lines(whole) == lines(cut)
    assert [line["step"] for line in lines(whole) if "discriminator" in line] == [4, 5, 6, 7, 8]
    assert (whole / "config.json").read_bytes() == (cut / "config.json").read_bytes()
    kept = checkpoint.load(whole / "diffusion")[0]
    for part in ("model", "ema", "optimizer", "scale"):
        assert checkpoint.unpack(part, kept), part
    kept = checkpoint.load(whole / "autoencoder")[0]
    for part in ("model.codebook", "optimizer", "rival", "rival_optimizer"):
        assert checkpoint.unpack(part, kept), part
