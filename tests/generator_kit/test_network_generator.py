"""The base class of network generators: a subclass of a few lines fulfills the contract."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hseval import HsevalError, option
from hseval.generator_kit import NetworkGenerator, NetworkOptions, NetworkTraining
from hseval.testing import check_generator, make_example_set


@dataclasses.dataclass(frozen=True)
class MixerOptions(NetworkOptions):
    """Options of a small network."""

    widths: tuple[int, ...] = option((8,), "hidden channels")
    strength: float = option(1.0, "factor of the noise, when sampling")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_widths("widths", multiple=8)
        self.check_positive("strength")


class Mixer(NetworkGenerator[MixerOptions]):
    """Mixes noise into channels, and learns to return what it gets."""

    name = "mixer"
    version = "1"
    summary = "a small network"
    Options = MixerOptions
    sampling = ("strength", "sample_batch")
    checkpoint_format = "mixer-1"
    side_multiple = 4

    def build_networks(self) -> Mapping[str, torch.nn.Module]:
        return {"mix": self._build()}

    def train_networks(self, training: NetworkTraining[MixerOptions]) -> Mapping[str, torch.nn.Module]:
        def compute_loss(network: Any, indices: list[int], rng: np.random.Generator) -> torch.Tensor:
            images = training.encode(indices)
            return torch.nn.functional.mse_loss(network(images), images)

        steps, rate = self.options.steps, self.options.rate
        return {"mix": training.train("mixer", self._build, compute_loss, steps=steps, learning_rate=rate)}

    def generate(self, noise: Any) -> Any:
        assert not torch.is_grad_enabled()
        return self.networks["mix"](torch.from_numpy(self.options.strength * noise)).numpy()

    def _build(self) -> torch.nn.Module:
        sizes = [self.channels.n_channels, *self.options.widths, self.channels.n_channels]
        return torch.nn.Sequential(*(torch.nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(sizes)))


TINY = MixerOptions(steps=4, batch=3, sample_batch=2, checkpoint_every=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    Mixer(TINY).fit(make_example_set(6, size=17), out, seed=3, device="cpu")
    return out


def test_a_subclass_fulfills_the_contract(tmp_path: Path) -> None:
    check_generator(Mixer(TINY), tmp_path=tmp_path, data=make_example_set(6, size=17))  # 17 px are padded


def test_a_checkpoint_restores_networks_channels_and_options(run: Path) -> None:
    data, generator = make_example_set(6, size=17), Mixer()
    generator.load(run, device="cpu")
    assert generator.options == TINY and generator.device == torch.device("cpu")
    assert generator.channels.shape == generator.noise_shape == (data.cubes.shape[1] + 1, 20, 20)
    assert np.array_equal(generator.wavelengths, data.wavelengths)
    samples = list(generator.sample(3, seed=5, start=1))
    assert [sample.id for sample in samples] == ["mixer-5-000001", "mixer-5-000002"]
    assert {sample.cube.shape for sample in samples} == {data.cubes.shape[1:]}


def test_only_sampling_options_can_be_set_when_sampling(run: Path) -> None:
    generator = Mixer(MixerOptions(strength=0.5))
    generator.load(run, device="cpu")
    assert generator.options == dataclasses.replace(TINY, strength=0.5)
    with pytest.raises(HsevalError, match=r"was trained with widths=8, not 16; for sampling, only strength, sample_b"):
        Mixer(MixerOptions(widths=(16,))).load(run, device="cpu")


def test_a_resumed_training_requires_the_same_options_but_for_its_length(tmp_path: Path) -> None:
    data = make_example_set(6, size=17)
    Mixer(dataclasses.replace(TINY, steps=2)).fit(data, tmp_path, device="cpu")
    resumed = dataclasses.replace(TINY, resume=True, strength=2.0)
    with pytest.raises(HsevalError, match=r"was started with rate=0\.0002, not 0\.1"):
        Mixer(dataclasses.replace(resumed, rate=0.1)).fit(data, tmp_path, device="cpu")
    Mixer(resumed).fit(data, tmp_path, device="cpu")


def test_without_a_checkpoint_it_says_how_to_train(tmp_path: Path) -> None:
    message = r"^mixer has to be trained first: hseval train mixer DATA --out RUN, then --checkpoint RUN$"
    with pytest.raises(HsevalError, match=message):
        Mixer().load(None)
    with pytest.raises(HsevalError, match=r"create one by: hseval train mixer$"):
        Mixer().load(tmp_path)
    with pytest.raises(HsevalError, match=r"^mixer: no checkpoint is loaded; call load first$"):
        next(Mixer().sample(1, seed=0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 0}, "batch is 0, expected 1 or more"),
        ({"rate": 0.0}, "rate is 0, expected more than 0"),
        ({"average": 1.0}, "average is 1, expected 0 or more and less than 1"),
        ({"strength": -1.0}, "strength is -1, expected more than 0"),
        ({"widths": (8, 12)}, "widths is '8,12', expected multiples of 8 such as 32,64"),
        ({"widths": ()}, "widths is '', expected multiples of 8 such as 32,64"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        MixerOptions(**values)


def test_a_training_is_resumed_with_the_same_cubes_only(tmp_path: Path) -> None:
    data = make_example_set(6, size=17)
    Mixer(dataclasses.replace(TINY, steps=2)).fit(data, tmp_path, device="cpu")
    resumed = dataclasses.replace(TINY, resume=True)
    changed = make_example_set(6, size=17)
    changed.cubes[3] *= 1e4
    with pytest.raises(HsevalError, match=rf"was trained on other pixels.*cube '{data.ids[3]}' changed"):
        Mixer(resumed).fit(changed, tmp_path, device="cpu")
    reordered = data.subset([4, 1, 5, 0, 2, 3])
    Mixer(resumed).fit(reordered, tmp_path, device="cpu")
    whole = tmp_path / "whole"
    whole.mkdir()
    Mixer(TINY).fit(data, whole, device="cpu")
    assert (tmp_path / "mixer/last.safetensors").read_bytes() == (whole / "mixer/last.safetensors").read_bytes()


def test_a_folder_without_a_training_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="holds no training of mixer to resume"):
        Mixer(dataclasses.replace(TINY, resume=True)).fit(make_example_set(6, size=17), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())
