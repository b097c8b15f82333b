"""The training loop: exact resumption, and one line for whatever ends a run early."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from hseval_ldm.training import checkpoint
from hseval_ldm.training.console import ProgressConsole, format_metrics
from hseval_ldm.training.interrupts import TrainingInterrupted
from hseval_ldm.training.loop import train_stage
from hseval_ldm.training.meters import MeanMeter, explain_out_of_memory
from hseval_ldm.training.metrics_log import read_metrics_log
from hseval_ldm.training.stage import StepIntervals
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import run_on_two_ranks

STEPS = 40
EVERY = StepIntervals(log=10, checkpoint=16, preview=20, evaluate=20)
TIMINGS = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}


def drawn(name: str, step: int, *shape: int) -> Tensor:
    return torch.from_numpy(create_rng(0, name, step).standard_normal(shape, dtype="float32"))


class Linear:
    """A linear layer, AdamW, and a target that drifts by epoch, so that an epoch's start decides the future."""

    name, epoch_steps, batch_size = "autoencoder", 8, 4
    memory_option, loss_option = "ae_batch", "ae_lr or adversarial"

    def __init__(
        self, ranks: Ranks | None = None, *, steps: int = STEPS, before: Mapping[int, Any] | None = None
    ) -> None:
        self.steps, self.ranks, self.before = steps, ranks or Ranks(), before or {}
        self.net = nn.Linear(64, 64)
        with torch.no_grad():
            self.net.weight.copy_(drawn("weight", 0, 64, 64) / 8)
            self.net.bias.zero_()
        self.shift = torch.zeros(64)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.01)
        self.epochs: list[int] = []
        self.scores: dict[int, float] = {}

    def start_epoch(self, epoch: int) -> dict[str, float]:
        self.epochs.append(epoch)
        self.shift += 0.1 * self.net.bias.detach().clone() + drawn("shift", epoch, 64)
        return {"shift": float(self.shift.mean()), "spread": float("nan")}

    def step(self, step: int) -> dict[str, Tensor]:
        x = drawn("x", step, self.batch_size, 64)[self.ranks.get_local_slice(self.batch_size)]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 100)
        loss = mse_loss(self.net(x), x.flip(1) + self.shift)
        terms = {"l2": loss, "codes": torch.tensor(step)} | ({"late": loss * 2} if step >= 12 else {})
        if step in self.before:
            terms |= self.before[step](self) or {}
        self.optimizer.zero_grad()
        loss.backward()
        self.ranks.mean_(*(p.grad for p in self.net.parameters() if p.grad is not None))
        self.optimizer.step()
        return terms

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        x = drawn("held out", 0, 32, 64)
        return {"psnr": self.scores.get(step, -float(mse_loss(self.net(x), x.flip(1))))}

    def close(self) -> None:
        """Nothing runs beside its steps."""

    def picture(self, step: int, out: Path) -> None:
        write_text(out, f"{step}")

    def state(self) -> dict[str, Tensor]:
        moments = checkpoint.get_optimizer_state(self.optimizer, dict(self.net.named_parameters()))
        net, optimizer = checkpoint.pack("net", self.net.state_dict()), checkpoint.pack("optimizer", moments)
        return {**net, **optimizer, "shift": self.shift}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(checkpoint.unpack("net", tensors))
        moments = checkpoint.unpack("optimizer", tensors)
        checkpoint.load_optimizer_state(self.optimizer, dict(self.net.named_parameters()), moments)
        self.shift = tensors["shift"].clone()


def terminated(_: Linear) -> None:
    signal.raise_signal(signal.SIGTERM)


def train(folder: Path, stage: Linear | None = None, **given: Any) -> Linear:
    folder.mkdir(exist_ok=True)
    stage = stage or Linear()
    given = {"ranks": stage.ranks, "resume": False, "intervals": EVERY, "best_by": ("psnr", "higher")} | given
    train_stage(stage, folder, **given)
    return stage


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in TIMINGS}
        for line in read_metrics_log(folder / "metrics.jsonl")
    ]


def assert_same(one: Path, other: Path) -> None:
    """Check that two runs left the same bits, the same lines, the same best."""
    for which in ("last", "best"):
        (here, about), (there, told) = (checkpoint.load(at / "autoencoder", which=which) for at in (one, other))
        assert about == told and here.keys() == there.keys()
        for name, tensor in here.items():
            assert torch.equal(tensor.view(torch.int32), there[name].view(torch.int32)), name
    assert lines(one) == lines(other)
    left, right = ({p.name: p.read_text() for p in (at / "pictures").iterdir()} for at in (one, other))
    assert left == right


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    assert train(folder).epochs == [0, 1, 2, 3, 4]
    return folder


