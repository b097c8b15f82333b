"""The contract, resuming, and that training learns what there is to learn."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hseval_diffusers.diffusion import Process
from hseval_diffusers.generator import Diffusers

from hseval import ArraySet, HsevalError
from hseval.core.plugin_manager import plugins
from hseval.testing import check_generator, example_set

TINY = Diffusers.Options(
    channels=(8, 8), blocks=1, batch=4, sample_batch=2, steps=4, checkpoint_every=2, solver_steps=3
)


def test_is_found_by_its_name() -> None:
    assert plugins().find("generator", "diffusers") is Diffusers


def test_keeps_the_contract_of_generators(tmp_path: Path) -> None:
    check_generator(Diffusers(TINY), tmp_path=tmp_path, data=example_set(6, size=17))  # 17 px are padded


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data, folders = example_set(6, size=24), [tmp_path / name for name in ("whole", "halves")]
    for folder in folders:
        folder.mkdir()
    Diffusers(TINY).fit(data, folders[0], seed=3)
    Diffusers(dataclasses.replace(TINY, steps=2)).fit(data, folders[1], seed=3)
    Diffusers(dataclasses.replace(TINY, resume=True)).fit(data, folders[1], seed=3)
    whole, halves = ((folder / "diffusers.safetensors").read_bytes() for folder in folders)
    assert whole == halves
    with pytest.raises(HsevalError, match=r"was begun with rate=0\.0002, not 0\.001"):
        Diffusers(dataclasses.replace(TINY, resume=True, rate=1e-3)).fit(data, folders[1], seed=3)


class Exact:
    """What a perfect network answers for pictures whose pixels are independent, of one mean and deviation."""

    def __init__(self, process: Process, mean: float, deviation: float) -> None:
        self.levels, self.mean, self.deviation = process.scheduler.alphas_cumprod, mean, deviation

    def __call__(self, noisy: torch.Tensor, time: torch.Tensor) -> SimpleNamespace:
        alpha, sigma = self.levels[time].sqrt(), (1 - self.levels[time]).sqrt()
        apart = (noisy - alpha * self.mean) / (alpha**2 * self.deviation**2 + sigma**2)
        clean, noise = self.mean + alpha * self.deviation**2 * apart, sigma * apart
        return SimpleNamespace(sample=alpha * noise - sigma * clean)


@pytest.mark.parametrize("deviation", [0.05, 0.2, 1.0, 5.0])
def test_twenty_steps_of_the_solver_reach_the_gaussian_of_an_exact_network(deviation: float) -> None:
    process, noise = Process(1000), np.random.default_rng(0).standard_normal((4, 2, 16, 16), dtype=np.float32)
    made = process.sample(Exact(process, 0.5, deviation), noise, steps=20, device=torch.device("cpu"))
    slope, mean = np.polyfit(noise.ravel(), made.ravel(), 1)  # the flow of a Gaussian is linear
    assert slope == pytest.approx(deviation, rel=0.035)
    assert mean == pytest.approx(0.5, abs=0.005)


def test_training_lowers_the_loss_on_cubes_that_are_flat(tmp_path: Path) -> None:
    levels = np.linspace(0.4, 0.6, 4, dtype=np.float32)[:, None, None, None]
    data = ArraySet(np.broadcast_to(levels, (4, 3, 8, 8)), wavelengths=np.array([500.0, 600.0, 700.0]))
    process, losses = Process(1000), []
    for steps in (1, 60):
        generator = Diffusers(dataclasses.replace(TINY, steps=steps, rate=3e-2, batch=8, average=0.9))
        (tmp_path / str(steps)).mkdir()
        generator.fit(data, tmp_path / str(steps))
        clean = torch.from_numpy(np.stack([generator.channels.encode(cube) for cube in data]))
        with torch.inference_mode():
            rounds = [process.loss(generator.network, clean, np.random.default_rng(number)) for number in range(8)]
        losses.append(float(torch.stack(rounds).mean()))
    assert losses[1] < 0.8 * losses[0]
