"""The training loop: exact resumption, and a one-line message for any early end."""

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

from hseval.training.checkpoints import (
    StageCheckpoints,
    get_optimizer_state,
    load_optimizer_state,
    pack_state,
    unpack_state,
)
from hseval.training.interrupts import TrainingInterrupted
from hseval.training.loop import train_stage
from hseval.training.meters import MeanMeter, explain_out_of_memory
from hseval.training.metrics_log import read_metrics_log
from hseval.training.stage import StepIntervals
from hseval.utils.atomic_files import write_text
from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from hseval.utils.progress import ProgressReporter
from hseval.utils.random_streams import create_rng
from tests.helpers.two_ranks import run_on_two_ranks

STEPS = 40
INTERVALS = StepIntervals(log=10, checkpoint=16, preview=20, evaluate=20)
RATES = {"steps_per_s", "cubes_per_s", "memory_gib", "seconds_left"}


def draw(name: str, step: int, *shape: int) -> Tensor:
    return torch.from_numpy(create_rng(0, name, step).standard_normal(shape, dtype="float32"))


class LinearStage:
    """A linear layer with AdamW, and a target that shifts by epoch, so that epochs are part of the state."""

    name, epoch_steps, batch_size = "autoencoder", 8, 4
    memory_option, loss_option = "ae_batch", "ae_lr or adversarial"

    def __init__(
        self, ranks: Ranks | None = None, *, steps: int = STEPS, before: Mapping[int, Any] | None = None
    ) -> None:
        self.steps, self.ranks, self.before = steps, ranks or Ranks(), before or {}
        self.net = nn.Linear(64, 64)
        with torch.no_grad():
            self.net.weight.copy_(draw("weight", 0, 64, 64) / 8)
            self.net.bias.zero_()
        self.shift = torch.zeros(64)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.01)
        self.epochs: list[int] = []
        self.scores: dict[int, float] = {}

    def start_epoch(self, epoch: int) -> dict[str, float]:
        self.epochs.append(epoch)
        self.shift += 0.1 * self.net.bias.detach().clone() + draw("shift", epoch, 64)
        return {"shift": float(self.shift.mean()), "nan": float("nan")}

    def step(self, step: int) -> dict[str, Tensor]:
        x = draw("x", step, self.batch_size, 64)[self.ranks.get_local_slice(self.batch_size)]
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
        x = draw("held out", 0, 32, 64)
        return {"psnr": self.scores.get(step, -float(mse_loss(self.net(x), x.flip(1))))}

    def close(self) -> None:
        """Do nothing: there are no background threads."""

    def save_preview(self, step: int, out: Path) -> None:
        write_text(out, f"{step}")

    def get_state(self) -> dict[str, Tensor]:
        moments = get_optimizer_state(self.optimizer, self.net)
        net, optimizer = pack_state("net", self.net.state_dict()), pack_state("optimizer", moments)
        return {**net, **optimizer, "shift": self.shift}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(unpack_state("net", tensors))
        moments = unpack_state("optimizer", tensors)
        load_optimizer_state(self.optimizer, self.net, moments)
        self.shift = tensors["shift"].clone()


def terminate(_: LinearStage) -> None:
    signal.raise_signal(signal.SIGTERM)


def train(folder: Path, stage: LinearStage | None = None, **options: Any) -> LinearStage:
    folder.mkdir(exist_ok=True)
    stage = stage or LinearStage()
    options = {"ranks": stage.ranks, "resume": False, "intervals": INTERVALS, "best_by": ("psnr", "higher")} | options
    train_stage(stage, folder, **options)
    return stage


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in RATES}
        for line in read_metrics_log(folder / "metrics.jsonl")
    ]


def assert_same(one: Path, other: Path) -> None:
    """Check that two runs have bit-identical checkpoints and the same lines and previews."""
    for which in ("last", "best"):
        (tensors, record), (other_tensors, other_record) = (
            StageCheckpoints(run / "autoencoder").load(which=which) for run in (one, other)
        )
        assert record == other_record and tensors.keys() == other_tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(tensor.view(torch.int32), other_tensors[name].view(torch.int32)), name
    assert read_lines(one) == read_lines(other)
    previews, other_previews = ({p.name: p.read_text() for p in (run / "pictures").iterdir()} for run in (one, other))
    assert previews == other_previews


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert train(folder).epochs == [0, 1, 2, 3, 4]
    return folder


