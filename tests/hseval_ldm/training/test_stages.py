"""Whole runs on various sets, and with the options that change a stage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hseval import Sample
from hseval.core.cubes import ArraySet
from hseval.training.checkpoints import unpack_state
from hseval.training.metrics_log import read_metrics_log
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import train
from hseval_ldm.training.run_config import get_checkpoints
from tests.helpers.commands import Command
from tests.helpers.sets import make_texture_set

BASE = make_texture_set(12, size=16, bands=3)
ONE_STEP = {"features_steps": 1, "ae_steps": 1, "ldm_steps": 1}


def replace_parts(base: ArraySet = BASE, **changes: Any) -> ArraySet:
    arguments = {"wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids, "groups": base.groups}
    return ArraySet(changes.pop("cubes", base.cubes), **(arguments | changes))


def fit_ldm(data: ArraySet, tiny: Path, out: Path, **options: Any) -> Ldm:
    generator = Ldm(LdmOptions(preset=str(tiny), **options))
    generator.fit(data, out, device="cpu")
    return generator


def sample_first(generator: Ldm) -> Sample:
    samples = list(generator.sample(2, seed=0))
    assert all(np.isfinite(sample.cube).all() for sample in samples)
    return samples[0]


def read_lines(run: Path, stage: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics_log(run / "metrics.jsonl") if line["stage"] == stage]


# Sets.


def test_a_set_without_masks_yields_cubes_without_masks(tiny: Path, tmp_path: Path) -> None:
    sample = sample_first(fit_ldm(replace_parts(masks={}), tiny, tmp_path, **ONE_STEP))
    assert sample.masks == {} and sample.cube.shape == (3, 16, 16)


def test_a_set_without_wavelengths_yields_cubes_without_wavelengths(tiny: Path, tmp_path: Path) -> None:
    generator = fit_ldm(replace_parts(wavelengths=None), tiny, tmp_path, **ONE_STEP)
    assert generator.wavelengths is None and sample_first(generator).cube.shape == (3, 16, 16)


@pytest.mark.parametrize("crop", [None, 16])
def test_sides_need_not_be_multiples_of_the_compression(tiny: Path, tmp_path: Path, crop: int | None) -> None:
    part = replace_parts(make_texture_set(8, size=37, bands=2))
    masks = {name: mask[:, :30] for name, mask in part.masks.items()}
    data = replace_parts(part, cubes=part.cubes[:, :, :30], masks=masks)
    generator = fit_ldm(data, tiny, tmp_path, crop=crop, compression=8, **ONE_STEP)
    whole = sample_first(generator)
    assert whole.cube.shape == (2, 30, 37) and whole.masks["fov"].shape == (30, 37)
    tiled = Ldm(LdmOptions(tile=2))
    tiled.load(tmp_path, device="cpu")
    np.testing.assert_allclose(sample_first(tiled).cube, whole.cube, rtol=0, atol=1e-5 * np.abs(whole.cube).max())


def test_groups_are_never_split(tiny: Path, tmp_path: Path) -> None:
    groups = [f"eye-{index // 3}" for index in range(12)]
    fit_ldm(replace_parts(groups=groups), tiny, tmp_path, stage="features", **ONE_STEP)
    held_out = json.loads((tmp_path / "config.json").read_text())["held_out"]
    is_held_out: dict[str, set[bool]] = {}
    for name, group in zip(BASE.ids, groups, strict=True):
        is_held_out.setdefault(group, set()).add(name in held_out)
    assert sorted(map(len, is_held_out.values())) == [1, 1, 1, 1]
    assert len(held_out) == 3 and {True} in is_held_out.values() and {False} in is_held_out.values()


def test_without_held_out_cubes_the_last_checkpoint_is_the_best(tiny: Path, tmp_path: Path) -> None:
    # With batches larger than the set, and more codes than latents.
    options = {"held_out": 0, "ae_steps": 2, "ae_batch": 20, "ldm_batch": 30, "codes": 512}
    sample_first(fit_ldm(BASE, tiny, tmp_path, **(ONE_STEP | options)))
    for stage in ("features", "autoencoder", "diffusion"):
        last, best = (get_checkpoints(tmp_path / stage).load(which=which) for which in ("last", "best"))
        assert last[1]["step"] == best[1]["step"]
        assert all(torch.equal(tensor, best[0][name]) for name, tensor in last[0].items()), stage


def test_a_set_read_from_disk_trains_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    options = {"stage": "autoencoder", "features_steps": 0, "ae_steps": 2}
    for name, memory_gib in (("memory", 8.0), ("disk", 0.0)):
        (tmp_path / name).mkdir()
        fit_ldm(BASE, tiny, tmp_path / name, memory=memory_gib, **options)
    first, second = (tmp_path / name / "autoencoder" / "last.safetensors" for name in ("memory", "disk"))
    assert first.read_bytes() == second.read_bytes()


# Options.


def test_the_scoring_interval_does_not_affect_the_training(tiny: Path, tmp_path: Path) -> None:
    options = {"stage": "autoencoder", "features_steps": 0, "ae_steps": 6, "disc_start": 0.34}
    tensors = {}
    for every in (1, 4):  # every step; once in the middle, and at the end
        (tmp_path / str(every)).mkdir()
        fit_ldm(BASE, tiny, tmp_path / str(every), score_every=every, **options)
        tensors[every] = get_checkpoints(tmp_path / str(every) / "autoencoder").load()[0]
    counts = {
        every: sum("psnr" in line for line in read_lines(tmp_path / str(every), "autoencoder")) for every in tensors
    }
    assert counts == {1: 6, 4: 2} and tensors[1].keys() == tensors[4].keys()
    assert {name.split(".")[0] for name in tensors[1]} >= {"model", "optimizer", "rival", "rival_optimizer"}
    measured = re.compile(r"(^|\.)(thresholds$|noise_|common_field$)")  # measured for samples at each evaluation
    for name, tensor in tensors[1].items():
        assert measured.search(name) or torch.equal(tensor, tensors[4][name]), name


def test_training_stage_by_stage_equals_training_all_at_once(
    trained: Path, data: Path, tiny: Path, tmp_path: Path
) -> None:
    from hseval import open_set

    options = LdmOptions(preset=str(tiny))
    for stage in ("features", "autoencoder", "diffusion"):
        stage_options = {"preset": str(tiny), "stage": stage, "resume": stage != "features"}
        assert train(LdmOptions(**stage_options), open_set(data), tmp_path, device="cpu").ldm_steps == options.ldm_steps
    for stage in ("features", "autoencoder", "diffusion"):
        last = f"{stage}/last.safetensors"
        assert (tmp_path / last).read_bytes() == (trained / last).read_bytes()


def test_a_vqvae_trains_like_a_vqgan_without_the_discriminator(tiny: Path, tmp_path: Path) -> None:
    steps = {"ae_steps": 2, "features_steps": 0, "stage": "autoencoder"}
    for name, options in (("vae", {"model": "vqvae"}), ("gan", {"disc_start": 0.5})):
        (tmp_path / name).mkdir()
        fit_ldm(BASE, tiny, tmp_path / name, **steps, **options)
    vae, gan = (read_lines(tmp_path / name, "autoencoder") for name in ("vae", "gan"))
    assert vae[0]["l1"] == gan[0]["l1"]
    gan_terms = {"adversarial", "adaptive_weight", "discriminator"}
    assert gan_terms <= gan[1].keys() and not gan_terms & vae[1].keys()
    tensors, _ = get_checkpoints(tmp_path / "vae" / "autoencoder").load()
    assert not [name for name in tensors if name.startswith("rival")]


@pytest.mark.parametrize(("kmeans", "epochs"), [("every", [1, 3, 5]), ("first", [1]), ("off", [])])
def test_kmeans_sets_the_codebook_at_the_requested_epochs(
    tiny: Path, tmp_path: Path, kmeans: str, epochs: list[int]
) -> None:
    options = {"kmeans": kmeans, "stage": "autoencoder", "features_steps": 0, "ae_steps": 5, "model": "vqvae"}
    fit_ldm(BASE, tiny, tmp_path, **options)  # 9 cubes in batches of 4: an epoch is two steps
    metrics = read_lines(tmp_path, "autoencoder")
    assert [line["step"] for line in metrics if "kmeans_distortion" in line] == epochs
    tensors, _ = get_checkpoints(tmp_path / "autoencoder").load()
    codebook = unpack_state("model.codebook", tensors)
    assert bool(codebook["initialised"]) and float(codebook["counts"].sum()) > 0
    assert len(torch.unique(codebook["vectors"], dim=0)) > 8


def test_a_unet_starts_from_that_of_another_run(trained: Path, tiny: Path, tmp_path: Path) -> None:
    larger = make_texture_set(12, size=24, bands=3)
    options = {"start_from": str(trained), "ldm_lr": 0.0, "ema": 0.0, **ONE_STEP}
    fit_ldm(larger, tiny, tmp_path, **options)
    theirs = unpack_state("ema", get_checkpoints(trained / "diffusion").load(which="best")[0])
    ours = unpack_state("model", get_checkpoints(tmp_path / "diffusion").load()[0])
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_starting_from_a_unet_of_another_shape_is_refused(trained: Path, tiny: Path, tmp_path: Path) -> None:
    from hseval import HsevalError

    with pytest.raises(HsevalError, match=r"diffusion/best.safetensors: holds another network: "):
        fit_ldm(BASE, tiny, tmp_path, start_from=str(trained), latent_channels=8, **ONE_STEP)


def test_a_run_can_be_extended_with_another_learning_rate(run: Path, data: Path, hseval: Command) -> None:
    command = ("train-ldm", data, "--out", run, "--resume", "--set", "ldm_steps=8", "--set", "ldm_lr=5e-4")
    assert hseval(*command).status == 0
    assert [line["step"] for line in read_lines(run, "diffusion")] == [1, 2, 3, 4, 5, 6, 7, 8]
    options = json.loads((run / "config.json").read_text())["options"]
    assert (options["ldm_steps"], options["ldm_lr"], options["ae_steps"]) == (8, 5e-4, 6)
    assert not {"stage", "resume"} & options.keys()


# Metrics.


def test_training_and_held_out_metrics_have_different_names(trained: Path) -> None:
    last = read_lines(trained, "autoencoder")[-1]
    assert {"l1", "fine", "angle", "masks", "perceptual", "adversarial"} <= last.keys()
    held_out = {"held_out_l1", "held_out_fine", "held_out_angle", "psnr", "perplexity", "codes", "fid", "kept_dark"}
    assert held_out <= last.keys()
    assert last["angle"] < np.pi < last["held_out_angle"] < 180  # radians in the loss, and degrees
    assert {"loss", "held_out_loss", "known_loss", "fid", "spectral-kl"} <= read_lines(trained, "diffusion")[-1].keys()
    previews = {path.name for path in (trained / "pictures").iterdir()}
    assert previews == {"autoencoder-0000006.png", "diffusion-0000006.png"}
