"""The leaderboard's page and record: hseval's own tables, and the cost of each generator."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, BoardFiles
from benchmarks.ldm.bars import summarize_score
from benchmarks.ldm.runs import format_markdown, read_seconds, run_command
from hseval import load_report


def make_table(files: BoardFiles) -> str:
    """Return hseval's own table of the reports, in Markdown."""
    path = files.folder / "board.md"
    names = files.list_finished()
    reports = [files.get_report_path(name) for name in names]
    options = ("--metrics", BOARDS[files.data].visible_metrics, "--format", "markdown")
    run_command("diff", *reports, "--names", ",".join(names), *options, "--out", path)
    return path.read_text(encoding="utf-8").strip()


def build_record(files: BoardFiles) -> dict[str, Any]:
    """Return the record of one data set."""
    data = BOARDS[files.data]
    reports = {name: load_report(files.get_report_path(name)).scores for name in files.list_finished()}
    scores = {
        name: {score.name: {**summarize_score(score), "interval": score.interval} for score in report}
        for name, report in reports.items()
    }
    return {
        "samples": data.samples,
        "settings": data.settings,
        "cpu_seconds": read_cpu_seconds(files),
        "scores": scores,
    }


def read_cpu_seconds(files: BoardFiles) -> dict[str, float]:
    """Return the CPU seconds by step; for ``ldm`` the wall-clock seconds of the demo run, if that was used."""
    seconds = read_seconds(files.clock)
    demo = files.folder / "ldm-demo-seconds.json"
    return seconds | ({"training ldm": read_seconds(demo)["training"]} if demo.exists() else {})


INTRODUCTIONS = {
    "phantom": (
        "Phantom eyes",
        "256 eyes of 64 x 64 x 16 for training, 256 others as reference, 128 samples. The oracle is the phantom "
        "itself, with another seed: the scores of a perfect generator.",
    ),
    "indian-pines": (
        "Indian Pines",
        "The scene's columns 0 to 72 as 72 patches of 12 x 12 x 16, assigned by squares of 2 x 2 patches: 24 for "
        "training, 24 as reference, and 24 independent real ones as the oracle. 24 samples of each generator are "
        "scored. Class masks are omitted, as too few patches contain any one class: `spectral-kl` is that of the whole "
        "image. `ms-ssim` is omitted, as so few squares give too few independent pairs. The intervals are wide, as "
        "there are few patches.",
    ),
}
HEAD = """# Leaderboard

`make leaderboard` trains, samples and scores five generators with the same commands and writes this page
(`benchmarks/evidence/leaderboard.py`; figures in `benchmarks/results/evidence/leaderboard.json`). `oracle` is as good
as a generator can be, `pca` is the baseline, `ldm` is the bundled generator, `diffusers` and `monai` are the plugins of
those names. The networks were trained for minutes on a CPU, which is far less than a day on a GPU: the tables compare
them after that much training and are no ranking of the libraries.
"""


def format_page(boards: Mapping[str, BoardFiles], tables: Mapping[str, str]) -> str:
    """Return the page with the tables and costs of all data sets."""
    parts = [HEAD]
    for name, files in boards.items():
        title, text = INTRODUCTIONS[name]
        parts += [f"## {title}\n", textwrap.fill(text, 118) + "\n"]
        if missing := [generator for generator in GENERATORS if generator not in files.list_finished()]:
            parts.append(f"Not finished: {', '.join(missing)}.\n")
        parts += [tables[name] + "\n", format_costs(files) + "\n"] if name in tables else []
    return "\n".join(parts)


def format_costs(files: BoardFiles) -> str:
    """Return a table of training and sampling times."""
    seconds, data = read_cpu_seconds(files), BOARDS[files.data]
    rows = []
    for generator in files.list_finished():
        if generator == "oracle":
            continue
        sampling = seconds.get(f"sampling {generator}")
        settings = " ".join(f"{key}={value}" for key, value in data.settings[generator].items())
        row = {
            "minutes": seconds.get(f"training {generator}", 0.0) / 60,
            "sample": sampling and sampling / data.samples,
        }
        rows.append({"generator": generator, **row, "settings": settings or "defaults"})
    columns = {"generator": ("generator", ""), "minutes": ("training, minutes", ".1f")}
    columns |= {"sample": ("s per sample, including start-up", ".2f"), "settings": ("settings", "")}
    clock = "Minutes are CPU time of one core."
    if (files.folder / "ldm-demo-seconds.json").exists():
        clock += " Those of `ldm` are wall-clock time on two cores: it was trained by `make ldm-demo`."
    return f"{format_markdown(rows, columns)}\n\n{clock}"