def test_what_a_run_leaves(straight: Path) -> None:
    found = lines(straight)
    assert [line["step"] for line in found] == [10, 20, 30, 40]
    assert [set(line) - {"stage", "step", "l2", "codes"} for line in found] == [
        {"shift", "spread"}, {"shift", "spread", "late", "psnr"}, {"shift", "spread", "late"},
        {"shift", "spread", "late", "psnr"},
    ]  # fmt: skip
    assert [line["codes"] for line in found] == [4.5, 14.5, 24.5, 34.5]  # means over the ten steps
    assert found[1]["late"] > found[1]["l2"] > 0 and found[0]["spread"] is None
    assert set(read_metrics_log(straight / "metrics.jsonl")[0]) > TIMINGS
    assert sorted(p.name for p in (straight / "pictures").iterdir()) == [
        "autoencoder-0000020.png", "autoencoder-0000040.png",
    ]  # fmt: skip
    record = checkpoint.read_record(straight / "autoencoder")
    assert (record["step"], record["finished"]) == (40, True)


HALTS = """
import sys, time
from pathlib import Path
from tests.hseval_ldm.training.test_loop import Linear, train
train(Path(sys.argv[1]), Linear(before={int(sys.argv[2]): lambda _: time.sleep(600)}), resume=True)
"""


