"""Stopping a run at a step's end: Ctrl-C, SIGTERM of a queue, or a time limit."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from hseval_ldm.utils.distributed import Ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SYNC_INTERVAL_STEPS = 10  # steps between two questions to the other ranks


class TrainingInterrupted(KeyboardInterrupt):
    """Training ended before its last step, and a checkpoint of that step is on disk."""


class InterruptHandler:
    """Notes signals while a step is under way, so that it ends whole; a second one interrupts at once."""

    def __init__(self, ranks: Ranks, limit_s: float | None = None) -> None:
        self.ranks = ranks
        self._deadline = None if limit_s is None else time.monotonic() + limit_s
        self._is_signaled = self._is_immediate = False
        self._previous_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():  # Python takes signals nowhere else
            for number in SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def should_stop(self, step: int, *, force_sync: bool = False) -> bool:
        """Tell, the same on all ranks, whether to stop after ``step``.

        Args:
            step: how many steps are done; several ranks ask each other only every so many.
            force_sync: ask in any case.
        """
        mine = self._is_signaled or (self._deadline is not None and time.monotonic() >= self._deadline)
        if self.ranks.size == 1:
            return mine
        if not force_sync and step % SYNC_INTERVAL_STEPS:
            return False
        told = torch.tensor([float(mine)])
        self.ranks.sum_(told)
        return bool(told.item())

    @contextlib.contextmanager
    def allow_immediate_interrupt(self) -> Iterator[None]:
        """Let a signal interrupt the block where it stands: nothing would be lost (alone; ranks end together)."""
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
