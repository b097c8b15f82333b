"""The contract, resuming, the losses, and the flow."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hseval_monai.generator import Monai
from hseval_monai.networks import RectifiedFlow, reconstruction_loss
from hseval_monai.stages import encode_latents, train_autoencoder
from safetensors.numpy import load_file

from hseval.generator_kit import ChannelCodec, NetworkTraining, choose_device
from hseval.plugin import HsevalError
from hseval.testing import check_generator, find_plugin, make_example_set

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


def test_generator_is_registered() -> None:
    assert find_plugin("generator", "monai") is Monai


def test_generator_fulfills_contract(tmp_path: Path) -> None:
    check_generator(Monai(TINY), tmp_path=tmp_path, data=make_example_set(6, size=17))  # 17 px are padded


def test_resumed_training_gives_same_weights(tmp_path: Path) -> None:
    data, folders = make_example_set(6, size=24), [tmp_path / name for name in ("whole", "halves")]
    for folder in folders:
        folder.mkdir()
    Monai(TINY).fit(data, folders[0], seed=3)
    Monai(dataclasses.replace(TINY, steps=2)).fit(data, folders[1], seed=3)
    Monai(dataclasses.replace(TINY, resume=True)).fit(data, folders[1], seed=3)
    whole, halves = (load_file(folder / "monai.safetensors") for folder in folders)
    assert whole.keys() == halves.keys()
    assert all(np.array_equal(whole[key], halves[key]) for key in whole)
    with pytest.raises(HsevalError, match="was started with ae_steps=4, not 5"):  # other latents
        Monai(dataclasses.replace(TINY, resume=True, ae_steps=5)).fit(data, folders[1], seed=3)


def test_autoencoder_learns_to_reconstruct(tmp_path: Path) -> None:
    data = make_example_set(6, size=16)
    channels, errors = ChannelCodec.from_set(data, multiple=4), []
    for steps in (1, 100):
        options = dataclasses.replace(TINY, batch=6, ae_steps=steps, ae_rate=5e-3, average=0.9)
        training = NetworkTraining(options, data, channels, tmp_path, seed=0, device=choose_device("cpu"))
        network = train_autoencoder(training)
        images = training.encode(range(6))
        residual = (network.reconstruct(images) - images).detach()[:, : len(channels.mean)]
        errors.append(float(residual.abs().mean()))
    assert errors[1] < 0.7 * errors[0]
    latents, scale = encode_latents(training, network)
    assert latents.shape[1:] == (2, 8, 8)
    assert np.allclose(latents.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    assert np.allclose(latents.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert scale.mean.shape == scale.deviation.shape == (2,)


class FixedAutoencoder(torch.nn.Module):
    """Latents of one value and unit standard deviation, decoded to a fixed output."""

    def __init__(self, decoded: torch.Tensor) -> None:
        super().__init__()
        self.decoded = decoded

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean 0.5 and standard deviation 1, whose divergence is 1 / 8 nat."""
        return torch.full((len(images), 1, 2, 2), 0.5), torch.ones(len(images), 1, 2, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the fixed output."""
        return self.decoded


def test_reconstruction_loss_is_l1_of_bands_and_cross_entropy_of_masks() -> None:
    images = torch.tensor([0.5, -0.5, 1.0])[None, :, None, None].expand(2, 3, 4, 4)  # two bands, one mask: inside
    odds = 3.0  # to 1
    decoded = torch.tensor([0.25, 0.0, float(np.log(odds))])[None, :, None, None].expand(2, 3, 4, 4)
    loss = reconstruction_loss(FixedAutoencoder(decoded), images, np.random.default_rng(0), bands=2, kl_weight=0.4)
    assert float(loss) == pytest.approx((0.25 + 0.5) / 2 + np.log(1 + 1 / odds) + 0.4 / 8, rel=1e-6)
    bands_loss = reconstruction_loss(
        FixedAutoencoder(decoded[:, :2]), images[:, :2], np.random.default_rng(0), bands=2, kl_weight=0.4
    )
    assert float(bands_loss) == pytest.approx((0.25 + 0.5) / 2 + 0.4 / 8, rel=1e-6)


def test_optimal_mask_logit_matches_share_inside() -> None:
    """Of a pixel inside in one cube of four; an absolute error would be minimal at the median, outside."""
    masks = torch.tensor([1.0, -1.0, -1.0, -1.0])[:, None, None, None].expand(4, 1, 2, 2)
    images = torch.cat([torch.zeros(4, 1, 2, 2), masks], dim=1)
    logits, costs = np.linspace(-3, 3, 121), []
    for logit in logits:
        decoded = torch.cat([torch.zeros(4, 1, 2, 2), torch.full((4, 1, 2, 2), logit)], dim=1)
        costs.append(
            float(
                reconstruction_loss(FixedAutoencoder(decoded), images, np.random.default_rng(0), bands=1, kl_weight=0)
            )
        )
    assert logits[int(np.argmin(costs))] == pytest.approx(np.log(1 / 3), abs=0.05)


@pytest.mark.parametrize("std", [0.2, 1.0, 3.0])
def test_flow_with_exact_network_reproduces_gaussian(std: float) -> None:
    def predict_direction(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        position = (times / 1000)[:, None, None, None]  # 0 at the data, 1 at the noise
        power = ((1 - position) * std) ** 2 + position**2
        normalized = (noisy - (1 - position) * 0.5) / power
        return 0.5 + ((1 - position) * std**2 - position) * normalized  # E[data] - E[noise]

    noise = np.random.default_rng(0).standard_normal((4, 2, 8, 8), dtype=np.float32)
    samples = RectifiedFlow().sample(predict_direction, noise, steps=12, device=torch.device("cpu")).numpy()
    slope, mean = np.polyfit(noise.ravel(), samples.ravel(), 1)  # the flow of a Gaussian is linear
    assert slope == pytest.approx(std, rel=0.02)
    assert mean == pytest.approx(0.5, abs=0.005)
