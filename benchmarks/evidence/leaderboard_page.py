"""The leaderboard's page and record: hseval's own tables, and what every generator cost."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.evidence.leaderboard_plan import BOARDS, GENERATORS, Place
from benchmarks.ldm.bars import summary
from benchmarks.ldm.runs import command, markdown, spent
from hseval import load_report


def table(place: Place) -> str:
    """Return hseval's own table of the reports, in Markdown."""
    path = place.folder / "board.md"
    names = place.finished()
    reports = [place.report(each) for each in names]
    shown = ("--metrics", BOARDS[place.data].shown, "--format", "markdown")
    command("diff", *reports, "--names", ",".join(names), *shown, "--out", path)
    return path.read_text(encoding="utf-8").strip()


def result(place: Place) -> dict[str, Any]:
    """Return what is recorded of one data set."""
    data = BOARDS[place.data]
    reports = {each: load_report(place.report(each)).scores for each in place.finished()}
    scores = {
        each: {one.name: {**summary(one), "interval": one.interval} for one in found} for each, found in reports.items()
    }
    return {"samples": data.samples, "settings": data.settings, "cpu_seconds": seconds(place), "scores": scores}


def seconds(place: Place) -> dict[str, float]:
    """Return the CPU seconds that were spent; for ``ldm`` the demo run's (of the wall clock), where that was used."""
    found = spent(place.clock)
    demo = place.folder / "ldm-demo-seconds.json"
    return found | ({"training ldm": spent(demo)["training"]} if demo.exists() else {})


TOLD = {
    "phantom": (
        "Phantom eyes",
        "256 eyes of 64 x 64 x 16 to train on, 256 others to compare with, 128 samples. The oracle is the phantom "
        "itself, with another seed: what a perfect generator scores.",
    ),
    "indian-pines": (
        "Indian Pines",
        "The scene's columns 0 to 72 as 72 patches of 12 x 12 x 16, dealt by squares of 2 x 2 patches: 24 to train on, "
        "24 to compare with, and 24 real ones, that nobody has seen, as the oracle in place of the phantom. 24 of each "
        "are scored. Class masks are left out, as too few patches show any one class: `spectral-kl` is that of "
        "the whole picture. `ms-ssim` is left out, as so few squares give too few independent pairs. So few patches "
        "tell little, and the intervals say so.",
    ),
}
HEAD = """# Leaderboard

`make leaderboard` trains, samples and scores five generators with the same commands and writes this page
(`benchmarks/evidence/leaderboard.py`; figures in `benchmarks/results/evidence/leaderboard.json`). `oracle` is as good as a generator can
be, `pca` is the baseline, `ldm` is the bundled generator, `diffusers` and `monai` are the plugins of those names. The
networks were trained for minutes on a CPU, far from what they can do on a GPU in a day: the tables show that one
command compares them, and how far apart they are after that much training. They are no verdict on the libraries.
"""


def page(places: Mapping[str, Place], tables: Mapping[str, str]) -> str:
    """Return the page with both tables, and what was spent."""
    parts = [HEAD]
    for name, place in places.items():
        title, text = TOLD[name]
        parts += [f"## {title}\n", textwrap.fill(text, 118) + "\n"]
        if missing := [each for each in GENERATORS if each not in place.finished()]:
            parts.append(f"Not made yet: {', '.join(missing)}.\n")
        parts += [tables[name] + "\n", costs(place) + "\n"] if name in tables else []
    return "\n".join(parts)


def costs(place: Place) -> str:
    """Return a table of training and sampling times."""
    found, data = seconds(place), BOARDS[place.data]
    rows = []
    for each in place.finished():
        if each == "oracle":
            continue
        drawn = found.get(f"sampling {each}")
        given = " ".join(f"{key}={value}" for key, value in data.settings[each].items())
        cost = {"minutes": found.get(f"training {each}", 0.0) / 60, "each": drawn and drawn / data.samples}
        rows.append({"generator": each, **cost, "settings": given or "defaults"})
    columns = {"generator": ("generator", ""), "minutes": ("training, minutes", ".1f")}
    told = markdown(rows, columns | {"each": ("s a sample, start included", ".2f"), "settings": ("settings", "")})
    clock = "Minutes are of one CPU core."
    if (place.folder / "ldm-demo-seconds.json").exists():
        clock += " Those of `ldm` are of the clock, on two cores: it was trained by `make ldm-demo`."
    return f"{told}\n\n{clock}"
