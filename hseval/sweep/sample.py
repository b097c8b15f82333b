"""Samples of a run: drawn once, from where a cut-off draw was left, and timed."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
from hseval.data.writer import SetWriter
from hseval.sampling import generate as drawing
from hseval.sampling.chunks import open_chunks
from hseval.sampling.generate import generate_samples
from hseval.sweep.plan import RunConfig, SweepPlan, TimingConfig


def measure_seconds_per_sample(generator: Any, timing: TimingConfig, *, seed: int) -> dict[str, Any]:
    """Return the median of the repeats with the smallest and largest one, in seconds a cube.

    A draw ends with cubes in the host's memory, so a GPU's work is in it. Nothing is written to disk while the clock
    runs. The first draws of a process load libraries, tune kernels and compile: the warm-up, which does not count.

    Args:
        generator: loaded.
        timing: how many cubes, how often.
        seed: of the draws.
    """
    taken = []
    for number in range(timing.warmup + timing.repeats):
        began = time.perf_counter()
        count = sum(1 for _ in itertools.islice(generate_samples(generator, timing.cubes, seed), timing.cubes))
        if number >= timing.warmup:
            taken.append((time.perf_counter() - began) / max(count, 1))
    return {
        "seconds": statistics.median(taken),
        "fastest": min(taken),
        "slowest": max(taken),
        "cubes": timing.cubes,
        "repeats": timing.repeats,
        "warmup": timing.warmup,
        "device": get_device_name(getattr(generator, "device", None)),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def get_device_name(device: Any) -> str:
    """Return a GPU by its name, or the processor with the number of threads that torch uses."""
    import torch

    if device is not None and str(device).startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{_get_processor_name()}, {threads} thread{'s' * (threads != 1)}"


def _get_processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class RunSampler:
    """A run's generator, loaded when it is first needed."""

    def __init__(self, run: RunConfig, plan: SweepPlan, checkpoint: Path | None) -> None:
        self.run, self.plan, self.checkpoint = run, plan, checkpoint
        self._generator: Any = None
        self._weight_hashes: dict[str, str | None] = {}

    def load_generator(self) -> Any:
        """Return the generator, loaded."""
        if self._generator is None:
            name, options = self.run.generator, {**self.run.options, **self.run.sampling}
            self._weight_hashes = drawing.hash_checkpoint(self.checkpoint)
            built = get_plugins().build("generator", name, options)
            with get_plugins().wrap_errors("generator", name):
                drawing.load_generator(built, self.checkpoint, self.plan.device, is_device_required=False)
            self._generator = built
        return self._generator

    def draw_samples(self, out: Path) -> None:
        """Write the run's samples, whole or not at all; what a cut-off draw kept is gone on with."""
        generator, count, seed = self.load_generator(), self.plan.sample_count, self.plan.seed
        about = drawing.collect_metadata(generator, seed)
        if not select_accepted_arguments(generator.sample, start=0):
            with SetWriter(out, **about) as writer:
                for sample in drawing.generate_samples(generator, count, seed):
                    writer.add(*sample)
            return
        with open_chunks(out, drawing.collect_inputs(about, self._weight_hashes), about) as parts:
            parts.resume(force=True)
            if parts.count < count:
                parts.write_samples(
                    drawing.generate_samples(generator, count, seed, start=parts.count), _ignore_progress
                )
            parts.join(count, _ignore_progress)

    def measure_speed(self) -> dict[str, Any]:
        """Return how long a sample takes."""
        with get_plugins().wrap_errors("generator", self.run.generator):
            return measure_seconds_per_sample(self.load_generator(), self.plan.timing, seed=self.plan.seed)


def _ignore_progress(_: int) -> None:
    """Take no notice."""
