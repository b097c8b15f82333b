"""Progress: a bar on a terminal, else the estimate of a long task and messages; silent if disabled."""

from __future__ import annotations

import sys
import time

import pytest

from hseval.utils.progress import ProgressReporter, format_metrics, silence_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A list whose only element is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def report_task(clock: list[float], progress: ProgressReporter, *, seconds_per_item: float, message: str = "") -> None:
    for done in range(1, 6):
        progress.update("extracting", done, 100, message)
        clock[0] += seconds_per_item


def test_a_long_task_gets_one_line_with_an_estimate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(hint="; --quick scores 64") as progress:
        report_task(clock, progress, seconds_per_item=2)
    line = "extracting: 100 in total, 0.5/s, about 3 min left; --quick scores 64\n"
    assert capsys.readouterr().err == line


def test_a_short_task_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter() as progress:
        report_task(clock, progress, seconds_per_item=0.5)
    assert capsys.readouterr().err == ""


def test_messages_are_lines_and_need_no_estimate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter() as progress:
        progress.update("autoencoder", 10, 40, "l1 0.5")
        clock[0] += 60
        progress.update("autoencoder", 11, 40)
        progress.print_line("autoencoder 20/40  held out: psnr 31")
    assert capsys.readouterr().err == "autoencoder 10/40  l1 0.5\nautoencoder 20/40  held out: psnr 31\n"


def test_a_disabled_reporter_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(enabled=False) as progress:
        report_task(clock, progress, seconds_per_item=60)
        report_task(clock, progress, seconds_per_item=60, message="loss 1")
        progress.print_line("done")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_message_stands_beside_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressReporter() as progress:
        progress.update("autoencoder", 10, 40, "l1 0.5  3 [GiB]")
        progress.update("autoencoder", 11, 40)
        progress.print_line("a permanent line [not markup]")
    shown = capsys.readouterr().err
    assert "a permanent line [not markup]" in shown
    assert "11/40" in shown and "l1 0.5  3 [GiB]" in shown


def test_metrics_are_formatted_as_one_line() -> None:
    rates = {"cubes_per_s": 31.04, "steps_per_s": 2.0, "memory_gib": 2.13, "seconds_left": 359.0}
    assert format_metrics({"l1": 0.12345, "none": None, "codes": 612.0}, rates) == (
        "l1 0.123  codes 612  31 cubes/s  2.1 GiB  6 min left"
    )
    assert format_metrics({"n": 12345.6}, {"seconds_left": 7200.0, "cubes_per_s": None}) == "n 12346  2.0 h left"
    assert format_metrics({}, {"seconds_left": 12.4}) == "12 s left"


def test_silenced_reporters_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with silence_progress(), ProgressReporter() as progress:
        progress.update("fitting", 1, 2, "loss 1")
        progress.print_line("a line")
    assert capsys.readouterr().err == ""
    ProgressReporter().print_line("a line")
    assert capsys.readouterr().err == "a line\n"
