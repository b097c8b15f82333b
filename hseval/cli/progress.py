"""Progress on stderr: a bar with rate and remaining time on a terminal; elsewhere one line with an estimate."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

MIN_REMAINING_SECONDS = 60.0


class ProgressReporter:
    """Shows the progress of each task; silent unless enabled."""

    def __init__(self, *, enabled: bool = True, hint: str = "") -> None:
        self.enabled, self.hint = enabled, hint
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        self.start_times: dict[str, float] = {}
        self.estimated_tasks: set[str] = set()

    def __enter__(self) -> ProgressReporter:
        if self.enabled and sys.stderr.isatty():
            self.bar = _build_bar()
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, task: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` items of a task are finished."""
        if not self.enabled:
            return
        self._print_estimate(task, done, total)
        if self.bar is not None:
            if task not in self.tasks:
                self.tasks[task] = self.bar.add_task(task, total=total)
            self.bar.update(self.tasks[task], completed=done, total=total)

    def _print_estimate(self, task: str, done: int, total: int) -> None:
        """Print once, after the first items, how long the rest will take if that is long."""
        now = time.monotonic()
        if task not in self.start_times:
            self.start_times[task] = now
            self.tasks.setdefault(f"{task}\0first", done)
            return
        first = self.tasks[f"{task}\0first"]
        elapsed = now - self.start_times[task]
        if task in self.estimated_tasks or done <= first or elapsed < 2:
            return
        self.estimated_tasks.add(task)
        remaining = elapsed / (done - first) * (total - done)
        if remaining > MIN_REMAINING_SECONDS:
            rate = (done - first) / elapsed
            click.echo(
                f"{task}: {total} in total, {rate:.1f}/s, about {remaining / 60:.0f} min left{self.hint}", err=True
            )


def _build_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
