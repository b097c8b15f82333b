"""A sweep over U-Nets and steps on shared autoencoders, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from hseval.training.metrics_log import read_metrics_log
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.commands import Command
from tests.helpers.sets import make_texture_set, save_set


def test_autoencoders_are_shared_by_widths_and_unets_by_step_counts(
    data: Path, tiny: Path, tmp_path: Path, hseval: Command
) -> None:
    ref = save_set(tmp_path / "ref.h5", make_texture_set(16, size=16, bands=3, seed=3), units="reflectance")
    file = tmp_path / "s.toml"
    file.write_text(
        f'samples = 8\ndevice = "cpu"\n[data]\ntrain = "{data}"\nref = "{ref}"\n'
        '[score]\nmetrics = ["spectral-kl"]\n[timing]\ncubes = 2\nrepeats = 1\n[plot]\ny = []\n'
        f'[[generator]]\nname = "ldm"\n[generator.set]\npreset = "{tiny}"\n'
        "[[generator.configurations]]\nlatent_channels = 4\nbase = 8\n"
        "[[generator.configurations]]\nlatent_channels = 4\nbase = 16\n"
        "[[generator.configurations]]\nlatent_channels = 2\nbase = 8\n"
        "[generator.grid]\nsteps = [1, 2]\n"
    )
    done = hseval("sweep", file)
    assert done.status == 0, done.err
    out = tmp_path / "s.sweep"
    stages = [[line["stage"] for line in read_metrics_log(path / "files" / "metrics.jsonl")]
              for path in [*out.glob("stages/*"), *out.glob("fits/*")]]  # fmt: skip
    trained = sorted(tuple(sorted(set(names))) for names in stages)
    assert trained == [("autoencoder",)] * 2 + [("diffusion",)] * 3 + [("features",)]
    weights = {get_checkpoints(path / "files" / "autoencoder").get_path().stat().st_ino for path in out.glob("fits/*")}
    assert len(weights) == 2  # each is stored once
    rows = json.loads((out / "results.json").read_text())["rows"]
    values = {row["label"]: row["scores"]["spectral-kl"]["value"] for row in rows}
    assert len(values) == len(set(values.values())) == 6
