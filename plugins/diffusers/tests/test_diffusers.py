"""The contract, resuming, the solver, and that training lowers the loss."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hseval_diffusers.diffusion import DiffusionProcess
from hseval_diffusers.generator import Diffusers
from safetensors.numpy import load_file

from hseval.plugin import ArraySet, HsevalError
from hseval.testing import check_generator, find_plugin, make_example_set

TINY = Diffusers.Options(
    channels=(8, 8), blocks=1, batch=4, sample_batch=2, steps=4, checkpoint_every=2, solver_steps=3
)


def test_generator_is_registered() -> None:
    assert find_plugin("generator", "diffusers") is Diffusers


def test_generator_fulfills_contract(tmp_path: Path) -> None:
    check_generator(Diffusers(TINY), tmp_path=tmp_path, data=make_example_set(6, size=17))  # 17 px are padded


def test_resumed_training_gives_same_weights(tmp_path: Path) -> None:
    data, folders = make_example_set(6, size=24), [tmp_path / name for name in ("whole", "halves")]
    for folder in folders:
        folder.mkdir()
    Diffusers(TINY).fit(data, folders[0], seed=3)
    Diffusers(dataclasses.replace(TINY, steps=2)).fit(data, folders[1], seed=3)
    Diffusers(dataclasses.replace(TINY, resume=True)).fit(data, folders[1], seed=3)
    whole, halves = (load_file(folder / "diffusers.safetensors") for folder in folders)
    assert whole.keys() == halves.keys()
    assert all(np.array_equal(whole[key], halves[key]) for key in whole)
    with pytest.raises(HsevalError, match=r"was started with rate=0\.0002, not 0\.001"):
        Diffusers(dataclasses.replace(TINY, resume=True, rate=1e-3)).fit(data, folders[1], seed=3)


class ExactNetwork:
    """The exact prediction for images of independent Gaussian pixels of one mean and standard deviation."""

    def __init__(self, process: DiffusionProcess, mean: float, std: float) -> None:
        self.alphas_cumprod, self.mean, self.std = process.scheduler.alphas_cumprod, mean, std

    def __call__(self, noisy: torch.Tensor, time: torch.Tensor) -> SimpleNamespace:
        alpha, sigma = self.alphas_cumprod[time].sqrt(), (1 - self.alphas_cumprod[time]).sqrt()
        normalized = (noisy - alpha * self.mean) / (alpha**2 * self.std**2 + sigma**2)
        clean, noise = self.mean + alpha * self.std**2 * normalized, sigma * normalized
        return SimpleNamespace(sample=alpha * noise - sigma * clean)


@pytest.mark.parametrize("std", [0.05, 0.2, 1.0, 5.0])
def test_solver_with_exact_network_reproduces_gaussian(std: float) -> None:
    process, noise = DiffusionProcess(1000), np.random.default_rng(0).standard_normal((4, 2, 16, 16), dtype=np.float32)
    samples = process.sample(ExactNetwork(process, 0.5, std), noise, steps=20, device=torch.device("cpu"))
    slope, mean = np.polyfit(noise.ravel(), samples.ravel(), 1)  # the flow of a Gaussian is linear
    assert slope == pytest.approx(std, rel=0.035)
    assert mean == pytest.approx(0.5, abs=0.005)


def test_training_lowers_loss_on_flat_cubes(tmp_path: Path) -> None:
    levels = np.linspace(0.4, 0.6, 4, dtype=np.float32)[:, None, None, None]
    data = ArraySet(np.broadcast_to(levels, (4, 3, 8, 8)), wavelengths=np.array([500.0, 600.0, 700.0]))
    process, losses = DiffusionProcess(1000), []
    for steps in (1, 60):
        generator = Diffusers(dataclasses.replace(TINY, steps=steps, rate=3e-2, batch=8, average=0.9))
        (tmp_path / str(steps)).mkdir()
        generator.fit(data, tmp_path / str(steps))
        network = generator.networks["unet"]
        clean = torch.from_numpy(np.stack([generator.channels.encode(cube) for cube in data]))
        with torch.inference_mode():
            step_losses = [process.compute_loss(network, clean, np.random.default_rng(number)) for number in range(8)]
        losses.append(float(torch.stack(step_losses).mean()))
    assert losses[1] < 0.8 * losses[0]
