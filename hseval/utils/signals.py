"""Deferred Ctrl-C and SIGTERM, for short blocks that must not be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the end of the block, which has to be short.

    One stop often arrives as two signals (``timeout`` and batch systems signal process and group); the second would
    interrupt the cleanup that the first one started.
    """
    if threading.current_thread() is not threading.main_thread():  # only this one may handle signals
        yield
        return
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda signum, _: received.append(signum)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if received:
        signal.raise_signal(received[0])
