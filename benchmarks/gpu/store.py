"""Measurements that are kept one by one, so that a machine had for minutes takes up where the last one was left."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import describe
from hseval.core.report import to_jsonable
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import format_error

Result = Mapping[str, Any]


class NotFinishedError(Exception):
    """The time is up in the middle of a measurement that goes on when it is run again."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One entry of a group's file.

    Attributes:
        group: names the file.
        key: names the entry.
        seconds: what it takes at most, roughly, on the machine it is meant for; it is not begun with less time left.
        run: measures.
    """

    group: str
    key: str
    seconds: float
    run: Callable[[], Result]


class Store:
    """A folder per device with a JSON file per group of measurements; one that failed is measured again."""

    def __init__(self, folder: Path, device: str, *, small: bool) -> None:
        name = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-").lower()
        self.folder = folder / (f"{name}-small" if small else name)
        self.device = device

    def entries(self, group: str) -> dict[str, Any]:
        """Return what is kept of a group."""
        path = self.folder / f"{group}.json"
        if not path.exists():
            return {}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["measurements"]
        return found

    def has(self, group: str, key: str) -> bool:
        """Tell whether a measurement was finished."""
        entry = self.entries(group).get(key)
        return entry is not None and "failed" not in entry

    def keep(self, group: str, key: str, result: Result) -> None:
        """Add an entry; the file is replaced whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = self.entries(group) | {key: to_jsonable(result)}
        text = json.dumps(
            {"device": self.device, "machine": to_jsonable(describe()), "measurements": entries}, indent=1
        )
        write_text(self.folder / f"{group}.json", text + "\n")


class Budget:
    """The minutes that there are."""

    def __init__(self, minutes: float | None) -> None:
        self._until = None if minutes is None else time.monotonic() + 60 * minutes

    def left(self) -> float:
        """Return the seconds left."""
        return float("inf") if self._until is None else self._until - time.monotonic()


def take(measurements: Iterable[Measurement], store: Store, budget: Budget, *, small: bool) -> int:
    """Do what is not done yet and what there is time for; return how many are left."""
    left = 0
    for one in measurements:
        title = f"{one.group} {one.key}"
        if store.has(one.group, one.key):
            print(f"{title}: kept from before")
            continue
        if budget.left() < (0 if small else one.seconds):
            print(f"{title}: left for the next run ({budget.left():.0f} s of about {one.seconds:.0f})")
            left += 1
            continue
        start = time.monotonic()
        result = _result(one)
        left += int(result is None or "failed" in result)
        if result is not None:
            store.keep(one.group, one.key, {**result, "took_seconds": time.monotonic() - start})
            print(f"{title}: " + ", ".join(_in_words(result)), flush=True)
    return left


def _in_words(result: Result) -> list[str]:
    told = {name: value for name, value in result.items() if isinstance(value, int | float | str)}
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()]


def _result(one: Measurement) -> Result | None:
    try:
        return one.run()
    except NotFinishedError as unfinished:
        print(f"{one.group} {one.key}: {unfinished}; run again to go on", flush=True)
        return None
    except Exception as error:  # noqa: BLE001 - an hour of other measurements does not end with this one
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {format_error(error)}"}
