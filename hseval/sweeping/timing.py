"""Seconds a sample: draws repeated after a warm-up, the machine named."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

from hseval.drawing.run import drawn
from hseval.sweeping.plan import Timing


def seconds_per_sample(generator: Any, timing: Timing, *, seed: int) -> dict[str, Any]:
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
        count = sum(1 for _ in itertools.islice(drawn(generator, timing.cubes, seed), timing.cubes))
        if number >= timing.warmup:
            taken.append((time.perf_counter() - began) / max(count, 1))
    return {
        "seconds": statistics.median(taken),
        "fastest": min(taken),
        "slowest": max(taken),
        "cubes": timing.cubes,
        "repeats": timing.repeats,
        "warmup": timing.warmup,
        "device": device_name(getattr(generator, "device", None)),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def device_name(device: Any) -> str:
    """Return a GPU by its name, or the processor with the number of threads that torch uses."""
    import torch

    if device is not None and str(device).startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
