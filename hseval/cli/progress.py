"""Progress on stderr: a bar with rate and time left on a terminal, one estimate line before long work elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

LONG_SECONDS = 60.0


class Progress:
    """Shows how far each piece of work is; silent where nobody asked."""

    def __init__(self, *, shown: bool = True, hint: str = "") -> None:
        self.shown, self.hint = shown, hint
        self.bar: Any = None
        self.tasks: dict[str, Any] = {}
        self.started: dict[str, float] = {}
        self.estimated: set[str] = set()

    def __enter__(self) -> Progress:
        if self.shown and sys.stderr.isatty():
            self.bar = _bar()
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def told(self, what: str, done: int, total: int) -> None:
        """Take the news that ``done`` of ``total`` are finished."""
        if not self.shown:
            return
        self._estimate(what, done, total)
        if self.bar is not None:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            self.bar.update(self.tasks[what], completed=done, total=total)

    def _estimate(self, what: str, done: int, total: int) -> None:
        """Say once, when the first part is done, how long the rest will take if that is long."""
        now = time.monotonic()
        if what not in self.started:
            self.started[what] = now
            self.tasks.setdefault(f"{what}\0first", done)
            return
        first = self.tasks[f"{what}\0first"]
        elapsed = now - self.started[what]
        if what in self.estimated or done <= first or elapsed < 2:
            return
        self.estimated.add(what)
        left = elapsed / (done - first) * (total - done)
        if left > LONG_SECONDS:
            rate = (done - first) / elapsed
            click.echo(f"{what}: {total} in all, {rate:.1f}/s, about {left / 60:.0f} min left{self.hint}", err=True)


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    return Bars(*columns, console=Console(stderr=True), transient=True)
