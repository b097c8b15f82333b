"""The journal: one line a step, whatever cut a run off."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from hseval.utils.errors import HsevalError
from hseval_ldm.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics_log


def test_lines_are_there_at_once_and_read_back(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, "autoencoder") as journal:
        figures = {"l1": np.float32(0.5), "codes": np.int64(3), "fid": float("nan"), "note": "a\nb", "ok": True}
        journal.write(10, figures)
        lines = read_metrics_log(tmp_path / METRICS_FILE)  # before it is closed
        journal.write(20, {"l1": 0.1 + 0.2})
    assert lines == [
        {"stage": "autoencoder", "step": 10, "l1": 0.5, "codes": 3, "fid": None, "note": "a\nb", "ok": True}
    ]
    assert read_metrics_log(tmp_path / METRICS_FILE)[1]["l1"] == 0.1 + 0.2
    for line in (tmp_path / METRICS_FILE).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def test_going_on_drops_this_stages_later_lines(tmp_path: Path) -> None:
    for stage, last in (("features", 50), ("autoencoder", 40)):
        with MetricsLog(tmp_path, stage) as journal:
            for step in range(10, last, 10):
                journal.write(step, {})
    with MetricsLog(tmp_path, "autoencoder", step=20) as journal:
        journal.write(20, {"again": 1})
    found = [(line["stage"], line["step"]) for line in read_metrics_log(tmp_path / METRICS_FILE)]
    assert found == [("features", step) for step in (10, 20, 30, 40)] + [("autoencoder", 10), ("autoencoder", 20)]
    assert read_metrics_log(tmp_path / METRICS_FILE)[-1]["again"] == 1
    with MetricsLog(tmp_path, "features"):
        assert [line["stage"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == ["autoencoder"] * 2


def test_a_last_line_that_was_cut_off_is_mended_at_every_length(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, "s") as journal:
        journal.write(1, {"l1": 12})
        journal.write(2, {"l1": 34})
    whole = (tmp_path / METRICS_FILE).read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        (tmp_path / METRICS_FILE).write_bytes(whole[:length])
        assert [line["step"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == [1]
        with MetricsLog(tmp_path, "s", step=2) as journal:
            journal.write(2, {"l1": 34})
        assert (tmp_path / METRICS_FILE).read_bytes() == whole


def test_another_broken_line_is_told(tmp_path: Path) -> None:
    for broken in (b"[1]\n", b"{\n", b"\xff\n", b"\n"):
        (tmp_path / METRICS_FILE).write_bytes(b"{}\n" + broken + b"{}\n")
        with pytest.raises(HsevalError, match=r"metrics.jsonl: line 2 is no JSON object; remove that line"):
            MetricsLog(tmp_path, "s")


def test_what_cant_be_read_or_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"metrics.jsonl: can't be read: No such file"):
        read_metrics_log(tmp_path / METRICS_FILE)
    with pytest.raises(HsevalError, match=r"none/metrics.jsonl: could not be written: No such file"):
        MetricsLog(tmp_path / "none", "s")


def test_a_full_disk_is_one_line_and_the_lines_before_stay(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MetricsLog(tmp_path, "s") as journal:
        journal.write(1, {"text": "x" * 100})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
            with pytest.raises(HsevalError, match=r"metrics.jsonl: could not be written: File too large$"):
                journal.write(2, {"text": "x" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / METRICS_FILE).stat().st_size == 200  # half a line
    with MetricsLog(tmp_path, "s", step=2) as journal:
        journal.write(2, {})
    assert [line["step"] for line in read_metrics_log(tmp_path / METRICS_FILE)] == [1, 2]


def test_tensorboard_hides_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, gain in ((0, 1.0), (20, 2.0)):
        with MetricsLog(tmp_path, "diffusion", step=start, tensorboard=True) as journal:
            for step in range(max(start, 10), 40, 10):
                journal.write(step, {"v": gain * step, "note": "no number", "missing": None})
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "diffusion"))
    found.Reload()
    assert found.Tags()["scalars"] == ["diffusion/v"]
    assert [(e.step, e.value) for e in found.Scalars("diffusion/v")] == [(10, 10.0), (20, 40.0), (30, 60.0)]


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # as where it is not installed
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    with pytest.raises(HsevalError, match="tensorboard is not installed: pip install tensorboard"):
        MetricsLog(tmp_path, "s", tensorboard=True)
    assert not any(tmp_path.iterdir())
