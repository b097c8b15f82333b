"""Tools of generator plugins: lossless channels, checkpoints that detect damage, batches, the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hseval import ArraySet, HsevalError
from hseval.core.cubes import Cube
from hseval.core.options import option
from hseval.generator_kit import (
    ChannelCodec,
    LoopConfig,
    StageCheckpoints,
    draw_noise,
    load_checkpoint,
    merge_options,
    sample_in_batches,
    save_checkpoint,
    train,
)
from hseval.testing import make_example_set

LOOP = LoopConfig(
    name="x",
    steps=8,
    batch_size=3,
    learning_rate=0.1,
    ema_decay=0.5,
    checkpoint_every=100,
    seed=1,
    resume=False,
    run_settings={},
)


def test_decoding_channels_restores_the_cube_and_its_masks() -> None:
    data = make_example_set(4, size=21, bands=5)
    channels = ChannelCodec.from_set(data, multiple=8)
    assert (channels.shape, channels.structures, set(channels.fixed_masks)) == ((6, 24, 24), ("disc",), {"fov"})
    for cube in data:
        encoded = channels.encode(cube)
        assert (encoded.shape, encoded.dtype) == (channels.shape, np.float32)
        decoded, masks = channels.decode(encoded)
        assert np.allclose(decoded, cube.data, atol=1e-6)
        assert all(np.array_equal(masks[name], cube.masks[name]) for name in ("disc", "fov"))


def test_bands_have_mean_0_and_standard_deviation_1_over_the_valid_pixels_of_all_cubes() -> None:
    data = make_example_set(5)
    channels = ChannelCodec.from_set(data)
    inside = np.stack([channels.encode(cube) for cube in data])[:, :6, data.masks["fov"][0]]
    assert np.allclose(inside.mean(axis=(0, 2)), 0, atol=1e-5)
    assert np.allclose(inside.std(axis=(0, 2)), 1, atol=1e-5)
    outside = channels.encode(data[0])[:6, ~data.masks["fov"][0]]
    assert not outside.any()


def test_pixels_that_are_not_finite_are_ignored() -> None:
    data = make_example_set(4)
    broken = data.cubes.copy()
    broken[1, 2, 20:24, 8:14] = np.nan
    broken_set = ArraySet(broken, wavelengths=data.wavelengths, masks=data.masks)
    broken_cube = Cube(broken[1], broken_set.read_masks(1))
    encoded = ChannelCodec.from_set(broken_set).encode(broken_cube)
    assert np.isfinite(encoded).all()
    assert not encoded[:6, 20:24, 8:14].any()


def test_channels_are_restored_from_a_checkpoint(tmp_path: Path) -> None:
    data = make_example_set(3)
    channels = ChannelCodec.from_set(data, multiple=4)
    save_checkpoint(tmp_path, "it", channels.as_tensors(), {"channels": channels.as_record()}, format="f-1")
    tensors, record = load_checkpoint(tmp_path, "it", format="f-1", required_keys=("channels",))
    restored = ChannelCodec.from_record(record["channels"], tensors)
    assert restored.as_record() == channels.as_record()
    assert restored.fixed_masks.keys() == channels.fixed_masks.keys()
    assert np.array_equal(restored.encode(data[1]), channels.encode(data[1]))


def test_sets_that_nothing_can_be_learned_from_are_refused() -> None:
    flat = ArraySet(np.full((3, 2, 4, 4), 0.5), wavelengths=np.array([500.0, 600.0]))
    with pytest.raises(HsevalError, match="valid pixels of its 3 cubes all have the same value"):
        ChannelCodec.from_set(flat)
    with pytest.raises(HsevalError, match="holds no cubes"):
        ChannelCodec.from_set(flat.subset([]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "it.safetensors: no such checkpoint; train again"),
        (lambda path: path.write_bytes(b"short"), "it.safetensors: truncated, or not a safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "it.safetensors: changed since it was written"),
    ],
)
def test_the_error_of_a_damaged_checkpoint_names_the_damage(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path, "it", {"a": np.ones(3)}, {"options": {}}, format="f-1")
    damage(tmp_path / "it.safetensors")
    with pytest.raises(HsevalError, match=message):
        load_checkpoint(tmp_path, "it", format="f-1")


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, "it", {"a": np.ones(3)}, {}, format="f-1")
    with pytest.raises(HsevalError, match=r"it.safetensors: has the format 'f-1', expected 'f-2'; train again"):
        load_checkpoint(tmp_path, "it", format="f-2")
    with pytest.raises(HsevalError, match=r"it.safetensors: its record lacks 'options'; train again"):
        load_checkpoint(tmp_path, "it", format="f-1", required_keys=("options",))
    with pytest.raises(HsevalError, match=r"it.safetensors: is a file, expected the folder of a checkpoint; train"):
        load_checkpoint(tmp_path / "it.safetensors", "it", format="f-1")


@dataclasses.dataclass(frozen=True)
class ExampleOptions:
    width: int = option(8, "training")
    steps: int = option(20, "sampling")


def test_options_of_sampling_may_change_and_those_of_training_may_not() -> None:
    trained, run = ExampleOptions(width=16, steps=30), Path("run")
    assert merge_options(ExampleOptions(), trained, sampling_options=("steps",), path=run) == trained
    assert merge_options(ExampleOptions(steps=5), trained, sampling_options=("steps",), path=run) == ExampleOptions(
        16, 5
    )
    with pytest.raises(
        HsevalError, match="run: was trained with width=16, not 12; for sampling, only steps can be set"
    ):
        merge_options(ExampleOptions(width=12), trained, sampling_options=("steps",), path=run)


def test_a_cube_depends_on_its_own_noise_and_not_on_its_batch() -> None:
    def double(noise: np.ndarray) -> np.ndarray:
        sizes.append(len(noise))
        return noise * 2

    sizes: list[int] = []
    arguments = {"seed": 3, "name": "x", "shape": (2, 4)}
    whole = dict(sample_in_batches(double, start=0, stop=7, batch_size=4, **arguments))
    part = dict(sample_in_batches(double, start=5, stop=7, batch_size=3, **arguments))
    assert (list(whole), list(part), sizes) == (list(range(7)), [5, 6], [4, 4, 3])
    assert all(np.array_equal(whole[index], part[index]) for index in part)
    assert np.array_equal(whole[6], 2 * draw_noise(3, "x", 6, (2, 4)))


def test_an_epoch_uses_every_cube_once_in_an_order_of_its_own() -> None:
    drawn = [index for step in range(8) for index in LOOP.draw_indices(step, 6)]
    epochs = [drawn[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert sorted(LOOP.draw_indices(0, 2)) != [0, 0, 0]  # a batch larger than the set


def train_noisy_line(folder: Path, **changes: object) -> dict[str, np.ndarray]:
    """Train a layer with a batch norm, whose statistics are part of the state, on noise."""
    import torch

    config = dataclasses.replace(LOOP, checkpoint_every=3, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))

    def compute_loss(step: int) -> torch.Tensor:
        noise = torch.from_numpy(config.make_rng("noise", step).standard_normal((4, 2), dtype=np.float32))
        return (network(noise) - noise.flip(1)).square().mean()

    weights = train(network, compute_loss, config, folder)
    assert not network.training
    assert all(np.array_equal(weights[name], value.numpy()) for name, value in network.state_dict().items())
    return weights


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    whole = train_noisy_line(tmp_path / "whole")
    train_noisy_line(tmp_path / "halves", steps=5)
    halves = train_noisy_line(tmp_path / "halves", resume=True)
    finished = train_noisy_line(tmp_path / "halves", resume=True)  # no steps are left
    assert set(whole) == {"0.weight", "0.bias", *(f"1.{name}" for name in (
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    ))}  # fmt: skip
    assert all(np.array_equal(whole[name], halves[name]) for name in whole)
    assert all(np.array_equal(whole[name], finished[name]) for name in whole)
    assert whole["1.num_batches_tracked"] == 8


def test_a_training_of_other_settings_is_not_resumed_and_without_resume_it_is_replaced(tmp_path: Path) -> None:
    weights = train_noisy_line(tmp_path, run_settings={"width": (8, 8)})
    with pytest.raises(
        HsevalError, match=r"last.safetensors: was started with width=\[8, 8\], not \[8, 9\]; resume with"
    ):
        train_noisy_line(tmp_path, run_settings={"width": (8, 9)}, resume=True)
    with pytest.raises(HsevalError, match=r"was started with seed=1, not 2; resume with the same value, or train into"):
        train_noisy_line(tmp_path, run_settings={"width": (8, 8)}, seed=2, resume=True)
    again = train_noisy_line(tmp_path)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Linear(1, 1)

    def compute_loss(step: int) -> torch.Tensor:
        return network(torch.ones(1, 1)).sum() * (float("nan") if step == 3 else 1.0)

    with pytest.raises(HsevalError, match=r"x, step 4: loss 'loss' \(nan\) is not .* \(step 2\); lower the learning"):
        train(network, compute_loss, dataclasses.replace(LOOP, checkpoint_every=2), tmp_path)
    assert StageCheckpoints(tmp_path / "x").read_record()["step"] == 2  # the last finite state is preserved