def test_a_run_writes_lines_previews_and_checkpoints(uninterrupted: Path) -> None:
    metrics = read_lines(uninterrupted)
    assert [line["step"] for line in metrics] == [10, 20, 30, 40]
    assert [set(line) - {"stage", "step", "l2", "codes"} for line in metrics] == [
        {"shift", "nan"}, {"shift", "nan", "late", "psnr"}, {"shift", "nan", "late"},
        {"shift", "nan", "late", "psnr"},
    ]  # fmt: skip
    assert [line["codes"] for line in metrics] == [4.5, 14.5, 24.5, 34.5]  # means over the ten steps
    assert metrics[1]["late"] > metrics[1]["l2"] > 0 and metrics[0]["nan"] is None
    assert set(read_metrics_log(uninterrupted / "metrics.jsonl")[0]) > RATES
    assert sorted(p.name for p in (uninterrupted / "pictures").iterdir()) == [
        "autoencoder-0000020.png", "autoencoder-0000040.png",
    ]  # fmt: skip
    record = StageCheckpoints(uninterrupted / "autoencoder").read_record()
    assert (record["step"], record["finished"]) == (40, True)


HALTING_SCRIPT = """
import sys, time
from pathlib import Path
from tests.training.test_loop import LinearStage, train
train(Path(sys.argv[1]), LinearStage(before={int(sys.argv[2]): lambda _: time.sleep(600)}), resume=True)
"""


