"""Ctrl-C and SIGTERM, put off where they would cost what is already done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM take effect only after the block, which has to be short.

    One stop often comes as two signals (``timeout`` and batch systems signal process and group); the second would hit
    what the first one set going.
    """
    if threading.current_thread() is not threading.main_thread():  # no other thread gets, or may handle, signals
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])
