"""Reuse of the first stages of another run, as in a sweep over U-Nets."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from hseval import HsevalError, open_set
from hseval.training.checkpoints import PREVIOUS
from hseval.training.metrics_log import read_metrics_log
from hseval_ldm.generator import Ldm
from hseval_ldm.options import COMMAND_OPTIONS, SAMPLING_OPTIONS, STAGE_OPTIONS, LdmOptions
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.sets import make_texture_set

DIFFUSION_OPTIONS = {
    "base", "multipliers", "unet_blocks", "dropout", "timesteps", "snr_gamma", "ldm_steps", "ldm_batch", "ldm_lr",
    "ema", "start_from", "score_cubes",
}  # fmt: skip

NEUTRAL_OPTIONS = {"preset", "memory", "loaders", "log_every", "checkpoint_every", "tensorboard", *COMMAND_OPTIONS}


def build_ldm(tiny: Path, **options: object) -> Ldm:
    return Ldm(LdmOptions(preset=str(tiny), **options))


def test_every_option_belongs_to_a_stage_or_is_neutral() -> None:
    shared = {name for names in STAGE_OPTIONS.values() for name in names}
    assert shared & DIFFUSION_OPTIONS == shared & NEUTRAL_OPTIONS == set()
    declared = {field.name for field in dataclasses.fields(LdmOptions)}
    assert declared == shared | DIFFUSION_OPTIONS | NEUTRAL_OPTIONS | set(SAMPLING_OPTIONS)


def test_a_unet_on_a_reused_autoencoder_equals_one_trained_in_a_single_run(
    trained: Path, data: Path, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    build_ldm(tiny).fit(open_set(data), tmp_path / "shared", device="cpu", until="autoencoder")
    assert not (tmp_path / "shared" / "diffusion").exists()
    for base in (8, 16):
        (tmp_path / f"{base}").mkdir()
        build_ldm(tiny, base=base).fit(open_set(data), tmp_path / f"{base}", device="cpu", start=tmp_path / "shared")
        stages = {line["stage"] for line in read_metrics_log(tmp_path / f"{base}" / "metrics.jsonl")}
        assert stages == {"diffusion"}  # nothing was trained twice
    names = [f"{stage}/{which}.safetensors" for stage in ("autoencoder", "diffusion") for which in ("last", "best")]
    for name in names:
        assert (tmp_path / "8" / name).read_bytes() == (trained / name).read_bytes()
    shared = get_checkpoints(tmp_path / "shared" / "autoencoder").get_path()
    assert shared.samefile(get_checkpoints(tmp_path / "16" / "autoencoder").get_path())


@pytest.mark.parametrize("features_steps", [0, 2])
def test_a_perceptual_encoder_is_reused_by_autoencoders_of_other_shapes(
    data: Path, tiny: Path, tmp_path: Path, features_steps: int
) -> None:
    for name in ("shared", "run"):
        (tmp_path / name).mkdir()
    options = {"features_steps": features_steps}
    build_ldm(tiny, **options).fit(open_set(data), tmp_path / "shared", device="cpu", until="features")
    other = build_ldm(tiny, latent_channels=8, ae_lr=1e-3, **options)
    other.fit(open_set(data), tmp_path / "run", device="cpu", until="autoencoder", start=tmp_path / "shared")
    stages = {line["stage"] for line in read_metrics_log(tmp_path / "run" / "metrics.jsonl")}
    assert stages == {"autoencoder"}
    with pytest.raises(HsevalError, match="was trained with ae_batch=4, not 2"):
        build_ldm(tiny, ae_batch=2, **options).fit(
            open_set(data), tmp_path / "x", device="cpu", start=tmp_path / "shared"
        )


def test_a_killed_fit_on_a_reused_autoencoder_resumes(trained: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "shared")
    shutil.rmtree(tmp_path / "shared" / "diffusion")
    (tmp_path / "run" / "autoencoder").mkdir(parents=True)
    (tmp_path / "run" / "autoencoder" / "last.safetensors").write_bytes(b"a truncated copy")
    for _ in range(2):  # the second has no steps left
        build_ldm(tiny).fit(open_set(data), tmp_path / "run", device="cpu", start=tmp_path / "shared", resume=True)
    last = "diffusion/last.safetensors"
    assert (tmp_path / "run" / last).read_bytes() == (trained / last).read_bytes()


@pytest.mark.parametrize(
    "case",
    [
        ({"latent_channels": 8}, 0, "was trained with latent_channels=4, not 8; its stages can't be reused"),
        ({"ae_lr": 1e-4}, 0, "was trained with ae_lr=0.002, not 0.0001"),
        ({}, 1, "was trained with seed 0, not 1"),
    ],
)
def test_stages_of_other_options_are_refused(
    trained: Path, data: Path, tiny: Path, tmp_path: Path, case: tuple[dict[str, object], int, str]
) -> None:
    options, seed, message = case
    with pytest.raises(HsevalError, match=message):
        build_ldm(tiny, **options).fit(open_set(data), tmp_path / "run", seed=seed, device="cpu", start=trained)
    assert not (tmp_path / "run").exists()


def test_stages_of_another_set_or_unfinished_ones_are_refused(
    trained: Path, data: Path, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(HsevalError, match="was trained on another set"):
        build_ldm(tiny).fit(make_texture_set(12, size=16, bands=3), tmp_path / "run", device="cpu", start=trained)
    unfinished = Path(shutil.copytree(trained, tmp_path / "unfinished"))
    previous = get_checkpoints(unfinished / "autoencoder").get_path(PREVIOUS)
    previous.replace(get_checkpoints(unfinished / "autoencoder").get_path())
    with pytest.raises(HsevalError, match=r"unfinished/autoencoder: is not finished"):
        build_ldm(tiny).fit(open_set(data), tmp_path / "run", device="cpu", start=unfinished)


def test_an_unknown_stage_is_refused_with_the_nearest_name(data: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"ldm has no stage 'autoencodr' \(did you mean 'autoencoder'\?\)"):
        build_ldm(tiny).fit(open_set(data), tmp_path / "run", device="cpu", until="autoencodr")
