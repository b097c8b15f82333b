"""Measurements stored one by one, so that a machine available for minutes continues where the last call stopped."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import describe_machine
from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import format_error

Result = Mapping[str, Any]


class InterruptedMeasurementError(Exception):
    """The time is up during a measurement that resumes when it is run again."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One entry of a group's file.

    Attributes:
        group: names the file.
        key: names the entry.
        seconds: rough maximum duration on the intended machine; it is not started with less time remaining.
        run: performs the measurement.
    """

    group: str
    key: str
    seconds: float
    run: Callable[[], Result]


class Store:
    """A folder per device with a JSON file per group of measurements; failed ones are repeated."""

    def __init__(self, folder: Path, device: str, *, small: bool) -> None:
        name = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-").lower()
        self.folder = folder / (f"{name}-small" if small else name)
        self.device = device

    def read_entries(self, group: str) -> dict[str, Any]:
        """Return the stored measurements of a group."""
        path = self.folder / f"{group}.json"
        if not path.exists():
            return {}
        measurements: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["measurements"]
        return measurements

    def is_finished(self, group: str, key: str) -> bool:
        """Return whether a measurement was finished."""
        entry = self.read_entries(group).get(key)
        return entry is not None and "failed" not in entry

    def save(self, group: str, key: str, result: Result) -> None:
        """Add an entry; the file is replaced atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = self.read_entries(group) | {key: to_jsonable(result)}
        text = json.dumps(
            {"device": self.device, "machine": to_jsonable(describe_machine()), "measurements": entries}, indent=1
        )
        write_text(self.folder / f"{group}.json", text + "\n")


class Budget:
    """The available time."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def get_remaining(self) -> float:
        """Return the remaining seconds."""
        return float("inf") if self._end is None else self._end - time.monotonic()


def run_measurements(measurements: Iterable[Measurement], store: Store, budget: Budget, *, small: bool) -> int:
    """Run the unfinished measurements that fit into the budget; return how many remain."""
    remaining = 0
    for measurement in measurements:
        title = f"{measurement.group} {measurement.key}"
        if store.is_finished(measurement.group, measurement.key):
            print(f"{title}: finished in an earlier run")
            continue
        seconds = budget.get_remaining()
        if seconds < (0 if small else measurement.seconds):
            print(f"{title}: postponed to the next run ({seconds:.0f} s left, needs about {measurement.seconds:.0f})")
            remaining += 1
            continue
        start = time.monotonic()
        result = _run_measurement(measurement)
        remaining += int(result is None or "failed" in result)
        if result is not None:
            store.save(measurement.group, measurement.key, {**result, "took_seconds": time.monotonic() - start})
            print(f"{title}: " + ", ".join(_format_figures(result)), flush=True)
    return remaining


def _format_figures(result: Result) -> list[str]:
    figures = {name: value for name, value in result.items() if isinstance(value, int | float | str)}
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()]


def _run_measurement(measurement: Measurement) -> Result | None:
    try:
        return measurement.run()
    except InterruptedMeasurementError as interruption:
        print(f"{measurement.group} {measurement.key}: {interruption}; run again to resume", flush=True)
        return None
    except Exception as error:  # noqa: BLE001 - the other measurements continue
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {format_error(error)}"}
