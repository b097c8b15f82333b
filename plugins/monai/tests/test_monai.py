"""The contract, resuming, and that the stages fit each other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hseval_monai.generator import Monai
from hseval_monai.networks import Flow
from hseval_monai.stages import Stages

from hseval import HsevalError
from hseval.generating import Channels, chosen_device
from hseval.plugins import plugins
from hseval.testing import check_generator, example_set

TINY = Monai.Options(
    ae_channels=(8, 8),
    latent_channels=2,
    ae_steps=4,
    channels=(8, 8),
    blocks=1,
    steps=4,
    batch=4,
    checkpoint_every=2,
    flow_steps=3,
    sample_batch=2,
)


def test_is_found_by_its_name() -> None:
    assert plugins().find("generator", "monai") is Monai


def test_keeps_the_contract_of_generators(tmp_path: Path) -> None:
    check_generator(Monai(TINY), tmp_path=tmp_path, data=example_set(6, size=17))  # 17 px are padded


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data, folders = example_set(6, size=24), [tmp_path / name for name in ("whole", "halves")]
    for folder in folders:
        folder.mkdir()
    Monai(TINY).fit(data, folders[0], seed=3)
    Monai(dataclasses.replace(TINY, steps=2)).fit(data, folders[1], seed=3)
    Monai(dataclasses.replace(TINY, resume=True)).fit(data, folders[1], seed=3)
    whole, halves = ((folder / "monai.safetensors").read_bytes() for folder in folders)
    assert whole == halves
    with pytest.raises(HsevalError, match="was begun with ae_steps=4, not 5"):  # other latents
        Monai(dataclasses.replace(TINY, resume=True, ae_steps=5)).fit(data, folders[1], seed=3)


def test_the_autoencoder_learns_to_reconstruct(tmp_path: Path) -> None:
    data = example_set(6, size=16)
    channels, errors = Channels.of(data, multiple=4), []
    for steps in (1, 100):
        given = dataclasses.replace(TINY, batch=6, ae_steps=steps, ae_rate=5e-3, average=0.9)
        stages = Stages(given, data, channels, out=tmp_path, seed=0, device=chosen_device("cpu"))
        network = stages.autoencoder()
        pictures = stages.pictures(range(6))
        errors.append(float((network.reconstruct(pictures) - pictures).detach().abs().mean()))
    assert errors[1] < 0.7 * errors[0]
    latents, mean, deviation = stages.latents(network)
    assert latents.shape[1:] == (2, 8, 8)
    assert np.allclose(latents.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    assert np.allclose(latents.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert mean.shape == deviation.shape == (2,)


@pytest.mark.parametrize("deviation", [0.2, 1.0, 3.0])
def test_twelve_steps_of_the_flow_reach_the_gaussian_of_an_exact_network(deviation: float) -> None:
    def exact(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        place = (times / 1000)[:, None, None, None]  # 0 at the data, 1 at the noise
        power = ((1 - place) * deviation) ** 2 + place**2
        apart = (noisy - (1 - place) * 0.5) / power
        return 0.5 + ((1 - place) * deviation**2 - place) * apart  # E[data] - E[noise]

    noise = np.random.default_rng(0).standard_normal((4, 2, 8, 8), dtype=np.float32)
    made = Flow().sample(exact, noise, steps=12, device=torch.device("cpu")).numpy()
    slope, mean = np.polyfit(noise.ravel(), made.ravel(), 1)  # the flow of a Gaussian is linear
    assert slope == pytest.approx(deviation, rel=0.02)
    assert mean == pytest.approx(0.5, abs=0.005)
