"""Stopping a run at the end of a step: Ctrl-C, or SIGTERM of a batch system."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from hseval.utils.distributed import Ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SYNC_INTERVAL_STEPS = 10  # steps between two synchronizations with the other ranks


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped before its last step; a checkpoint of the step reached is on disk."""


class InterruptHandler:
    """Records signals during a step, so that the step completes; a second signal interrupts at once."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self._is_signaled = self._is_immediate = False
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():  # Python handles signals only there
            for number in SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def should_stop(self, step: int, *, force_sync: bool = False) -> bool:
        """Return, the same on all ranks, whether to stop after ``step``.

        Ranks synchronize only every ``SYNC_INTERVAL_STEPS``, or where ``force_sync`` is set.
        """
        if self.ranks.size == 1:
            return self._is_signaled
        if not force_sync and step % SYNC_INTERVAL_STEPS:
            return False
        stop_votes = torch.tensor([float(self._is_signaled)])
        self.ranks.sum_(stop_votes)
        return bool(stop_votes.item())

    @contextlib.contextmanager
    def allow_immediate_interrupt(self) -> Iterator[None]:
        """Let a signal interrupt the block at once, because nothing would be lost (single rank only)."""
        self._is_immediate = self.ranks.size == 1
        try:
            if self._is_signaled and self._is_immediate:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_immediate = False

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_signaled or self._is_immediate:
            raise KeyboardInterrupt
        self._is_signaled = True
