"""Configurations trained for a given time on 2,000 phantom eyes, sampled and scored by the commands that users type.

Autoencoder and U-Net are trained in calls as short as a machine can be had for: a run that is cut off goes on, and
its steps are those that fill the time at the rate that was measured first.
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

from benchmarks.gpu.device import found, rate
from benchmarks.gpu.speed import STEPS, Place, stage_for
from benchmarks.gpu.stages import autoencoder_stage
from benchmarks.gpu.store import Budget, NotFinishedError
from benchmarks.ldm.configurations import Configuration, noise_data
from benchmarks.ldm.stages import changed
from hseval.utils.atomic_files import write_text
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint

HSEVAL = (sys.executable, "-m", "hseval")
STOPPING = 45.0  # seconds that a run gets to write its checkpoint when the time is up
METRICS = "fid,spectral-kl,ms-ssim,authenticity"
SHARE = 0.9  # of the time that is filled with steps; the rest goes to held-out scores and checkpoints


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much of everything.

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
    """A place, a plan and the time there is."""

    place: Place
    plan: Plan
    budget: Budget

    def command(self, *arguments: str) -> None:
        """Run a command; when the time is up, let it write what it has.

        Raises:
            NotFinishedError: the time was up.
            RuntimeError: it failed.
        """
        process = subprocess.Popen(arguments)
        left = self.budget.left()
        try:
            status = process.wait(None if left == float("inf") else max(1.0, left - STOPPING))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise NotFinishedError(f"{' '.join(arguments[2:5])} was cut off") from None
        if status:
            raise RuntimeError(f"{' '.join(arguments)} failed with status {status}")

    def file(self, *parts: str) -> Path:
        """Return a path in the folder for this setting."""
        return self.place.work.joinpath("quality", *parts)


def quality(work: Work, configuration: Configuration) -> dict[str, Any]:
    """Train, sample and score one configuration; autoencoders are shared by those that differ in the base alone."""
    known, reference = eyes(work, "train", work.plan.eyes, 1), eyes(work, "reference", work.plan.reference, 2)
    encoder = trained_autoencoder(work, configuration, known)
    run = trained_diffusion(work, configuration, known, encoder)
    samples, report = run.with_suffix(".samples.h5"), run.with_suffix(".report.json")
    sampled: float | None = None  # where it was drawn in an earlier call
    asked = ("-n", str(work.plan.samples), "--seed", "3", "--device", str(work.place.device))
    if not samples.exists():
        before = time.monotonic()
        work.command(*HSEVAL, "sample", "ldm", "--checkpoint", str(run), *asked, "--out", str(samples))
        sampled = time.monotonic() - before
    sets = ("--ref", str(reference), "--train", str(known))
    scored = ("--metrics", METRICS, "--json", str(report), "--no-cache", "--device", str(work.place.device))
    work.command(*HSEVAL, "score", str(samples), *sets, *scored)
    return {
        "plan": dataclasses.asdict(work.plan),
        "scores": scores_of(report),
        "autoencoder": last_figures(encoder, "autoencoder"),
        "diffusion": last_figures(run, "diffusion"),
        "steps": json.loads((run / "plan.json").read_text()) | json.loads((encoder / "plan.json").read_text()),
        "sampling_seconds": sampled,
        "found": found(work.place.device),
    }


def eyes(work: Work, name: str, count: int, seed: int) -> Path:
    """Return a set of phantom eyes, drawn if it is not there."""
    path = work.file(f"{name}.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        given = ("-n", str(count), "--size", str(work.place.setting.size), "--seed", str(seed))
        work.command(sys.executable, "-m", "benchmarks.helpers.draw_eyes", str(path), *given)
    return path


def trained_autoencoder(work: Work, configuration: Configuration, data: Path) -> Path:
    """Return a run whose first two stages are finished."""
    configuration = dataclasses.replace(configuration, base=128)  # one for all bases
    run = work.file(f"autoencoder-{configuration.compression}-{configuration.channels}")
    options = work.place.setting.options(configuration)
    steps = planned(run, "ae_steps", lambda: autoencoder_rate(work.place, options), work.plan.autoencoder)
    given = {"ae_steps": steps, "score_every": steps, "best_by": "loss", "features_steps": work.plan.features}
    for stage in ("features", "autoencoder"):
        train(work, configuration, data, run, stage=stage, **given)
    return run


def trained_diffusion(work: Work, configuration: Configuration, data: Path, encoder: Path) -> Path:
    """Return a run with all stages, the first ones copied from ``encoder``."""
    run = work.file(configuration.name.replace("/", "-"))
    if not (run / "autoencoder").exists():
        shutil.copytree(encoder / "autoencoder", run / "autoencoder.part", dirs_exist_ok=True)
        (run / "autoencoder.part").rename(run / "autoencoder")
    options = work.place.setting.options(configuration)
    steps = planned(run, "ldm_steps", lambda: diffusion_rate(work.place, options), work.plan.diffusion)
    given = {"ldm_steps": steps, "score_every": steps, "score_cubes": 0, "best_by": "loss", "ema": ema_of(steps)}
    train(work, configuration, data, run, stage="diffusion", **given)
    return run


def train(work: Work, configuration: Configuration, data: Path, run: Path, *, stage: str, **given: Any) -> None:
    """Run ``hseval train-ldm`` for one stage, or go on with it."""
    if checkpoint.has_checkpoint(run / stage) and checkpoint.read_record(run / stage)["finished"]:
        return
    setting = work.place.setting
    options = {
        "compression": configuration.compression,
        "latent_channels": configuration.channels,
        "base": configuration.base // setting.narrow,
        **dict(setting.more),
        **given,
    }
    chosen = [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    where = ("--preset", "retina-224", "--stage", stage, "--resume", "--device", str(work.place.device))
    work.command(*HSEVAL, "train-ldm", str(data), "--out", str(run), *where, *chosen)


def planned(run: Path, name: str, measure: Callable[[], float], minutes: float) -> int:
    """Return the steps that fill the minutes, measured once and written beside the run."""
    path = run / "plan.json"
    run.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return int(json.loads(path.read_text())[name])
    steps = max(4, round(measure() * 60 * minutes * SHARE))
    write_text(path, json.dumps({name: steps}))
    return steps


def autoencoder_rate(place: Place, options: LdmOptions) -> float:
    """Return steps a second, over the part of the training without and the one with a discriminator."""
    known = noise_data(2 * options.ae_batch, place.setting.size)
    seconds = 0.0
    for start, share in ((1.0, options.disc_start), (0.0, 1 - options.disc_start)):
        chosen = changed(options, disc_start=start, ae_steps=STEPS)
        stage = autoencoder_stage(place, chosen, known)
        seconds += share / rate(stage.step, place.device, **place.few)[0]
        stage.prefetcher.close()
    return 1 / seconds


def diffusion_rate(place: Place, options: LdmOptions) -> float:
    """Return steps a second."""
    stage = stage_for(place, changed(options, ldm_steps=STEPS))
    per_second, _ = rate(stage.step, place.device, **place.few)
    stage.prefetcher.close()
    del stage
    if place.device.type == "cuda":
        torch.cuda.empty_cache()  # for the command that trains
    return per_second


def ema_of(steps: int) -> float:
    """Return a decay that averages over the last twentieth of the steps."""
    return round(1 - min(1.0, 20 / steps) * 0.99, 6)


def scores_of(report: Path) -> Mapping[str, Any]:
    """Return value, floor and verdict by metric."""
    names = ("value", "floor", "verdict", "n")
    scores: Sequence[Mapping[str, Any]] = json.loads(report.read_text())["scores"]
    return {score["name"]: {name: score[name] for name in names} for score in scores}


def last_figures(run: Path, stage: str) -> Mapping[str, Any]:
    """Return the last line that a stage wrote."""
    lines = (json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    found: Mapping[str, Any] = [line for line in lines if line.get("stage") == stage][-1]
    return found
