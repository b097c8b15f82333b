"""Means of loss terms, throughput and peak memory of a training."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError

GIB = 2**30
OUT_OF_MEMORY_MESSAGES = (
    "out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad allocation",
)  # fmt: skip


class MeanMeter:
    """Sums of loss terms on the device since the last :meth:`compute_and_reset`, in float64."""

    def __init__(self, state: list[list[Any]] | None = None, *, device: torch.device | str = "cpu") -> None:
        """Start empty, or from what :meth:`get_state` returned."""
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        for names, sums, count in state or []:
            self._sums[tuple(names)] = torch.tensor(sums, dtype=torch.float64, device=device), count

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add the terms, 0-d tensors, of one step, without waiting for the device."""
        if not terms:
            return
        values = torch.stack([term.detach().to(torch.float64) for term in terms.values()])
        total, count = self._sums.get(tuple(terms), (0, 0))
        self._sums[tuple(terms)] = total + values, count + 1

    def get_state(self, ranks: Ranks) -> list[list[Any]]:
        """Return the sums, averaged over the ranks, as values that JSON can store."""
        for total, _ in self._sums.values():
            ranks.mean_(total)
        return [[list(names), total.tolist(), count] for names, (total, count) in self._sums.items()]

    def compute_and_reset(self, ranks: Ranks) -> dict[str, float]:
        """Return each term's mean over the steps that had it and over the ranks, and reset."""
        totals: dict[str, tuple[float, int]] = {}
        for names, sums, count in self.get_state(ranks):
            for name, value in zip(names, sums, strict=True):
                previous = totals.get(name, (0.0, 0))
                totals[name] = previous[0] + value, previous[1] + count
        self._sums.clear()
        return {name: total / count for name, (total, count) in totals.items()}


class ThroughputMeter:
    """Steps per second while training, and the time left including all other work."""

    def __init__(self) -> None:
        self.started_at = self._resumed_at = time.monotonic()
        self._interval_seconds, self._interval_steps, self.total_steps = 0.0, 0, 0

    def count_step(self) -> None:
        """Count one step."""
        self._interval_steps += 1
        self.total_steps += 1

    def pause(self) -> None:
        """Stop the clock of the rate, as during an evaluation."""
        self._interval_seconds += time.monotonic() - self._resumed_at

    def resume(self) -> None:
        """Start the clock again."""
        self._resumed_at = time.monotonic()

    def compute_and_reset(self) -> float | None:
        """Return the steps per second since the last call (None: no steps); called while paused."""
        seconds, steps = self._interval_seconds, self._interval_steps
        self._interval_seconds, self._interval_steps = 0.0, 0
        return steps / seconds if steps and seconds > 0 else None

    def estimate_seconds_left(self, steps: int) -> float | None:
        """Return the time that ``steps`` more take at the average rate so far; None before the first step."""
        return (time.monotonic() - self.started_at) / self.total_steps * steps if self.total_steps else None


def get_peak_memory_gib(device: torch.device) -> float:
    """Return the peak memory so far, in GiB: tensors on a GPU, else the process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


@contextlib.contextmanager
def explain_out_of_memory(task: str, option: str) -> Iterator[None]:
    """Turn an out-of-memory error of CUDA, the CPU's allocator or Python into one line that names the option to lower.

    Raises:
        HsevalError: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_memory_error = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_memory_error and not any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES):
            raise
        # The allocator's own message is several lines of advice to programmers.
        raise HsevalError(f"{task}: out of memory; lower {option}") from error