def train_and_kill(folder: Path, *, halt_at: int, last_line: int) -> None:
    """Train in a process that halts at step ``halt_at``; kill -9 once the line of step ``last_line`` is written."""
    with subprocess.Popen(
        [sys.executable, "-c", HALTING_SCRIPT, str(folder), str(halt_at)], cwd=Path(__file__).parents[2]
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (folder / "metrics.jsonl").exists() or [line["step"] for line in read_lines(folder)][-1:] != [
                last_line
            ]:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_run_resumed_after_kill_9_equals_an_uninterrupted_one(tmp_path: Path, uninterrupted: Path) -> None:
    train_and_kill(tmp_path / "run", halt_at=31, last_line=30)
    assert StageCheckpoints(tmp_path / "run" / "autoencoder").read_record()["step"] == 20  # of the evaluation
    assert read_lines(tmp_path / "run") == read_lines(uninterrupted)[:3]
    stage = train(tmp_path / "run", resume=True)
    assert stage.epochs == [3, 4]  # step 20 is in the middle of epoch 2
    assert_same(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("step", [1, 7, 8, 9, 16, 20, 25, 39, 40])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_step_and_loses_nothing(
    tmp_path: Path, uninterrupted: Path, step: int, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = LinearStage(before={step - 1: lambda _: os.kill(os.getpid(), number)})
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt), ProgressReporter() as console:
        train(tmp_path / "run", stage, progress=console)
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == f"autoencoder: stopped at step {step}; --resume continues from there"
    )
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert StageCheckpoints(tmp_path / "run" / "autoencoder").read_record()["step"] == step
    resumed = train(tmp_path / "run", resume=True)
    assert resumed.epochs == [epoch for epoch in range(5) if epoch * 8 >= step]
    assert_same(tmp_path / "run", uninterrupted)


def test_a_signal_interrupts_an_evaluation_which_is_repeated_after_resuming(
    tmp_path: Path, uninterrupted: Path
) -> None:
    class SignalingStage(LinearStage):
        def evaluate(self, step: int) -> dict[str, float]:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("was not interrupted")

    with pytest.raises(TrainingInterrupted, match="stopped at step 20"):
        train(tmp_path / "run", SignalingStage())
    assert [line["step"] for line in read_lines(tmp_path / "run")] == [10]
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_a_second_signal_interrupts_a_step(tmp_path: Path) -> None:
    def signal_twice(_: LinearStage) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("was not interrupted")

    with pytest.raises(KeyboardInterrupt) as interruption:
        train(tmp_path / "run", LinearStage(before={18: signal_twice}))
    assert not isinstance(interruption.value, TrainingInterrupted)
    assert StageCheckpoints(tmp_path / "run" / "autoencoder").read_record()["step"] == 16


def test_a_run_interrupted_at_every_step_equals_an_uninterrupted_one(tmp_path: Path, uninterrupted: Path) -> None:
    for step in range(1, STEPS):
        with pytest.raises(TrainingInterrupted):
            train(tmp_path / "run", LinearStage(before={step - 1: terminate}), resume=True)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_a_truncated_checkpoint_is_refused_and_the_previous_one_resumes(tmp_path: Path, uninterrupted: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "run", LinearStage(before={24: terminate}))
    last, previous = (tmp_path / "run" / "autoencoder" / f"{which}.safetensors" for which in ("last", "previous"))
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(
        HsevalError, match=rf"last.safetensors: truncated.* step 20 is intact: mv {previous} {last}, then"
    ):
        train(tmp_path / "run", resume=True)
    previous.rename(last)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_without_resume_a_checkpoint_is_not_overwritten(uninterrupted: Path) -> None:
    with pytest.raises(HsevalError, match=r"last.safetensors: already exists; use --resume to continue from it"):
        train(uninterrupted)


def test_a_finished_stage_is_skipped_and_can_be_extended(
    tmp_path: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run")
    with ProgressReporter() as console:
        stage = train(tmp_path / "run", resume=True, progress=console)
    assert stage.epochs == [] and capsys.readouterr().err == "autoencoder: finished at step 40, skipped\n"
    stage = train(tmp_path / "run", LinearStage(steps=50), resume=True)
    assert stage.epochs == [5, 6]
    assert [line["step"] for line in read_lines(tmp_path / "run")] == [10, 20, 30, 40, 50]
    assert read_lines(tmp_path / "run")[:4] == read_lines(uninterrupted)


def test_a_resumed_run_with_other_epochs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(tmp_path / "run", LinearStage(before={0: terminate}))
    stage = LinearStage()
    stage.epoch_steps = 9
    with pytest.raises(HsevalError, match="has epochs of 8 steps, this run's have 9; --resume requires the same data"):
        train(tmp_path / "run", stage, resume=True)


@pytest.mark.parametrize(("direction", "expected"), [("higher", [10, 20, 20, 40]), ("lower", [10, 10, 10, 10])])
def test_the_best_is_selected_by_direction_across_interruptions(
    tmp_path: Path, direction: str, expected: list[int]
) -> None:
    scores = {10: 1.0, 20: 2.0, 30: float("nan"), 40: 3.0}
    for stop, best in zip((15, 25, 35, None), expected, strict=True):
        stage = LinearStage(before={stop - 1: terminate} if stop else {})
        stage.scores = scores
        with contextlib.nullcontext() if stop is None else pytest.raises(TrainingInterrupted):
            train(
                tmp_path / "run",
                stage,
                intervals=StepIntervals(10, 16, 0, 10),
                best_by=("psnr", direction),
                resume=True,
            )
        tensors, record = StageCheckpoints(tmp_path / "run" / "autoencoder").load(which="best")
        assert record["step"] == best and record["best"] == {"figure": "psnr", "value": scores[best], "step": best}
        assert float(tensors["optimizer.weight.step"]) == best
        assert StageCheckpoints(tmp_path / "run" / "autoencoder").read_record()["best"] == record["best"]
    assert not (tmp_path / "run" / "pictures").exists()


def test_without_evaluations_the_last_is_the_best(tmp_path: Path) -> None:
    train(tmp_path / "run", intervals=StepIntervals(log=0, checkpoint=0, preview=0, evaluate=0))
    assert StageCheckpoints(tmp_path / "run" / "autoencoder").read_record(which="best")["step"] == STEPS
    assert read_lines(tmp_path / "run") == []


def test_an_unknown_metric_for_the_best_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"'psmr', which selects the best .* evaluated \(did you mean 'psnr'\?\)"):
        train(tmp_path / "run", best_by=("psmr", "higher"))


def test_a_loss_that_is_not_finite_stops_and_preserves_the_last_checkpoint(tmp_path: Path, uninterrupted: Path) -> None:
    stage = LinearStage(before={24: lambda _: {"late": torch.tensor(float("nan"))}})
    with pytest.raises(HsevalError) as refusal:
        train(tmp_path / "run", stage)
    last = tmp_path / "run" / "autoencoder" / "last.safetensors"
    assert str(refusal.value) == (
        f"autoencoder, step 25: loss 'late' (nan) is not finite; the last good checkpoint is {last} (step 20); "
        "lower ae_lr or adversarial, then --resume"
    )
    assert [line["step"] for line in read_lines(tmp_path / "run")] == [10, 20]
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_weights_that_overflow_under_a_finite_loss_are_not_stored(tmp_path: Path) -> None:
    def overflow(stage: LinearStage) -> None:
        stage.net.bias.data[3] = float("inf")

    class FiniteLossStage(LinearStage):
        def step(self, step: int) -> dict[str, Tensor]:
            return {"l2": super().step(step)["l2"].nan_to_num(0, 0, 0)}

    stage = FiniteLossStage(before={15: overflow})
    with pytest.raises(HsevalError, match=r"step 16: 'net.bias' .*not finite after a finite loss; there is no earlier"):
        train(tmp_path / "run", stage)
    assert not StageCheckpoints(tmp_path / "run" / "autoencoder").exist()


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_one_line_error_and_the_run_resumes(
    tmp_path: Path, uninterrupted: Path, limit_file_size: Callable[[int], None]
) -> None:
    stage = LinearStage(before={18: lambda _: limit_file_size(20_000)})
    with pytest.raises(HsevalError) as refusal:
        train(tmp_path / "run", stage)
    assert str(refusal.value) == (
        f"{tmp_path}/run/autoencoder/last.safetensors: could not be written: File too large; "
        "the previous checkpoint is preserved: free disk space, then --resume"
    )
    limit_file_size(resource.RLIM_INFINITY)
    train(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", uninterrupted)


def test_out_of_memory_names_the_option_to_lower(tmp_path: Path) -> None:
    stage = LinearStage(before={4: lambda _: torch.empty(2**58)})
    with pytest.raises(HsevalError, match=r"^autoencoder, step 5: out of memory; lower ae_batch$"):
        train(tmp_path / "run", stage)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_every_kind_of_memory_error_is_recognized(error: Exception) -> None:
    with pytest.raises(HsevalError, match="here: out of memory; lower it"), explain_out_of_memory("here", "it"):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory("here", "it"):
        raise RuntimeError("shapes cannot be multiplied")


def test_progress_is_one_line_per_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter() as console:
        train(tmp_path / "run", progress=console)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6  # four intervals, two evaluations
    assert lines[0].startswith("autoencoder 10/40  l2 ") and "  codes 4.5  " in lines[0]
    assert "cubes/s  " in lines[0] and " GiB  " in lines[0] and lines[0].endswith("s left")
    assert lines[2].startswith("autoencoder 20/40  held out: psnr -") and lines[2].endswith("  best so far")


def test_means_are_restored_to_the_last_bit() -> None:
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


def train_on_rank(ranks: Ranks, folder: Path, before: Mapping[int, str], **options: Any) -> str | None:
    """Train as one of two ranks; ``before``: step -> event on rank 1."""
    events: dict[str, Callable[[LinearStage], Any]] = {
        "nan": lambda _: {"l2": torch.tensor(float("nan"))},
        "signal": terminate,
    }
    actions = {step: events[event] for step, event in before.items()} if ranks.rank == 1 else {}
    try:
        train(folder, LinearStage(ranks, before=actions), **options)
    except (HsevalError, TrainingInterrupted) as error:
        return str(error)
    return None


def test_two_ranks_train_like_one_and_only_the_main_rank_writes(tmp_path: Path, uninterrupted: Path) -> None:
    assert run_on_two_ranks(train_on_rank, tmp_path / "run", {}) == [None, None]
    for which in ("last", "best"):
        (one, record), (two, other_record) = (
            StageCheckpoints(run / "autoencoder").load(which=which) for run in (uninterrupted, tmp_path / "run")
        )
        assert record["step"] == other_record["step"]
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    for one_line, two_line in zip(read_lines(uninterrupted), read_lines(tmp_path / "run"), strict=True):
        for name, value in one_line.items():
            assert two_line[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


def test_two_ranks_stop_at_the_same_step_and_resume(tmp_path: Path) -> None:
    message = "autoencoder: stopped at step 16; --resume continues from there"
    assert run_on_two_ranks(train_on_rank, tmp_path / "whole", {}) == [None, None]
    assert run_on_two_ranks(train_on_rank, tmp_path / "run", {13: "signal"}) == [message, message]
    assert run_on_two_ranks(resume_on_rank, tmp_path / "run") == [None, None]
    assert_same(tmp_path / "run", tmp_path / "whole")


def resume_on_rank(ranks: Ranks, folder: Path) -> str | None:
    return train_on_rank(ranks, folder, {}, resume=True)


def test_two_ranks_end_with_the_same_error(tmp_path: Path) -> None:
    one, other = run_on_two_ranks(train_on_rank, tmp_path / "run", {24: "nan"})
    assert one == other and one.startswith("autoencoder, step 25: loss 'l2' (nan) is not finite; the last good")
    (tmp_path / "blocked" / "metrics.jsonl").mkdir(parents=True)
    one, other = run_on_two_ranks(train_on_rank, tmp_path / "blocked", {})
    assert one == other and one.startswith(f"{tmp_path}/blocked/metrics.jsonl: can't be read: ")
