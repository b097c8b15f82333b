"""Two ranks train the same model as one rank with the same global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hseval import open_set
from hseval.training.checkpoints import unpack_state
from hseval.training.metrics_log import read_metrics_log
from hseval.utils.distributed import Ranks
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import train
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.two_ranks import run_on_two_ranks, run_torchrun

RATES = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}
# Samples may get other codes where two are equally near, so their scores are not compared.
SAMPLE_SCORES = {"fid", "spectral-kl", "ms-ssim"}
TOLERANCE = 1e-5  # relative; measured: 3e-7 for losses, 3e-6 for the retained contrast of reconstructions
SETTINGS: dict[str, Any] = {
    "flip": "horizontal", "disc_start": 0.3, "dropout": 0.0, "features_steps": 4, "ae_steps": 9, "ldm_steps": 6,
}  # fmt: skip


def train_on_rank(ranks: Ranks, data: Path, tiny: Path, out: Path) -> None:
    """Train as the rank given by the environment."""
    train(LdmOptions(preset=str(tiny), **SETTINGS), open_set(data), out, seed=3, device="cpu")


def test_two_ranks_have_the_losses_weights_and_codebook_of_one(data: Path, tiny: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        out.mkdir()
    train_on_rank(Ranks(), data, tiny, one)
    run_on_two_ranks(train_on_rank, data, tiny, two)
    single, double = (read_metrics_log(run / "metrics.jsonl") for run in (one, two))
    assert len(single) == len(double) == 4 + 9 + 6
    compared = set()
    for ours, theirs in zip(single, double, strict=True):
        assert ours.keys() == theirs.keys() and (ours["stage"], ours["step"]) == (theirs["stage"], theirs["step"])
        for name in ours.keys() - RATES - SAMPLE_SCORES - {"stage"}:
            assert theirs[name] == pytest.approx(ours[name], rel=TOLERANCE), (ours["stage"], ours["step"], name)
            compared.add(name)
    assert {"contrast", "l1", "adaptive_weight", "discriminator", "kmeans_distortion", "loss"} <= compared
    codebooks = [unpack_state("model.codebook", get_checkpoints(run / "autoencoder").load()[0]) for run in (one, two)]
    for name in ("vectors", "counts", "sums"):
        ours, theirs = (codebook[name] for codebook in codebooks)
        assert float((ours - theirs).abs().max()) <= TOLERANCE * float(ours.abs().max()), name


def test_torchrun_trains_on_the_command_line(data: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    steps = [f"--set={stage}_steps=2" for stage in ("features", "ae", "ldm")]
    done = run_torchrun("-m", "hseval", "train-ldm", data, "--out", out, "--preset", tiny, *steps, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    # One rank prints, once; some versions of torch print gloo's connections to stdout as well.
    assert done.stdout.count(f"{out}: ldm trained on {data}; sample cubes with: hseval sample ldm") == 1
    assert done.stdout.count("ldm trained on") == 1
    for stage in ("features", "autoencoder", "diffusion"):
        assert done.stderr.count(f"{stage} 2/2  held out:") == 1
        files = {path.name for path in (out / stage).iterdir()} - {"autoencoder.json"}
        assert files == {"last.safetensors", "previous.safetensors", "best.safetensors"}
    assert "Warning" not in done.stderr.replace("OMP_NUM_THREADS", "")
    assert [(line["stage"], line["step"]) for line in read_metrics_log(out / "metrics.jsonl")] == [
        (stage, step) for stage in ("features", "autoencoder", "diffusion") for step in (1, 2)
    ]
