"""The presets that ship: what they are made for, and that one of them trains from a command to samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hseval import open_set
from hseval_ldm.models.unet import count_parameters
from hseval_ldm.options import PRESETS, LdmOptions
from hseval_ldm.training.run import build_denoiser
from tests.helpers.commands import Outcome
from tests.helpers.sets import saved, texture_set

Command = Callable[..., Outcome]
SIDES = {"smoke": 32, "demo": 64, "retina-224": 224, "retina-672": 672}
LATENTS = {"smoke": 8, "demo": 16, "retina-224": 28, "retina-672": 42}


@pytest.mark.parametrize("name", PRESETS)
def test_the_latents_divide_into_the_unets_levels(name: str) -> None:
    options = LdmOptions(preset=name)
    assert -(-SIDES[name] // options.compression) == LATENTS[name]
    assert LATENTS[name] >= 2 ** (len(options.multipliers) - 1)
    assert options.crop is None or options.crop % options.compression == 0
    assert options.steps <= options.timesteps and options.score_every % options.log_every == 0


def test_the_references_optimum_is_a_preset() -> None:
    options = LdmOptions(preset="retina-224")
    assert (options.compression, options.latent_channels, options.base) == (8, 8, 512)
    assert options.multipliers == (1, 2, 4) and options.codes == 1024
    with torch.device("meta"):
        assert 2e8 < count_parameters(build_denoiser(options, options.latent_channels)) < 2e9


def test_a_unet_of_224_fits_672_where_the_latents_are_alike() -> None:
    small, large = (LdmOptions(preset=name, latent_channels=8) for name in ("retina-224", "retina-672"))
    with torch.device("meta"):
        shapes = [
            {
                name: tensor.shape
                for name, tensor in build_denoiser(options, options.latent_channels).state_dict().items()
            }
            for options in (small, large)
        ]
    assert shapes[0] == shapes[1]


def test_smoke_trains_and_samples_as_typed(tmp_path: Path, hseval: Command) -> None:
    data = saved(tmp_path / "data.h5", texture_set(12, size=32, bands=4))
    assert hseval("train-ldm", data, "--out", tmp_path / "run", "--preset", "smoke").status == 0
    typed = ("sample", "ldm", "--checkpoint", tmp_path / "run", "-n", 5, "--out", tmp_path / "s.h5")
    assert hseval(*typed).status == 0
    assert len(open_set(tmp_path / "s.h5")) == 5
