"""Progress on stderr: a bar with rate and remaining time on a terminal; elsewhere lines."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from hseval.utils.console import create_console

MIN_REMAINING_SECONDS = 60.0  # from which on the remaining time is printed
MIN_ELAPSED_SECONDS = 2.0  # after which it is estimated

_is_silenced = contextvars.ContextVar("is_silenced", default=False)


@contextlib.contextmanager
def silence_progress() -> Iterator[None]:
    """Silence every reporter that is made within the block, those of plugins included."""
    token = _is_silenced.set(True)
    try:
        yield
    finally:
        _is_silenced.reset(token)


class ProgressReporter:
    """Shows the progress of tasks while it is entered; silent unless ``enabled``.

    ``hint`` follows the estimate of a long task: how to make it shorter.
    """

    def __init__(self, *, enabled: bool = True, hint: str = "") -> None:
        self.enabled, self.hint = enabled and not _is_silenced.get(), hint
        self._bar: Any = None
        self._bar_tasks: dict[str, Any] = {}
        self._starts: dict[str, tuple[float, int] | None] = {}  # time and items at a task's start; None: estimated

    def __enter__(self) -> ProgressReporter:
        if self.enabled and sys.stderr.isatty():
            self._bar = _build_bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
        self._bar_tasks.clear()

    def print_line(self, text: str) -> None:
        """Print a permanent line."""
        if not self.enabled:
            return
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, task: str, done: int, total: int, message: str = "") -> None:
        """Report that ``done`` of ``total`` items of a task are finished.

        A message, such as the metrics of a training, stands beside the bar until the next one, or is a line where there
        is no bar. A long task without messages gets one line, with an estimate of the remaining time.
        """
        if not self.enabled:
            return
        if message:
            self._starts[task] = None
        else:
            self._print_estimate(task, done, total)
        if self._bar is not None:
            self._update_bar(task, done, total, message)
        elif message:
            self.print_line(f"{task} {done}/{total}  {message}")

    def _update_bar(self, task: str, done: int, total: int, message: str) -> None:
        if task not in self._bar_tasks:
            self._bar_tasks[task] = self._bar.add_task(task, total=total, completed=done, message=message)
        changes = {"message": message} if message else {}
        self._bar.update(self._bar_tasks[task], completed=done, total=total, **changes)

    def _print_estimate(self, task: str, done: int, total: int) -> None:
        """Print once, after the first items, how long the rest will take if that is long."""
        now = time.monotonic()
        start = self._starts.setdefault(task, (now, done))
        if start is None:
            return
        elapsed, items = now - start[0], done - start[1]
        if items <= 0 or elapsed < MIN_ELAPSED_SECONDS:
            return
        self._starts[task] = None
        rate = items / elapsed
        remaining = (total - done) / rate
        if remaining > MIN_REMAINING_SECONDS:
            self.print_line(f"{task}: {total} in total, {rate:.1f}/s, about {remaining / 60:.0f} min left{self.hint}")


def format_metrics(terms: Mapping[str, float | None], rates: Mapping[str, float | None]) -> str:
    """Return metrics as one line: ``l1 0.123  31 cubes/s  2.1 GiB  6 min left``.

    Args:
        terms: name -> mean; None is omitted.
        rates: any of ``cubes_per_s``, ``steps_per_s``, ``memory_gib``, ``seconds_left``.
    """
    parts = [f"{name} {_format_number(value)}" for name, value in terms.items() if value is not None]
    cube_rate, memory, seconds_left = (rates.get(name) for name in ("cubes_per_s", "memory_gib", "seconds_left"))
    if cube_rate is not None:
        parts.append(f"{_format_number(cube_rate)} cubes/s")
    elif (steps := rates.get("steps_per_s")) is not None:
        parts.append(f"{_format_number(steps)} steps/s")
    if memory:
        parts.append(f"{memory:.1f} GiB")
    if seconds_left is not None:
        parts.append(f"{_format_duration(seconds_left)} left")
    return "  ".join(parts)


def _format_number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _build_bar() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class MessageColumn(ProgressColumn):
        """The task's message, else its rate and remaining time."""

        def render(self, task: Any) -> Text:
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            left = "" if task.time_remaining is None else f"  {_format_duration(task.time_remaining)} left"
            return Text(task.fields["message"] or f"{rate}{left}", style="dim")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        MessageColumn(),
    )
    return Progress(*columns, console=create_console(sys.stderr), transient=True)
