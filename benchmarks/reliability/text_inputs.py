"""Damaged JSON, TOML and wavelength files, and the numbers that an independent parser reads from them."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reliability.attempts import Attempt, assess, run_in_process
from tests.helpers.commands import Outcome
from tests.helpers.damaged_files import COMMANDS, write_valid_files
from tests.helpers.mutations import Rng, mutate_bytes, mutate_json, mutate_toml
from tests.helpers.sets import make_texture_set, save_set

__all__ = ["COMMANDS", "attempt", "attempt_wavelengths", "make_wavelengths", "write_valid_files"]

WAVELENGTHS = "# nm\n450, 601.6667\n753.3333;\t905 # the last\n"
WORDS = (
    "nan",
    "inf",
    "-1",
    "1e400",
    "1e-320",
    "0x1F",
    "1_0",
    "٤٥٠",
    "450nm",
    "\x1b[31m",
    "#",
    "9" * 400,
    "450:905:4",
    "½",
)
TOLERANCE = 6e-4  # relative: numbers are shown with four digits


def attempt(kind: str, paths: Mapping[str, Path], folder: Path, rng: Rng) -> Attempt:
    """Damage a JSON or TOML file, and run one of the commands that read it."""
    leave_out_charts()
    text = paths[kind].read_text()
    bad = paths[kind].with_name(f"bad-{kind}{paths[kind].suffix}")
    bad.write_bytes(mutate_toml(text, rng) if bad.suffix == ".toml" else mutate_json(json.loads(text), rng))
    template = COMMANDS[kind][int(rng.integers(len(COMMANDS[kind])))]
    command = [word.format(**{**paths, "bad": bad, "out": folder / "out"}) for word in template.split()]
    outcome = run_in_process(*command)
    is_read = outcome.status != 2 or "nowhere.h5: no such file" in outcome.err  # a preset without a set
    wrong = _find_wrong_number(kind, bad, command, outcome, folder) if is_read else ""
    page = folder / "out.html"
    if page.exists() and "<script>alert" in page.read_text(encoding="utf-8").split("</main>")[0]:
        wrong += " a script in the page"
    # Status 1 of qualify: it has no value of a metric.
    attempt = assess(" ".join(command), [outcome], folder, wrong, status_1=command[0] == "qualify")
    return dataclasses.replace(attempt, result="read") if is_read and attempt.result == "refused" else attempt


def _find_wrong_number(kind: str, bad: Path, command: list[str], outcome: Outcome, folder: Path) -> str:
    """Return how what was read differs from what another parser reads in the file."""
    if kind == "config":
        expected = tomllib.loads(bad.read_text(encoding="utf-8-sig"))
        metrics = json.loads((folder / "out.json").read_text())["provenance"]["metrics"] if "score" in command else {}
        given = {name: expected[name] for name in metrics if name in expected}
        read = {name: {key: metrics[name]["options"].get(key) for key in given[name]} for name in given}
        return "" if read == given else f"options {read}, the file has {given};"
    if kind == "report" and command[0] == "show" and "--details" in command:
        scores = json.loads(bad.read_text(encoding="utf-8-sig"))["scores"]
        shown = dict(_iterate_shown_values(outcome.out))
        differing = {
            score["name"]: (shown[score["name"]], score["value"])
            for score in scores
            if score["name"] in shown
            and abs(shown[score["name"]] - (score["value"] or 0)) > TOLERANCE * abs(score["value"] or 0)
        }
        return f"shown and stored values {differing};" if differing else ""
    if kind == "plan":
        return _find_wrong_plan(bad)
    if kind == "preset":
        return _find_wrong_preset(bad)
    return ""


def _iterate_shown_values(text: str) -> Iterator[tuple[str, float]]:
    """Yield names and values in the table of ``hseval show --details`` whose second column is ``value``."""
    is_table = False
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["score", "value"]:
            is_table = True
        elif not words:
            is_table = False
        elif is_table and len(words) > 1 and re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", words[1]):
            yield words[0], float(words[1])


def _find_wrong_plan(bad: Path) -> str:
    from hseval.sweep.config import read_plan

    plan, file = read_plan(bad), tomllib.loads(bad.read_text(encoding="utf-8-sig"))
    score, timing = file.get("score", {}), file.get("timing", {})
    pairs = (
        (plan.sample_count, file.get("samples", 256)), (plan.seed, file.get("seed", 0)),
        (plan.scoring.seed, score.get("seed", 0)), (plan.timing.cubes, timing.get("cubes", plan.timing.cubes)),
        (list(plan.scoring.metrics), score.get("metrics", list(plan.scoring.metrics))),
        (plan.scoring.options, score.get("options", {})),
    )  # fmt: skip
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return f"plan and file {differing};" if differing else ""


def _find_wrong_preset(bad: Path) -> str:
    from hseval_ldm.options import load_preset

    read, file = load_preset(str(bad)), tomllib.loads(bad.read_text(encoding="utf-8-sig"))
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in read.items()}
    return "" if values == file else f"options {values}, the file has {file};"


def make_wavelengths(folder: Path) -> Path:
    """Write a set of four bands without wavelengths, and return its path."""
    return save_set(folder / "set.h5", make_texture_set(3, size=8, bands=4), wavelengths=None)


def attempt_wavelengths(path: Path, folder: Path, rng: Rng) -> Attempt:
    """Damage a file of wavelengths, and read a set with it."""
    file = path.with_name("bad-wavelengths.txt")
    words = re.split(r"(\s+)", WAVELENGTHS)
    for _ in range(rng.integers(0, 3)):
        words[int(rng.integers(len(words)))] = str(rng.choice(WORDS))
    data = "".join(words).encode()
    file.write_bytes(mutate_bytes(data, rng) if rng.random() < 0.6 else data)
    command = ["info", str(path), "--wavelengths", str(file), "--json", "-q"]
    outcome = run_in_process(*command)
    wrong = ""
    if outcome.status == 0:
        read = json.loads(outcome.out)["wavelengths"]
        expected = sorted(_parse_wavelengths(file.read_text(encoding="utf-8-sig")))
        wrong = "" if read == expected else f"wavelengths {read}, the file has {expected};"
    return assess(" ".join(command), [outcome], folder, wrong)


def _parse_wavelengths(text: str) -> list[float]:
    lines = [line.partition("#")[0] for line in text.splitlines()]
    return [float(word) for line in lines for word in re.split(r"[\s,;]+", line) if word]


def leave_out_charts(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Leave out what is slow, and needs more address space than a child may take: the charts of a page."""
    from hseval.renderers.html import charts

    replace(charts, "_finish_chart", lambda *_: charts.Chart({}, "<svg></svg>"))
