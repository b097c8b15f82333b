"""Configurations trained for a given time on 2,000 phantom eyes, sampled and scored with hseval's commands.

Autoencoder and U-Net are trained in several short calls: an interrupted run resumes, and the number of steps fills the
time at the rate that was measured first.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.device import measure_rate, read_device_state
from benchmarks.gpu.speed import STEPS, Environment, build_stage
from benchmarks.gpu.stages import build_autoencoder_stage
from benchmarks.gpu.store import Budget, InterruptedMeasurementError
from benchmarks.ldm.configurations import Configuration, make_noise_dataset
from benchmarks.ldm.stages import replace_options
from hseval.utils.atomic_files import write_text
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run_config import get_checkpoints

HSEVAL = (sys.executable, "-m", "hseval")
SECONDS_TO_STOP = 45.0  # for a run to write its checkpoint when the time is up
METRICS = "fid,spectral-kl,ms-ssim,authenticity"
SHARE = 0.9  # of the time that is spent in steps; the rest goes to held-out scores and checkpoints


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes and durations.

    Attributes:
        eyes: to train on.
        reference: eyes to score against.
        samples: cubes drawn from each model.
        autoencoder, diffusion: minutes of training.
        features: steps of the perceptual encoder.
    """

    eyes: int = 2000
    reference: int = 500
    samples: int = 500
    autoencoder: float = 6.0
    diffusion: float = 8.0
    features: int = 500


SMALL = Plan(eyes=24, reference=16, samples=8, autoencoder=0.05, diffusion=0.05, features=2)


@dataclasses.dataclass(frozen=True)
class Work:
    """Environment, plan and available time."""

    env: Environment
    plan: Plan
    budget: Budget

    def run_command(self, *arguments: str) -> None:
        """Run a command; when the time is up, interrupt it and let it write its checkpoint.

        Raises:
            InterruptedMeasurementError: the time was up.
            RuntimeError: the command failed.
        """
        process = subprocess.Popen(arguments)
        remaining = self.budget.get_remaining()
        try:
            status = process.wait(None if remaining == float("inf") else max(1.0, remaining - SECONDS_TO_STOP))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise InterruptedMeasurementError(f"{' '.join(arguments[2:5])} was interrupted") from None
        if status:
            raise RuntimeError(f"{' '.join(arguments)} failed with status {status}")

    def get_path(self, *parts: str) -> Path:
        """Return a path in the folder for this setting."""
        return self.env.work.joinpath("quality", *parts)


def measure_quality(work: Work, configuration: Configuration) -> dict[str, Any]:
    """Train, sample and score one configuration; configurations that differ only in the base share an autoencoder."""
    training_set = make_eyes(work, "train", work.plan.eyes, 1)
    reference = make_eyes(work, "reference", work.plan.reference, 2)
    encoder = train_autoencoder(work, configuration, training_set)
    run = train_diffusion(work, configuration, training_set, encoder)
    samples, report = run.with_suffix(".samples.h5"), run.with_suffix(".report.json")
    sampling_seconds: float | None = None  # if sampled in an earlier call
    sample_options = ("-n", str(work.plan.samples), "--seed", "3", "--device", str(work.env.device))
    if not samples.exists():
        before = time.monotonic()
        work.run_command(*HSEVAL, "sample", "ldm", "--checkpoint", str(run), *sample_options, "--out", str(samples))
        sampling_seconds = time.monotonic() - before
    sets = ("--ref", str(reference), "--train", str(training_set))
    score_options = ("--metrics", METRICS, "--json", str(report), "--no-cache", "--device", str(work.env.device))
    work.run_command(*HSEVAL, "score", str(samples), *sets, *score_options)
    return {
        "plan": dataclasses.asdict(work.plan),
        "scores": read_scores(report),
        "autoencoder": read_last_figures(encoder, "autoencoder"),
        "diffusion": read_last_figures(run, "diffusion"),
        "steps": json.loads((run / "plan.json").read_text()) | json.loads((encoder / "plan.json").read_text()),
        "sampling_seconds": sampling_seconds,
        "found": read_device_state(work.env.device),
    }


