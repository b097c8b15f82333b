"""What leaves the program: no control characters from files, no tracebacks where an output is closed or full."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hseval.core.cubes import ArraySet
from hseval.core.report_file import load_report
from hseval.data.writer import write_set
from hseval.qualification.plots import save_plots
from hseval.qualification.report import load_qualify
from hseval.sweep.pareto.plot import plot_pareto, save_figure
from hseval.sweep.results import load_results
from hseval.utils.text import escape_label, escape_unprintable, map_text, shorten_text
from tests.helpers.commands import Outcome, assert_refused, limit_file_size, run_hseval_process, run_on_terminal
from tests.helpers.damaged_files import make_qualify_report, make_sweep_record
from tests.helpers.sets import make_texture_set

PLANTED = "\x1b]0;pwned\x07\x1b[2J\u202e$\\frac"
FILE_NAME = "a\x1b[31m\u202e\udcff\n"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]|\x1b\\]|\x1b\\[2J")
HSEVAL = (sys.executable, "-m", "hseval")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a set, a report, results of qualify and sweep, and TOML files with control characters in all their text."""
    folder = tmp_path_factory.mktemp("planted") / os.fsdecode(FILE_NAME)
    folder.mkdir()
    paths = {name: folder / f"{name}.h5" for name in ("samples", "real")}
    for seed, path in enumerate(paths.values()):
        base: ArraySet = make_texture_set(6, size=16, bands=3, seed=seed)
        write_set(
            path, base.cubes, wavelengths=base.wavelengths, units=f"u{PLANTED}",
            masks={"fov": base.masks["fov"], f"vein{PLANTED}": base.masks["bright"]},
            ids=[f"{i}{PLANTED}" for i in range(6)], groups=[f"g{i}{PLANTED}" for i in range(6)],
            labels={f"l{PLANTED}": [PLANTED] * 6}, provenance={f"k{PLANTED}": PLANTED},
        )  # fmt: skip
    paths["report"] = folder / "r.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(folder / "cache"))
        arguments = ("--metrics", "fid,spectral-kl", "--json", paths["report"], "--html", folder / "page.html", "-q")
        done = run_hseval_process("score", paths["samples"], "--ref", paths["real"], "--segmenter", "none", *arguments)
    assert done.returncode == 0, done.stderr  # the page is drawn, where a chart aborted the process
    report = load_report(paths["report"])
    dataclasses.replace(report, notes=(PLANTED,), differences=(PLANTED,)).save(paths["report"])
    qualify = json.loads(make_qualify_report(report).to_json())
    texts = {
        "qualify": json.dumps(plant(qualify, ("label", "unit", "name", "metric", "degradation", "notes"))),
        "results": json.dumps(plant(make_sweep_record(report), ("label", "error", "table_label", "title"))),
        "plan": f"name = {json.dumps(PLANTED)}\nunknown = 1\n",
        "config": f"[{json.dumps(PLANTED)}]\nx = {json.dumps(PLANTED)}\n",
    }  # fmt: skip
    for name, text in texts.items():
        paths[name] = folder / f"{name}.{'toml' if name in ('plan', 'config') else 'json'}"
        paths[name].write_text(text)
    return paths


def plant(value: object, keys: tuple[str, ...], key: str = "") -> object:
    """Return a record with the control characters added to the text of some of its fields."""
    if isinstance(value, dict):
        return {name: plant(item, keys, name) for name, item in value.items()}
    if isinstance(value, list):
        return [plant(item, keys, key) for item in value]
    return value + PLANTED if isinstance(value, str) and key in keys else value


