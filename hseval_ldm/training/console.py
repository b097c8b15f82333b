"""Progress of a training on stderr: a bar on a terminal, else one line per interval."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click


class ProgressConsole:
    """Shows the progress of a stage; silent if ``is_visible`` is false."""

    def __init__(self, *, is_visible: bool = True) -> None:
        self.is_visible = is_visible
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> ProgressConsole:
        if self.is_visible and sys.stderr.isatty():
            self._bar = _build_progress_bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None
        self._tasks.clear()

    def print_line(self, text: str) -> None:
        """Print a permanent line."""
        if not self.is_visible:
            return
        if self._bar is None:
            click.echo(text, err=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def update(self, stage: str, step: int, steps: int) -> None:
        """Update the bar."""
        if self._bar is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=steps, figures="")
        self._bar.update(self._tasks[stage], completed=step)

    def report_metrics(self, stage: str, step: int, steps: int, message: str) -> None:
        """Show the metrics of an interval: next to the bar, or as a line."""
        if stage in self._tasks:
            self._bar.update(self._tasks[stage], figures=message)
        else:
            self.print_line(f"{stage} {step}/{steps}  {message}")


def format_metrics(terms: Mapping[str, float | None], rates: Mapping[str, float | None]) -> str:
    """Return metrics as one line: ``l1 0.123  31 cubes/s  2.1 GiB  6 min left``.

    Args:
        terms: name -> mean; None is omitted.
        rates: any of ``cubes_per_s``, ``steps_per_s``, ``memory_gib``, ``seconds_left``.
    """
    parts = [f"{name} {format_number(value)}" for name, value in terms.items() if value is not None]
    cube_rate, memory, seconds_left = (rates.get(name) for name in ("cubes_per_s", "memory_gib", "seconds_left"))
    if cube_rate is not None:
        parts.append(f"{format_number(cube_rate)} cubes/s")
    elif (steps := rates.get("steps_per_s")) is not None:
        parts.append(f"{format_number(steps)} steps/s")
    if memory:
        parts.append(f"{memory:.1f} GiB")
    if seconds_left is not None:
        parts.append(f"{_format_duration(seconds_left)} left")
    return "  ".join(parts)


def format_number(value: float) -> str:
    """Return a number with three significant digits, or as a whole number if it is large."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _build_progress_bar() -> Any:
    from rich.console import Console as Terminal
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False, style="dim"),
    )
    return Progress(*columns, console=Terminal(stderr=True), transient=True)
