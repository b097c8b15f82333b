"""The metrics log: one line per step, however a run was interrupted."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from hseval.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics_log
from hseval.utils.errors import HsevalError


def test_lines_are_written_immediately_and_read_back(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, "autoencoder") as log:
        metrics = {"l1": np.float32(0.5), "codes": np.int64(3), "fid": float("nan"), "note": "a\nb", "ok": True}
        log.write(10, metrics)
        lines = read_metrics_log(tmp_path / METRICS_FILE)  # before it is closed
        log.write(20, {"l1": 0.1 + 0.2})
    assert lines == [
        {"stage": "autoencoder", "step": 10, "l1": 0.5, "codes": 3, "fid": None, "note": "a\nb", "ok": True}
    ]
    assert read_metrics_log(tmp_path / METRICS_FILE)[1]["l1"] == 0.1 + 0.2
    for line in (tmp_path / METRICS_FILE).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are not valid JSON


def test_resuming_drops_the_later_lines_of_the_stage(tmp_path: Path) -> None:
    for stage, last in (("features", 50), ("autoencoder", 40)):
        with MetricsLog(tmp_path, stage) as log:
            for step in range(10, last, 10):
                log.write(step, {})
    with MetricsLog(tmp_path, "autoencoder", step=20) as log:
        log.write(20, {"again": 1})
    lines = [(line["stage"], line["step"]) for line in read_metrics_log(tmp_path / METRICS_FILE)]
    assert lines == [("features", step) for step in (10, 20, 30, 40)] + [("autoencoder", 10), ("autoencoder", 20)]
    assert read_metrics_log(tmp_path / METRICS_FILE)[-1]["again"] == 1
    with MetricsLog(tmp_path, "features"):
        assert [line["stage"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == ["autoencoder"] * 2


def test_a_last_line_truncated_at_any_length_is_repaired(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, "s") as log:
        log.write(1, {"l1": 12})
        log.write(2, {"l1": 34})
    whole = (tmp_path / METRICS_FILE).read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        (tmp_path / METRICS_FILE).write_bytes(whole[:length])
        assert [line["step"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == [1]
        with MetricsLog(tmp_path, "s", step=2) as log:
            log.write(2, {"l1": 34})
        assert (tmp_path / METRICS_FILE).read_bytes() == whole


def test_another_damaged_line_is_refused(tmp_path: Path) -> None:
    for broken in (b"[1]\n", b"{\n", b"\xff\n", b"\n"):
        (tmp_path / METRICS_FILE).write_bytes(b"{}\n" + broken + b"{}\n")
        with pytest.raises(HsevalError, match=r"metrics.jsonl: line 2 is not a JSON object; remove that line"):
            MetricsLog(tmp_path, "s")


def test_an_unreadable_or_unwritable_log_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"metrics.jsonl: can't be read: No such file"):
        read_metrics_log(tmp_path / METRICS_FILE)
    with pytest.raises(HsevalError, match=r"none/metrics.jsonl: could not be written: No such file"):
        MetricsLog(tmp_path / "none", "s")


def test_a_full_disk_is_a_one_line_error_and_earlier_lines_are_preserved(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsLog(tmp_path, "s") as log:
        log.write(1, {"text": "x" * 100})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
            with pytest.raises(HsevalError, match=r"metrics.jsonl: could not be written: File too large$"):
                log.write(2, {"text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / METRICS_FILE).stat().st_size == 200  # half a line
    with MetricsLog(tmp_path, "s", step=2) as log:
        log.write(2, {})
    assert [line["step"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == [1, 2]


def test_tensorboard_hides_the_steps_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, gain in ((0, 1.0), (20, 2.0)):
        with MetricsLog(tmp_path, "diffusion", step=start, tensorboard=True) as log:
            for step in range(max(start, 10), 40, 10):
                log.write(step, {"v": gain * step, "note": "no number", "missing": None})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "diffusion"))
    events.Reload()
    assert events.Tags()["scalars"] == ["diffusion/v"]
    assert [(e.step, e.value) for e in events.Scalars("diffusion/v")] == [(10, 10.0), (20, 40.0), (30, 60.0)]


def test_without_tensorboard_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # as if it were not installed
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    with pytest.raises(HsevalError, match="tensorboard is not installed; pip install tensorboard"):
        MetricsLog(tmp_path, "s", tensorboard=True)
    assert not any(tmp_path.iterdir())