def killed(folder: Path, *, at: int, seen: int) -> None:
    """Run in a process of its own until the line of step ``seen`` is there and step ``at`` began; kill -9."""
    with subprocess.Popen(
        [sys.executable, "-c", HALTS, str(folder), str(at)], cwd=Path(__file__).parents[3]
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (folder / "metrics.jsonl").exists() or [line["step"] for line in lines(folder)][-1:] != [seen]:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def test_kill_9_and_resume_are_the_same_as_never_stopping(tmp_path: Path, straight: Path) -> None:
    killed(tmp_path / "run", at=31, seen=30)
    assert checkpoint.read_record(tmp_path / "run" / "autoencoder")["step"] == 20  # the evaluation's
    assert lines(tmp_path / "run") == lines(straight)[:3]
    stage = train(tmp_path / "run", resume=True)
    assert stage.epochs == [3, 4]  # step 20 is in the middle of epoch 2
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize("step", [1, 7, 8, 9, 16, 20, 25, 39, 40])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_and_nothing_is_lost(
    tmp_path: Path, straight: Path, step: int, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Linear(before={step - 1: lambda _: os.kill(os.getpid(), number)})
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt), ProgressConsole() as console:
        train(tmp_path / "run", stage, progress=console)
    assert (
        capsys.readouterr().err.splitlines()[-1] == f"autoencoder: stopped at step {step}; --resume goes on from there"
    )
    assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert checkpoint.read_record(tmp_path / "run" / "autoencoder")["step"] == step
    again = train(tmp_path / "run", resume=True)
    assert again.epochs == [epoch for epoch in range(5) if epoch * 8 >= step]
    assert_same(tmp_path / "run", straight)


def test_a_signal_while_evaluating_interrupts_it_and_it_is_done_again(tmp_path: Path, straight: Path) -> None:
    class Slow(Linear):
        def evaluate(self, step: int) -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("was not interrupted")

    with pytest.raises(TrainingInterrupted, match="stopped at step 20"):
        train(tmp_path / "run", Slow())
    assert [line["step"] for line in lines(tmp_path / "run")] == [10]
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", straight)


def test_a_second_signal_interrupts_a_step(tmp_path: Path) -> None:
    def twice(_: Linear) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("was not interrupted")

    with pytest.raises(KeyboardInterrupt) as interruption:
        train(tmp_path / "run", Linear(before={18: twice}))
    assert not isinstance(interruption.value, TrainingInterrupted)
    assert checkpoint.read_record(tmp_path / "run" / "autoencoder")["step"] == 16


def test_a_time_limit_stops_as_a_signal_does(tmp_path: Path, straight: Path) -> None:
    for step in (1, 2, 3):
        with pytest.raises(TrainingInterrupted, match=f"stopped at step {step};"):
            train(tmp_path / "run", resume=True, time_limit=0)
    train(tmp_path / "run", resume=True, time_limit=600)
    assert_same(tmp_path / "run", straight)


def test_a_run_in_pieces_of_every_length_is_the_same(tmp_path: Path, straight: Path) -> None:
    for step in range(1, STEPS):
        with pytest.raises(TrainingInterrupted):
            train(tmp_path / "run", Linear(before={step - 1: terminated}), resume=True)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", straight)


def test_a_truncated_checkpoint_is_told_and_the_one_before_goes_on(tmp_path: Path, straight: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "run", Linear(before={24: terminated}))
    last, previous = (tmp_path / "run" / "autoencoder" / f"{which}.safetensors" for which in ("last", "previous"))
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(HsevalError, match=rf"last.safetensors: cut off.* step 20 is whole: mv {previous} {last}, then"):
        train(tmp_path / "run", resume=True)
    previous.rename(last)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", straight)


def test_without_resume_a_checkpoint_is_not_overwritten(straight: Path) -> None:
    with pytest.raises(HsevalError, match=r"last.safetensors: is there already; --resume goes on from it, another"):
        train(straight)


def test_a_finished_stage_is_skipped_and_may_be_given_more_steps(
    tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run")
    with ProgressConsole() as console:
        stage = train(tmp_path / "run", resume=True, progress=console)
    assert stage.epochs == [] and capsys.readouterr().err == "autoencoder: finished at step 40, skipped\n"
    stage = train(tmp_path / "run", Linear(steps=50), resume=True)
    assert stage.epochs == [5, 6]
    assert [line["step"] for line in lines(tmp_path / "run")] == [10, 20, 30, 40, 50]
    assert lines(tmp_path / "run")[:4] == lines(straight)


def test_a_resumed_run_with_other_epochs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "run", time_limit=0)
    stage = Linear()
    stage.epoch_steps = 9
    with pytest.raises(HsevalError, match="has epochs of 8 steps, this run's have 9; --resume takes the same data"):
        train(tmp_path / "run", stage, resume=True)


@pytest.mark.parametrize(("side", "expected"), [("higher", [10, 20, 20, 40]), ("lower", [10, 10, 10, 10])])
def test_the_best_is_kept_by_the_stated_side_across_a_stop(tmp_path: Path, side: str, expected: list[int]) -> None:
    scores = {10: 1.0, 20: 2.0, 30: float("nan"), 40: 3.0}
    for stopped, best in zip((15, 25, 35, None), expected, strict=True):
        stage = Linear(before={stopped - 1: terminated} if stopped else {})
        stage.scores = scores
        with contextlib.nullcontext() if stopped is None else pytest.raises(TrainingInterrupted):
            train(tmp_path / "run", stage, intervals=StepIntervals(10, 16, 0, 10), best_by=("psnr", side), resume=True)
        tensors, record = checkpoint.load(tmp_path / "run" / "autoencoder", which="best")
        assert record["step"] == best and record["best"] == {"figure": "psnr", "value": scores[best], "step": best}
        assert float(tensors["optimizer.weight.step"]) == best
        assert checkpoint.read_record(tmp_path / "run" / "autoencoder")["best"] == record["best"]
    assert not (tmp_path / "run" / "pictures").exists()


def test_without_evaluations_the_last_is_the_best(tmp_path: Path) -> None:
    train(tmp_path / "run", intervals=StepIntervals(log=0, checkpoint=0, preview=0, evaluate=0))
    assert checkpoint.read_record(tmp_path / "run" / "autoencoder", which="best")["step"] == STEPS
    assert lines(tmp_path / "run") == []


def test_a_best_that_is_not_evaluated_is_told(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"'psmr', which tells the best .* evaluated \(did you mean 'psnr'\?\)"):
        train(tmp_path / "run", best_by=("psmr", "higher"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_one(tmp_path: Path, straight: Path) -> None:
    stage = Linear(before={24: lambda _: {"late": torch.tensor(float("nan"))}})
    with pytest.raises(HsevalError) as refusal:
        train(tmp_path / "run", stage)
    last = tmp_path / "run" / "autoencoder" / "last.safetensors"
    assert str(refusal.value) == (
        f"autoencoder, step 25: loss 'late' (nan) is not finite; the last good checkpoint is {last} (step 20); "
        "lower ae_lr or adversarial, then --resume"
    )
    assert [line["step"] for line in lines(tmp_path / "run")] == [10, 20]
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", straight)


def test_weights_that_overflow_under_a_finite_loss_are_not_kept(tmp_path: Path) -> None:
    def overflow(stage: Linear) -> None:
        stage.net.bias.data[3] = float("inf")

    class Blind(Linear):
        def step(self, step: int) -> dict[str, Tensor]:
            return {"l2": super().step(step)["l2"].nan_to_num(0, 0, 0)}

    stage = Blind(before={15: overflow})
    with pytest.raises(HsevalError, match=r"step 16: 'net.bias' .*not finite after a finite loss; no checkpoint was"):
        train(tmp_path / "run", stage)
    assert not checkpoint.has_checkpoint(tmp_path / "run" / "autoencoder")


@pytest.fixture
def nearly_full_disk() -> Iterator[Callable[[int], None]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_resume_goes_on(
    tmp_path: Path, straight: Path, nearly_full_disk: Callable[[int], None]
) -> None:
    stage = Linear(before={18: lambda _: nearly_full_disk(20_000)})
    with pytest.raises(HsevalError) as refusal:
        train(tmp_path / "run", stage)
    assert str(refusal.value) == (
        f"{tmp_path}/run/autoencoder/last.safetensors: could not be written: File too large; "
        "the checkpoint before it is kept: make room, then --resume"
    )
    nearly_full_disk(resource.RLIM_INFINITY)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", straight)


def test_out_of_memory_names_the_knob(tmp_path: Path) -> None:
    stage = Linear(before={4: lambda _: torch.empty(2**58)})
    with pytest.raises(HsevalError, match=r"^autoencoder, step 5: out of memory; lower ae_batch$"):
        train(tmp_path / "run", stage)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_every_kind_of_refused_memory_is_known(error: Exception) -> None:
    with pytest.raises(HsevalError, match="here: out of memory; lower it"), explain_out_of_memory("here", "it"):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("here", "it"):
        raise RuntimeError("shapes cannot be multiplied")


def test_progress_is_one_line_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressConsole() as console:
        train(tmp_path / "run", progress=console)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 6  # four intervals, two evaluations
    assert told[0].startswith("autoencoder 10/40  l2 ") and "  codes 4.5  " in told[0]
    assert "cubes/s  " in told[0] and " GiB  " in told[0] and told[0].endswith("s left")
    assert told[2].startswith("autoencoder 20/40  held out: psnr -") and told[2].endswith("  best so far")


def test_figures_in_words() -> None:
    rates = {"cubes_per_s": 31.04, "steps_per_s": 2.0, "memory_gib": 2.13, "seconds_left": 359.0}
    assert format_metrics({"l1": 0.12345, "none": None, "codes": 612.0}, rates) == (
        "l1 0.123  codes 612  31 cubes/s  2.1 GiB  6 min left"
    )
    assert (
        format_metrics({"count": 12345.6}, {"seconds_left": 7200.0, "cubes_per_s": None}) == "count 12346  2.0 h left"
    )
    assert format_metrics({}, {"seconds_left": 12.4}) == "12 s left"


def test_means_survive_a_dump_to_the_last_bit() -> None:
    values = [0.1, 0.2, 0.7]
    whole, first = MeanMeter(), MeanMeter()
    for value in values:
        whole.add({"a": torch.tensor(value)})
    first.add({"a": torch.tensor(values[0])})
    second = MeanMeter(first.get_state(Ranks()))
    for value in values[1:]:
        second.add({"a": torch.tensor(value)})
    assert second.compute_and_reset(Ranks()) == (means := whole.compute_and_reset(Ranks())) and means[
        "a"
    ] == pytest.approx(1 / 3)
    assert whole.compute_and_reset(Ranks()) == {}


def train_on(ranks: Ranks, folder: Path, before: Mapping[int, str], **given: Any) -> str | None:
    """Train as one of two ranks; ``before``: step -> what happens on rank 1 then."""
    happens: dict[str, Callable[[Linear], Any]] = {
        "nan": lambda _: {"l2": torch.tensor(float("nan"))},
        "signal": terminated,
    }
    acts = {step: happens[what] for step, what in before.items()} if ranks.rank == 1 else {}
    try:
        train(folder, Linear(ranks, before=acts), **given)
    except (HsevalError, TrainingInterrupted) as error:
        return str(error)
    return None


def test_two_ranks_train_as_one_and_the_chief_alone_writes(tmp_path: Path, straight: Path) -> None:
    assert run_on_two_ranks(train_on, tmp_path / "run", {}) == [None, None]
    for which in ("last", "best"):
        (one, about), (two, told) = (
            checkpoint.load(at / "autoencoder", which=which) for at in (straight, tmp_path / "run")
        )
        assert about["step"] == told["step"]
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    for one_line, two_line in zip(lines(straight), lines(tmp_path / "run"), strict=True):
        for name, value in one_line.items():
            assert two_line[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


def test_two_ranks_stop_at_the_same_step_and_go_on(tmp_path: Path) -> None:
    ended = "autoencoder: stopped at step 16; --resume goes on from there"
    assert run_on_two_ranks(train_on, tmp_path / "whole", {}) == [None, None]
    assert run_on_two_ranks(train_on, tmp_path / "run", {13: "signal"}) == [ended, ended]
    assert run_on_two_ranks(train_again, tmp_path / "run") == [None, None]
    assert_same(tmp_path / "run", tmp_path / "whole")


def train_again(ranks: Ranks, folder: Path) -> str | None:
    return train_on(ranks, folder, {}, resume=True)


def test_two_ranks_end_with_the_same_line(tmp_path: Path) -> None:
    one, other = run_on_two_ranks(train_on, tmp_path / "run", {24: "nan"})
    assert one == other and one.startswith("autoencoder, step 25: loss 'l2' (nan) is not finite; the last good")
    (tmp_path / "blocked" / "metrics.jsonl").mkdir(parents=True)
    one, other = run_on_two_ranks(train_on, tmp_path / "blocked", {})
    assert one == other and one.startswith(f"{tmp_path}/blocked/metrics.jsonl: can't be read: ")
