"""Whole runs on sets as users have them, and with the options that change what a stage does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hseval import Sample
from hseval.core.cubes import ArraySet
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint
from hseval_ldm.training.metrics_log import read_metrics_log
from hseval_ldm.training.run import train
from tests.helpers.commands import Outcome
from tests.helpers.sets import make_texture_set

Command = Callable[..., Outcome]
BASE = make_texture_set(12, size=16, bands=3)
ONE_STEP = {"features_steps": 1, "ae_steps": 1, "ldm_steps": 1}


def another(base: ArraySet = BASE, **changes: Any) -> ArraySet:
    given = {"wavelengths": base.wavelengths, "masks": base.masks, "ids": base.ids, "groups": base.groups}
    return ArraySet(changes.pop("cubes", base.cubes), **(given | changes))


def fitted(data: ArraySet, tiny: Path, out: Path, **options: Any) -> Ldm:
    generator = Ldm(LdmOptions(preset=str(tiny), **options))
    generator.fit(data, out, device="cpu")
    return generator


def first(generator: Ldm) -> Sample:
    drawn = list(generator.sample(2, seed=0))
    assert all(np.isfinite(sample.cube).all() for sample in drawn)
    return drawn[0]


def lines(run: Path, stage: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics_log(run / "metrics.jsonl") if line["stage"] == stage]


# Sets.


def test_a_set_without_masks_gives_cubes_alone(tiny: Path, tmp_path: Path) -> None:
    sample = first(fitted(another(masks={}), tiny, tmp_path, **ONE_STEP))
    assert sample.masks == {} and sample.cube.shape == (3, 16, 16)


def test_a_set_without_wavelengths_gives_cubes_without(tiny: Path, tmp_path: Path) -> None:
    generator = fitted(another(wavelengths=None), tiny, tmp_path, **ONE_STEP)
    assert generator.wavelengths is None and first(generator).cube.shape == (3, 16, 16)


@pytest.mark.parametrize("crop", [None, 16])
def test_sides_need_be_no_multiples_of_the_compression(tiny: Path, tmp_path: Path, crop: int | None) -> None:
    part = another(make_texture_set(8, size=37, bands=2))
    masks = {name: mask[:, :30] for name, mask in part.masks.items()}
    data = another(part, cubes=part.cubes[:, :, :30], masks=masks)
    generator = fitted(data, tiny, tmp_path, crop=crop, compression=8, **ONE_STEP)
    whole = first(generator)
    assert whole.cube.shape == (2, 30, 37) and whole.masks["fov"].shape == (30, 37)
    tiled = Ldm(LdmOptions(tile=2))
    tiled.load(tmp_path, device="cpu")
    np.testing.assert_allclose(first(tiled).cube, whole.cube, rtol=0, atol=1e-5 * np.abs(whole.cube).max())


def test_groups_are_never_divided(tiny: Path, tmp_path: Path) -> None:
    groups = [f"eye-{index // 3}" for index in range(12)]
    fitted(another(groups=groups), tiny, tmp_path, stage="features", **ONE_STEP)
    held_out = json.loads((tmp_path / "config.json").read_text())["held_out"]
    sides: dict[str, set[bool]] = {}
    for name, group in zip(BASE.ids, groups, strict=True):
        sides.setdefault(group, set()).add(name in held_out)
    assert sorted(map(len, sides.values())) == [1, 1, 1, 1]
    assert len(held_out) == 3 and {True} in sides.values() and {False} in sides.values()


def test_nothing_held_out_keeps_the_last_as_best(tiny: Path, tmp_path: Path) -> None:
    # With batches larger than the set, and more codes than latents.
    larger = {"held_out": 0, "ae_steps": 2, "ae_batch": 20, "ldm_batch": 30, "codes": 512}
    first(fitted(BASE, tiny, tmp_path, **(ONE_STEP | larger)))
    for stage in ("features", "autoencoder", "diffusion"):
        last, best = (checkpoint.load(tmp_path / stage, which=which) for which in ("last", "best"))
        assert last[1]["step"] == best[1]["step"]
        assert all(torch.equal(tensor, best[0][name]) for name, tensor in last[0].items()), stage


def test_a_set_that_does_not_fit_in_memory_trains_the_same(tiny: Path, tmp_path: Path) -> None:
    options = {"stage": "autoencoder", "features_steps": 0, "ae_steps": 2}
    for name, memory in (("held", 8.0), ("read", 0.0)):
        (tmp_path / name).mkdir()
        fitted(BASE, tiny, tmp_path / name, memory=memory, **options)
    held, read = (tmp_path / name / "autoencoder" / "last.safetensors" for name in ("held", "read"))
    assert held.read_bytes() == read.read_bytes()


# Options.


def test_how_often_is_scored_changes_no_training(tiny: Path, tmp_path: Path) -> None:
    options = {"stage": "autoencoder", "features_steps": 0, "ae_steps": 6, "disc_start": 0.34}
    tensors = {}
    for often in (1, 4):  # every step; once on the way, and at the end
        (tmp_path / str(often)).mkdir()
        fitted(BASE, tiny, tmp_path / str(often), score_every=often, **options)
        tensors[often] = checkpoint.load(tmp_path / str(often) / "autoencoder")[0]
    scored = {often: sum("psnr" in line for line in lines(tmp_path / str(often), "autoencoder")) for often in tensors}
    assert scored == {1: 6, 4: 2} and tensors[1].keys() == tensors[4].keys()
    assert {name.split(".")[0] for name in tensors[1]} >= {"model", "optimizer", "rival", "rival_optimizer"}
    measured = re.compile(r"(^|\.)(thresholds$|noise_|common_field$)")  # for samples, when scored
    for name, tensor in tensors[1].items():
        assert measured.search(name) or torch.equal(tensor, tensors[4][name]), name


def test_stage_by_stage_is_the_same_as_all_at_once(trained: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    from hseval import open_set

    options = LdmOptions(preset=str(tiny))
    for stage in ("features", "autoencoder", "diffusion"):
        given = {"preset": str(tiny), "stage": stage, "resume": stage != "features"}
        assert train(LdmOptions(**given), open_set(data), tmp_path, device="cpu").ldm_steps == options.ldm_steps
    for stage in ("features", "autoencoder", "diffusion"):
        last = f"{stage}/last.safetensors"
        assert (tmp_path / last).read_bytes() == (trained / last).read_bytes()


def test_a_vqvae_is_the_same_without_a_discriminator(tiny: Path, tmp_path: Path) -> None:
    steps = {"ae_steps": 2, "features_steps": 0, "stage": "autoencoder"}
    for name, options in (("vae", {"model": "vqvae"}), ("gan", {"disc_start": 0.5})):
        (tmp_path / name).mkdir()
        fitted(BASE, tiny, tmp_path / name, **steps, **options)
    vae, gan = (lines(tmp_path / name, "autoencoder") for name in ("vae", "gan"))
    assert vae[0]["l1"] == gan[0]["l1"]
    of_gan = {"adversarial", "adaptive_weight", "discriminator"}
    assert of_gan <= gan[1].keys() and not of_gan & vae[1].keys()
    tensors, _ = checkpoint.load(tmp_path / "vae" / "autoencoder")
    assert not [name for name in tensors if name.startswith("rival")]


@pytest.mark.parametrize(("kmeans", "epochs"), [("every", [1, 3, 5]), ("first", [1]), ("off", [])])
def test_kmeans_sets_the_codebook_as_often_as_asked(tiny: Path, tmp_path: Path, kmeans: str, epochs: list[int]) -> None:
    options = {"kmeans": kmeans, "stage": "autoencoder", "features_steps": 0, "ae_steps": 5, "model": "vqvae"}
    fitted(BASE, tiny, tmp_path, **options)  # 9 cubes in batches of 4: an epoch is two steps
    found = lines(tmp_path, "autoencoder")
    assert [line["step"] for line in found if "kmeans_distortion" in line] == epochs
    tensors, _ = checkpoint.load(tmp_path / "autoencoder")
    book = checkpoint.unpack("model.codebook", tensors)
    assert bool(book["initialised"]) and float(book["counts"].sum()) > 0
    assert len(torch.unique(book["vectors"], dim=0)) > 8


def test_a_unet_starts_from_another_runs(trained: Path, tiny: Path, tmp_path: Path) -> None:
    larger = make_texture_set(12, size=24, bands=3)
    options = {"start_from": str(trained), "ldm_lr": 0.0, "ema": 0.0, **ONE_STEP}
    fitted(larger, tiny, tmp_path, **options)
    theirs = checkpoint.unpack("ema", checkpoint.load(trained / "diffusion", which="best")[0])
    ours = checkpoint.unpack("model", checkpoint.load(tmp_path / "diffusion")[0])
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_unet_does_not_start_from_one_of_another_shape(trained: Path, tiny: Path, tmp_path: Path) -> None:
    from hseval import HsevalError

    with pytest.raises(HsevalError, match=r"diffusion/best.safetensors: belongs to a network of another shape \("):
        fitted(BASE, tiny, tmp_path, start_from=str(trained), latent_channels=8, **ONE_STEP)


def test_a_run_may_go_on_longer_and_with_other_rates(run: Path, data: Path, hseval: Command) -> None:
    typed = ("train-ldm", data, "--out", run, "--resume", "--set", "ldm_steps=8", "--set", "ldm_lr=5e-4")
    assert hseval(*typed).status == 0
    assert [line["step"] for line in lines(run, "diffusion")] == [1, 2, 3, 4, 5, 6, 7, 8]
    written = json.loads((run / "config.json").read_text())["options"]
    assert (written["ldm_steps"], written["ldm_lr"], written["ae_steps"]) == (8, 5e-4, 6)
    assert not {"stage", "resume"} & written.keys()


# Figures.


def test_training_figures_and_held_out_ones_have_names_of_their_own(trained: Path) -> None:
    last = lines(trained, "autoencoder")[-1]
    assert {"l1", "fine", "angle", "masks", "perceptual", "adversarial"} <= last.keys()
    held_out = {"held_out_l1", "held_out_fine", "held_out_angle", "psnr", "perplexity", "codes", "fid", "kept_dark"}
    assert held_out <= last.keys()
    assert last["angle"] < np.pi < last["held_out_angle"] < 180  # radians, which the loss weighs, and degrees
    assert {"loss", "held_out_loss", "known_loss", "fid", "spectral-kl"} <= lines(trained, "diffusion")[-1].keys()
    pictures = {path.name for path in (trained / "pictures").iterdir()}
    assert pictures == {"autoencoder-0000006.png", "diffusion-0000006.png"}
