"""Progress on stderr: a bar with rate and time left on a terminal, one estimate line before long work elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

MIN_REMAINING_SECONDS = 60.0


class ProgressReporter:
    """Shows how far each piece of work is; silent where nobody asked."""

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
        """Take the news that ``done`` of ``total`` are finished."""
        if not self.enabled:
            return
        self._print_estimate(task, done, total)
        if self.bar is not None:
            if task not in self.tasks:
                self.tasks[task] = self.bar.add_task(task, total=total)
            self.bar.update(self.tasks[task], completed=done, total=total)

    def _print_estimate(self, task: str, done: int, total: int) -> None:
        """Say once, when the first part is done, how long the rest will take if that is long."""
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
        left = elapsed / (done - first) * (total - done)
        if left > MIN_REMAINING_SECONDS:
            rate = (done - first) / elapsed
            click.echo(f"{task}: {total} in all, {rate:.1f}/s, about {left / 60:.0f} min left{self.hint}", err=True)


def _build_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True), transient=True)