COMMANDS = (
    "info {samples}", "show {report}", "show {report} --details", "diff {report} {report}x",
    "diff {report} {results}", "qualify --load {qualify}", "qualify --load {report}", "pareto {results}", "cache info",
    "sweep {plan}", "score {samples} --ref {real} --config {config}", "preview {samples} --out {samples}.png",
    "preview {samples} --out {samples}.png --ids {report}", "plugins {report}", "sample phantom -n 1 --out {samples}",
    "sample phantom -n 1 --out {real}.new.h5 --set size=16", "score {samples}nowhere --ref {real}",
    "train pca {samples} --out {samples}.run",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_control_characters(
    command: str, files: dict[str, Path], hseval: Callable[..., Outcome]
) -> None:
    outcome = hseval(*(word.format(**files) for word in command.split()))
    printed = outcome.out + outcome.err
    assert printed
    assert "Traceback" not in printed
    assert not FORBIDDEN.search(printed), ascii(FORBIDDEN.search(printed))


@pytest.mark.parametrize("command", ["show {report} --details", "info {samples} -q", "qualify --load {qualify}"])
def test_on_a_terminal_only_colors_are_printed(command: str, files: dict[str, Path]) -> None:
    words = [word.format(**files) for word in command.split()]
    outcome = run_on_terminal([*HSEVAL, *words])
    text = re.sub("\x1b\\[[0-9;]*m", "", outcome.out)
    assert outcome.status == 0
    assert not FORBIDDEN.search(text)
    assert "\\x1b" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_shows_escapes(files: dict[str, Path], encoding: str) -> None:
    environment = {**os.environ, "LANG": "C", "PYTHONIOENCODING": encoding}
    done = run_hseval_process("info", files["samples"], env=environment, encoding=encoding)
    assert done.returncode == 0
    assert "\\udcff" in done.stdout
    done = run_hseval_process("show", f"{files['report']}\u00e9\u4e2d", env=environment, encoding=encoding)
    assert done.returncode == 2
    assert "\\u4e2d: can't be read" in done.stderr


def test_plots_show_control_characters_escaped_and_no_formula(files: dict[str, Path], tmp_path: Path) -> None:
    save_plots(load_qualify(files["qualify"]), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) > 1
    results = load_results(files["results"])
    plot = dataclasses.replace(results.plot, title=PLANTED)
    save_figure(plot_pareto(results, plot), tmp_path / "p.svg")
    svg = (tmp_path / "p.svg").read_text()
    assert not FORBIDDEN.search(svg)
    assert r"\x1b" in svg


def test_text_is_escaped_shortened_and_walked() -> None:
    assert escape_unprintable("a\x1b\n\u202e\udcff\u200b\xa0é中") == "a\\x1b\\n\\u202e\\udcff\\u200b\xa0é中"
    assert escape_unprintable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
    assert shorten_text("x" * 10**6, 5) == "xxxxx ... (1000000 characters)"
    assert escape_label("$x$") == r"\$x\$"
    record = {"a": ["b", ("c", 1)], "d": Path("e")}
    assert map_text(record, str.upper) == {"A": ["B", ("C", 1)], "D": Path("e")}


# Streams that are closed or full.

SHELL_COMMANDS = (
    "--help", "plugins", "plugins --json", "info {samples}", "show {report}", "qualify --load {qualify}",
    "qualify --load {qualify} --json -", "pareto {results} --json", "cache info", "diff {report}",
)  # fmt: skip


def run_in_shell(command: str, files: dict[str, Path], redirection: str) -> subprocess.CompletedProcess[str]:
    arguments = {f"HSEVAL_{name}": str(path) for name, path in files.items()}
    words = " ".join(re.sub(r"\{(\w+)\}", r'"$HSEVAL_\1"', word) for word in command.split())
    script = f"set -o pipefail; '{sys.executable}' -m hseval {words} {redirection}"
    return subprocess.run(
        ["bash", "-c", script], env={**os.environ, **arguments}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("redirection", "statuses", "message"),
    [
        ("| head -0", {0, 1, 2}, ""),
        (">&-", {0, 1, 2}, ""),
        (">/dev/full", {2}, "hseval: "),
        (">&- 2>&- <&-", {0, 2}, ""),
    ],
)
def test_a_closed_or_full_stdout_gives_no_traceback(
    files: dict[str, Path], redirection: str, statuses: set[int], message: str
) -> None:
    for command in SHELL_COMMANDS[::3] if redirection != "| head -0" else SHELL_COMMANDS[1::3]:
        done = run_in_shell(command, files, redirection)
        assert done.returncode in statuses, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert message in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_closed_or_full_stderr_stops_no_work(files: dict[str, Path], redirection: str) -> None:
    assert run_in_shell("info {samples}", files, redirection).returncode == 0
    assert run_in_shell("info {samples}x", files, redirection).returncode == 2


def test_a_page_that_fails_costs_neither_the_json_nor_the_table(
    files: dict[str, Path], hseval: Callable[..., Outcome], tmp_path: Path
) -> None:
    sets = ("score", files["samples"], "--ref", files["real"], "--segmenter", "none", "--metrics", "spectral-kl")
    with limit_file_size(100_000):  # a page has 0.9 MB of scripts
        done = hseval(*sets, "--json", tmp_path / "r.json", "--html", tmp_path / "page.html")
    assert_refused(done, "page.html", "could not be written")
    assert "spectral-kl" in done.out
    assert load_report(tmp_path / "r.json").scores
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    "options",
    [("score", "s", "--ref", "r", "-q"), ("score", "s", "--ref", "r", "--json", "-"), ("show", "r", "--html", "p")],
)
def test_details_without_a_table_are_refused(hseval: Callable[..., Outcome], options: tuple[str, ...]) -> None:
    assert_refused(hseval(*options, "--details"), "--details has no effect with")


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_during_the_imports_gives_one_line(number: signal.Signals) -> None:
    for delay in (0.15, 0.2, 0.25, 0.3, 0.4, 0.5):  # s; before, it is Python itself that starts
        with subprocess.Popen([*HSEVAL, "show", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            time.sleep(delay)
            process.send_signal(number)
            printed = process.communicate(timeout=30)[1].decode()
        if process.returncode in (-number, 2) and "interrupted" not in printed:
            continue  # before Python takes signals, or after all is done
        assert process.returncode in (130, -signal.SIGINT)  # Python ends so itself where eval was interrupted
        assert printed.strip().startswith("hseval: interrupted")
        assert len(printed.strip().splitlines()) == 1
