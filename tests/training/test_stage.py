"""The stage of one network: the same weights as a loop written out, with and without files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hseval.training.checkpoints import StageCheckpoints
from hseval.training.ema import Ema
from hseval.training.loop import train_stage
from hseval.training.stage import NetworkStage, StepIntervals
from hseval.utils.errors import HsevalError

STEPS = 12


def draw_batch(step: int) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def build_stage(*, steps: int = STEPS, factors: dict[int, float] | None = None) -> NetworkStage:
    """Return the stage of a layer with a batch norm; ``factors`` multiply the losses of steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    def compute_loss(step: int) -> Tensor:
        batch = draw_batch(step)
        return (network(batch) - batch.flip(1)).square().mean() * (factors or {}).get(step, 1.0)

    return NetworkStage(
        "layer",
        network,
        torch.optim.AdamW(network.parameters(), lr=0.5),
        compute_loss,
        steps=steps,
        batch_size=8,
        learning_rate=lambda step: 0.1 / (1 + step),
        ema=Ema(network, 0.9),
    )


def train_by_hand() -> NetworkStage:
    """Train as any loop of torch does, and average by hand."""
    stage = build_stage()
    averages = {name: value.clone() for name, value in stage.model.state_dict().items()}
    for step in range(STEPS):
        stage.optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        stage.optimizer.zero_grad()
        stage.compute_loss(step).backward()
        nn.utils.clip_grad_norm_(stage.model.parameters(), 1.0)
        stage.optimizer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for name, value in stage.model.state_dict().items():
            averages[name] = averages[name].lerp(value, 1 - decay) if value.is_floating_point() else value.clone()
    assert stage.ema is not None
    stage.ema.load_state(averages)
    return stage


def assert_same(one: NetworkStage, other: NetworkStage) -> None:
    state, other_state = one.get_state(), other.get_state()
    assert state.keys() == other_state.keys()
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def test_without_a_folder_it_trains_like_a_loop_written_out_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = build_stage()
    train_stage(stage, None)
    assert_same(stage, train_by_hand())
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    every = StepIntervals(log=2, checkpoint=2, preview=0, evaluate=0)
    train_stage(build_stage(steps=5), tmp_path, intervals=every, settings={"width": 3})
    stage = build_stage()
    train_stage(stage, tmp_path, resume=True, intervals=every, settings={"width": 3})
    assert_same(stage, train_by_hand())
    finished = build_stage()
    train_stage(finished, tmp_path, resume=True, settings={"width": 3})  # no steps are left
    assert_same(stage, finished)
    with pytest.raises(HsevalError, match=r"last.safetensors: was started with width=3, not 4; resume with the same"):
        train_stage(build_stage(), tmp_path, resume=True, settings={"width": 4})
    StageCheckpoints(tmp_path / "layer").remove()
    assert list((tmp_path / "layer").iterdir()) == []


def test_a_loss_that_is_not_finite_is_refused_with_the_option_to_lower() -> None:
    with pytest.raises(
        HsevalError, match=r"^layer, step 4: loss 'loss' \(nan\) is not finite; lower the learning rate$"
    ):
        train_stage(build_stage(factors={3: float("nan")}), None)
