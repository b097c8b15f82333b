"""Draws the samples of a run, resuming an interrupted draw, and times the generator."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from hseval.core.capabilities import get_device
from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
from hseval.data.writer import SetWriter
from hseval.sampling import generate as sampling
from hseval.sampling.chunks import open_chunks
from hseval.sampling.generate import check_space_for_samples, generate_samples
from hseval.sweep.plan import RunConfig, SweepPlan, TimingConfig
from hseval.utils.plural import format_count


def measure_seconds_per_sample(generator: Any, timing: TimingConfig, *, seed: int) -> dict[str, Any]:
    """Return the median, minimum and maximum of the repeats, in seconds per cube, with the timing's settings.

    A draw ends with cubes in the host's memory, so that a GPU's work is included. Writing to disk is not. The first
    draws of a process load libraries, tune kernels and compile: they are the warm-up, which does not count.

    Args:
        generator: loaded.
        timing: number of cubes and of repeats.
        seed: of the draws.
    """
    durations = []
    for repeat in range(timing.warmup + timing.repeats):
        start = time.perf_counter()
        count = sum(1 for _ in itertools.islice(generate_samples(generator, timing.cubes, seed), timing.cubes))
        if repeat >= timing.warmup:
            durations.append((time.perf_counter() - start) / max(count, 1))
    return {
        "seconds": statistics.median(durations),
        "fastest": min(durations),
        "slowest": max(durations),
        "cubes": timing.cubes,
        "repeats": timing.repeats,
        "warmup": timing.warmup,
        "device": get_device_name(get_device(generator)),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def get_device_name(device: Any) -> str:
    """Return the name of a GPU, or of the processor with the number of threads that torch uses."""
    import torch

    if device is not None and str(device).startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return f"{_get_processor_name()}, {format_count(torch.get_num_threads(), 'thread')}"


def _get_processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class RunSampler:
    """A run's generator, loaded on first use."""

    def __init__(self, run: RunConfig, plan: SweepPlan, checkpoint: Path | None) -> None:
        self.run, self.plan, self.checkpoint = run, plan, checkpoint
        self._generator: Any = None
        self._weight_hashes: dict[str, str] = {}

    def load_generator(self) -> Any:
        """Return the generator, loaded."""
        if self._generator is None:
            name, options = self.run.generator, {**self.run.options, **self.run.sampling}
            self._weight_hashes = sampling.hash_checkpoint(self.checkpoint)
            generator = get_plugins().build("generator", name, options)
            with get_plugins().wrap_errors("generator", name):
                sampling.load_generator(generator, self.checkpoint, self.plan.device, is_device_required=False)
            self._generator = generator
        return self._generator

    def draw_samples(self, out: Path) -> None:
        """Write the run's samples atomically, resuming an interrupted draw from its stored chunks."""
        generator, count, seed = self.load_generator(), self.plan.sample_count, self.plan.seed
        metadata = sampling.collect_metadata(generator, seed)
        if not select_accepted_arguments(generator.sample, start=0):
            with SetWriter(out, **metadata) as writer:
                for sample in check_space_for_samples(generate_samples(generator, count, seed), out, count):
                    writer.add(*sample)
            return
        with open_chunks(out, sampling.collect_inputs(metadata, self._weight_hashes), metadata) as chunks:
            chunks.resume(force=True)
            if chunks.count < count:
                samples = generate_samples(generator, count, seed, start=chunks.count)
                samples = check_space_for_samples(samples, out, count, stored=chunks.count)
                chunks.write_samples(samples, _ignore_progress)
            chunks.join(count, _ignore_progress)

    def measure_speed(self) -> dict[str, Any]:
        """Return the seconds per sample, as :func:`measure_seconds_per_sample` does."""
        with get_plugins().wrap_errors("generator", self.run.generator):
            return measure_seconds_per_sample(self.load_generator(), self.plan.timing, seed=self.plan.seed)


def _ignore_progress(_: int) -> None:
    """Do nothing."""
