"""The metrics of a run: one JSON object per line in ``metrics.jsonl``, and optionally TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.structured_files import check_depth

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """The lines of one stage in a run's metrics log.

    Opening it at step k removes a truncated last line, and this stage's lines of steps k and later, which the stage
    will write again: there is one line per step however often a run is interrupted.

    With ``tensorboard``, ``RUN/tensorboard/STAGE`` is written as well.

    Raises:
        HsevalError: the log can't be read or written, or ``tensorboard`` is set but not installed.
    """

    def __init__(self, run: Path, stage: str, *, step: int = 0, tensorboard: bool = False) -> None:
        self.path, self.stage = run / METRICS_FILE, stage
        self._tensorboard = _open_tensorboard(run / "tensorboard" / stage, step) if tensorboard else None
        self._drop_lines_from(step)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise HsevalError(f"{self.path}: could not be written: {error.strerror}") from error

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if self._tensorboard is not None:
            self._tensorboard.close()

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append the line of a step immediately; numbers that are not finite become null.

        Raises:
            HsevalError: the disk is full.
        """
        line = {"stage": self.stage, "step": step} | {name: to_json_value(value) for name, value in metrics.items()}
        text = json.dumps(line, allow_nan=False) + "\n"
        try:
            _append(self._file, text.encode())
            self._log_to_tensorboard(step, line)
        except OSError as error:
            raise HsevalError(f"{self.path}: could not be written: {error.strerror or error}") from error

    def _log_to_tensorboard(self, step: int, line: Mapping[str, Any]) -> None:
        if self._tensorboard is None:
            return
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                self._tensorboard.add_scalar(f"{self.stage}/{name}", value, step)
        self._tensorboard.flush()

    def _drop_lines_from(self, step: int) -> None:
        if not self.path.exists():
            return
        lines = read_metrics_log(self.path)
        retained = [line for line in lines if line.get("stage") != self.stage or _get_step(line) < step]
        text = "".join(json.dumps(line) + "\n" for line in retained)
        if text.encode() != self.path.read_bytes():
            write_text(self.path, text)


def read_metrics_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics log, except a truncated last one.

    Raises:
        HsevalError: it can't be read, or another line is not a JSON object.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise HsevalError(f"{path}: can't be read: {error.strerror}") from error
    lines = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            record = json.loads(line)
            check_depth(record)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise HsevalError(f"{path}: line {number} is not a JSON object; remove that line, or move the file away")
        lines.append(record)
    return lines


def _get_step(line: Mapping[str, Any]) -> int:
    step = line.get("step")
    return step if isinstance(step, int) else 0


def to_json_value(value: Any) -> Any:
    """Return a number, also one of numpy, as JSON stores it: None if it is not finite."""
    if isinstance(value, numbers.Integral):
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    return value


def _append(file: int, payload: bytes) -> None:
    """Write the payload, usually in one call; a line truncated by a full disk is removed on reopening."""
    while payload:
        payload = payload[os.write(file, payload) :]


def _open_tensorboard(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        raise HsevalError("tensorboard=true: the package tensorboard is not installed; pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    # A run resumed from a step hides the earlier values of later steps.
    return SummaryWriter(log_dir=str(folder), purge_step=step)