def make_eyes(work: Work, name: str, count: int, seed: int) -> Path:
    """Return a set of phantom eyes, drawn if it does not exist."""
    path = work.get_path(f"{name}.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        options = ("-n", str(count), "--size", str(work.env.setting.size), "--seed", str(seed))
        work.run_command(sys.executable, "-m", "benchmarks.helpers.draw_eyes", str(path), *options)
    return path


def train_autoencoder(work: Work, configuration: Configuration, data: Path) -> Path:
    """Return a run whose first two stages are finished."""
    configuration = dataclasses.replace(configuration, base=128)  # one for all bases
    run = work.get_path(f"autoencoder-{configuration.compression}-{configuration.channels}")
    options = work.env.setting.build_options(configuration)
    steps = plan_steps(run, "ae_steps", lambda: measure_autoencoder_rate(work.env, options), work.plan.autoencoder)
    values = {"ae_steps": steps, "score_every": steps, "best_by": "loss", "features_steps": work.plan.features}
    for stage in ("features", "autoencoder"):
        train_stage(work, configuration, data, run, stage=stage, **values)
    return run


def train_diffusion(work: Work, configuration: Configuration, data: Path, encoder: Path) -> Path:
    """Return a run with all stages, the first ones copied from ``encoder``."""
    run = work.get_path(configuration.name.replace("/", "-"))
    if not (run / "autoencoder").exists():
        shutil.copytree(encoder / "autoencoder", run / "autoencoder.part", dirs_exist_ok=True)
        (run / "autoencoder.part").rename(run / "autoencoder")
    options = work.env.setting.build_options(configuration)
    steps = plan_steps(run, "ldm_steps", lambda: measure_diffusion_rate(work.env, options), work.plan.diffusion)
    values = {
        "ldm_steps": steps,
        "score_every": steps,
        "score_cubes": 0,
        "best_by": "loss",
        "ema": compute_ema_decay(steps),
    }
    train_stage(work, configuration, data, run, stage="diffusion", **values)
    return run


def train_stage(work: Work, configuration: Configuration, data: Path, run: Path, *, stage: str, **values: Any) -> None:
    """Run ``hseval train-ldm`` for one stage, resuming an interrupted one."""
    if get_checkpoints(run / stage).exist() and get_checkpoints(run / stage).read_record()["finished"]:
        return
    setting = work.env.setting
    options = {
        "compression": configuration.compression,
        "latent_channels": configuration.channels,
        "base": configuration.base // setting.width_divisor,
        **dict(setting.overrides),
        **values,
    }
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    flags = ("--preset", "retina-224", "--stage", stage, "--resume", "--device", str(work.env.device))
    work.run_command(*HSEVAL, "train-ldm", str(data), "--out", str(run), *flags, *settings)


def plan_steps(run: Path, name: str, measure: Callable[[], float], minutes: float) -> int:
    """Return the number of steps that fill the minutes, measured once and stored in the run's folder."""
    path = run / "plan.json"
    run.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return int(json.loads(path.read_text())[name])
    steps = max(4, round(measure() * 60 * minutes * SHARE))
    write_text(path, json.dumps({name: steps}))
    return steps


def measure_autoencoder_rate(env: Environment, options: LdmOptions) -> float:
    """Return steps a second, averaged over training without and with the discriminator."""
    training_set = make_noise_dataset(2 * options.ae_batch, env.setting.size)
    seconds = 0.0
    for start, share in ((1.0, options.disc_start), (0.0, 1 - options.disc_start)):
        stage_options = replace_options(options, disc_start=start, ae_steps=STEPS)
        stage = build_autoencoder_stage(env, stage_options, training_set)
        seconds += share / measure_rate(stage.step, env.device, **env.quick_settings)[0]
        stage.prefetcher.close()
    return 1 / seconds


def measure_diffusion_rate(env: Environment, options: LdmOptions) -> float:
    """Return steps a second of the diffusion stage."""
    stage = build_stage(env, replace_options(options, ldm_steps=STEPS))
    per_second, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    del stage
    if env.device.type == "cuda":
        torch.cuda.empty_cache()  # for the command that trains
    return per_second


def compute_ema_decay(steps: int) -> float:
    """Return an EMA decay that averages over the last twentieth of the steps."""
    return round(1 - min(1.0, 20 / steps) * 0.99, 6)


def read_scores(report: Path) -> Mapping[str, Any]:
    """Return value, floor and verdict by metric."""
    names = ("value", "floor", "verdict", "n")
    scores: Sequence[Mapping[str, Any]] = json.loads(report.read_text())["scores"]
    return {score["name"]: {name: score[name] for name in names} for score in scores}


def read_last_figures(run: Path, stage: str) -> Mapping[str, Any]:
    """Return the last line that a stage logged."""
    lines = (json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    last: Mapping[str, Any] = [line for line in lines if line.get("stage") == stage][-1]
    return last
