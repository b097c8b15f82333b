"""Shared by all benchmarks: interleaved timing, a description of the machine, and recording of results."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("hseval", "numpy", "scipy", "torch", "scikit-learn", "faiss-gpu", "faiss-cpu", "h5py")


def measure(contestants: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Return each contestant's median wall-clock time in seconds.

    Every contestant runs once unmeasured as a warm-up; then they alternate, so that a machine that slows down
    affects all of them alike.
    """
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def set_threads(count: int = 2) -> int:
    """Make torch and every loaded BLAS use ``count`` threads; return the count."""
    import torch
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    torch.set_num_threads(count)
    threadpool_limits(count)
    return count


def describe_machine() -> dict[str, Any]:
    """Return what a reader needs to interpret a timing: processor, cores, load, versions and date."""
    import torch

    return {
        "processor": _get_processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _get_versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def record(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result and the machine's description to ``benchmarks/results/{name}.json``; ``name`` is FOLDER/NAME."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(to_jsonable({**result, "machine": describe_machine()}), indent=1) + "\n")
    return path


def format_ratio(ratio: float, bar: float) -> str:
    """Return one phrase: the ratio, its target, and whether it is met."""
    return f"{ratio:.1f} times (target: {bar:g}): {'met' if ratio >= bar else 'MISSED'}"


def _get_processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _get_versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
