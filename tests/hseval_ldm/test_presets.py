"""The shipped presets: their intended sizes, and the smoke preset from training to samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hseval import open_set
from hseval_ldm.models.unet import build_denoiser
from hseval_ldm.options import PRESETS, LdmOptions
from tests.helpers.commands import Command
from tests.helpers.sets import make_texture_set, save_set

SIDES = {"smoke": 32, "demo": 64, "retina-224": 224, "retina-672": 672}
LATENTS = {"smoke": 8, "demo": 16, "retina-224": 28, "retina-672": 42}


@pytest.mark.parametrize("name", PRESETS)
def test_the_latents_fit_the_levels_of_the_unet(name: str) -> None:
    options = LdmOptions(preset=name)
    assert -(-SIDES[name] // options.compression) == LATENTS[name]
    assert LATENTS[name] >= 2 ** (len(options.multipliers) - 1)
    assert options.crop is None or options.crop % options.compression == 0
    assert options.steps <= options.timesteps and options.score_every % options.log_every == 0


def test_retina_224_is_the_optimum_of_the_reference() -> None:
    options = LdmOptions(preset="retina-224")
    assert (options.compression, options.latent_channels, options.base) == (8, 8, 512)
    assert options.multipliers == (1, 2, 4) and options.codes == 1024
    with torch.device("meta"):
        weights = build_denoiser(options, options.latent_channels).parameters()
        assert 2e8 < sum(weight.numel() for weight in weights) < 2e9


def test_a_unet_trained_at_224_fits_672_with_the_same_latent_channels() -> None:
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


def test_smoke_trains_and_samples_on_the_command_line(tmp_path: Path, hseval: Command) -> None:
    data = save_set(tmp_path / "data.h5", make_texture_set(12, size=32, bands=4))
    assert hseval("train-ldm", data, "--out", tmp_path / "run", "--preset", "smoke").status == 0
    command = ("sample", "ldm", "--checkpoint", tmp_path / "run", "-n", 5, "--out", tmp_path / "s.h5")
    assert hseval(*command).status == 0
    assert len(open_set(tmp_path / "s.h5")) == 5
