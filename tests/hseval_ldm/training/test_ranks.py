"""Two ranks train what one rank trains with the same global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hseval import open_set
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint
from hseval_ldm.training.metrics_log import read_metrics_log
from hseval_ldm.training.run import train
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import run_on_two_ranks, run_torchrun

PACE = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}
# A sample's code may fall the other way where two are equally near; all other figures are compared.
OF_SAMPLES = {"fid", "spectral-kl", "ms-ssim"}
TOLERANCE = 1e-5  # relative; measured are 3e-7 for losses, 3e-6 for the contrast that reconstructions keep
SETTINGS: dict[str, Any] = {
    "flip": "horizontal", "disc_start": 0.3, "dropout": 0.0, "features_steps": 4, "ae_steps": 9, "ldm_steps": 6,
}  # fmt: skip


def trained_by(ranks: Ranks, data: Path, tiny: Path, out: Path) -> None:
    """Train as one of the ranks that the environment tells of."""
    train(LdmOptions(preset=str(tiny), **SETTINGS), open_set(data), out, seed=3, device="cpu")


def test_losses_weight_and_codebook_are_those_of_one_rank(data: Path, tiny: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        out.mkdir()
    trained_by(Ranks(), data, tiny, one)
    run_on_two_ranks(trained_by, data, tiny, two)
    alone, together = (read_metrics_log(run / "metrics.jsonl") for run in (one, two))
    assert len(alone) == len(together) == 4 + 9 + 6
    compared = set()
    for ours, theirs in zip(alone, together, strict=True):
        assert ours.keys() == theirs.keys() and (ours["stage"], ours["step"]) == (theirs["stage"], theirs["step"])
        for name in ours.keys() - PACE - OF_SAMPLES - {"stage"}:
            assert theirs[name] == pytest.approx(ours[name], rel=TOLERANCE), (ours["stage"], ours["step"], name)
            compared.add(name)
    assert {"contrast", "l1", "adaptive_weight", "discriminator", "kmeans_distortion", "loss"} <= compared
    books = [checkpoint.unpack("model.codebook", checkpoint.load(run / "autoencoder")[0]) for run in (one, two)]
    for name in ("vectors", "counts", "sums"):
        ours, theirs = (book[name] for book in books)
        assert float((ours - theirs).abs().max()) <= TOLERANCE * float(ours.abs().max()), name


def test_torchrun_trains_as_typed(data: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    steps = [f"--set={stage}_steps=2" for stage in ("features", "ae", "ldm")]
    done = run_torchrun("-m", "hseval", "train-ldm", data, "--out", out, "--preset", tiny, *steps, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: ldm trained on {data}; draw cubes with: hseval sample ldm")
    assert len(done.stdout.splitlines()) == 1
    for stage in ("features", "autoencoder", "diffusion"):
        assert done.stderr.count(f"{stage} 2/2  held out:") == 1
        found = {path.name for path in (out / stage).iterdir()} - {"autoencoder.json"}
        assert found == {"last.safetensors", "previous.safetensors", "best.safetensors"}
    assert "Warning" not in done.stderr.replace("OMP_NUM_THREADS", "")
    assert [(line["stage"], line["step"]) for line in read_metrics_log(out / "metrics.jsonl")] == [
        (stage, step) for stage in ("features", "autoencoder", "diffusion") for step in (1, 2)
    ]
