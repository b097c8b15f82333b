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
AGREED_EVERY = 10  # steps between two questions to the other ranks


class Stopped(KeyboardInterrupt):
    """Training ended before its last step, and a checkpoint of that step is on disk."""


class Stop:
    """Notes signals while a step is under way, so that it ends whole; a second one interrupts at once."""

    def __init__(self, ranks: Ranks, limit_s: float | None = None) -> None:
        self.ranks = ranks
        self._until = None if limit_s is None else time.monotonic() + limit_s
        self._heard = self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python takes signals nowhere else
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self, step: int, *, busy: bool = False) -> bool:
        """Tell, the same on all ranks, whether to stop after ``step``.

        Args:
            step: how many steps are done; several ranks ask each other only every so many.
            busy: ask in any case.
        """
        mine = self._heard or (self._until is not None and time.monotonic() >= self._until)
        if self.ranks.size == 1:
            return mine
        if not busy and step % AGREED_EVERY:
            return False
        told = torch.tensor([float(mine)])
        self.ranks.sum_(told)
        return bool(told.item())

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal interrupt the block where it stands: nothing would be lost (alone; ranks end together)."""
        self._at_once = self.ranks.size == 1
        try:
            if self._heard and self._at_once:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard or self._at_once:
            raise KeyboardInterrupt
        self._heard = True
