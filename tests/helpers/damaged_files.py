"""Valid files of every kind that commands read, and commands that read a damaged copy of one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hseval
from hseval.core.report import Score, to_jsonable
from hseval.qualification.report import Curve, DegradationRow, MetricColumn, QualifyReport, SeverityPoint
from hseval.sweep.plan import PlotConfig
from hseval.sweep.results import RunResult, SweepResults, Timing
from tests.helpers.full_report import FULL
from tests.helpers.sets import make_texture_set, save_set

CONFIG = """
[fid]
extractor = "statistics"
[spectral-kl]
bins = 32
"""
PLAN = """
name = "small"
samples = 8
seed = 1
device = "cpu"
[data]
train = "train.h5"
ref = "real.h5"
[score]
metrics = ["fid", "spectral-kl"]
seed = 2
extractor = "statistics"
segmenter = "none"
[score.by_structure]
spectral-kl = ["bright"]
[score.options]
spectral-kl = { bins = 16 }
[timing]
cubes = 2
repeats = 1
warmup = 0
[plot]
x = "samples/s"
y = ["fid", "spectral-kl:bright"]
color = "size"
marker = "noise"
[[generator]]
name = "phantom"
label = "eyes"
[generator.set]
oversampling = 1
[generator.grid]
size = [16, 24]
noise = [0.01, 0.02]
[[generator.exclude]]
size = 16
noise = [0.02]
"""
PRESET = """
compression = 4
latent_channels = 4
width = 8
ae_steps = 12
ae_lr = 2e-3
multipliers = [1, 2]
timesteps = 100
sampler = "ddim"
precision = "float32"
held_out = 0.25
"""
FULL_SCORE = dataclasses.asdict(FULL)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "report": (
        "show {bad}", "show {bad} --details", "show {bad} --html {out}.html",
        "show {bad} --html {out}.html --qualify {qualify}", "qualify --load {qualify} --report {bad}",
        "qualify {real} --report {bad} -n 4",
        "diff {report} {bad}", "diff {bad} {report} --format markdown", "diff {report} {bad} --format latex",
        "diff {bad} {report} --format json", "diff {bad} {worse} --json {out}.json", "diff {bad} {report} {worse}",
    ),
    "qualify": (
        "qualify --load {bad}", "qualify --load {bad} --json {out}.json", "qualify --load {bad} --report {report}",
        "show {small} --html {out}.html --qualify {bad}", "qualify --load {bad} --json -",
    ),
    "results": (
        "pareto {bad}", "pareto {bad} --json", "pareto {bad} --x seconds --y fid", "pareto {bad} --out {out}.svg",
        "show {small} --html {out}.html --sweep {bad}",
    ),
    "config": (
        "score {real} --ref {train} --config {bad} --metrics fid --quick -q --json {out}.json",
        "qualify {real} --config {bad} -n 4",
    ),
    "plan": ("sweep {bad} --list --out {out}.sweep",),
    "preset": ("train-ldm nowhere.h5 --preset {bad} --out {out}.run",),
}  # fmt: skip


def write_valid_files(folder: Path) -> dict[str, Path]:
    """Write a report with all built-in metrics, one of other samples, and one file of every other kind."""
    paths = {name: save_set(folder / f"{name}.h5", make_texture_set(12, size=16, bands=4, seed=seed))
             for seed, name in enumerate(("samples", "real", "train"))}  # fmt: skip
    arguments = {"ref": str(paths["real"]), "train": str(paths["train"]), "metrics": ["all"], "cache": False}
    report = hseval.score(str(paths["samples"]), segmenter="none", quick=True, **arguments)
    record = json.loads(report.to_json())
    record["scores"][0] |= {name: FULL_SCORE[name] for name in ("margin", "equivalent", "segmentation")}
    worse = json.loads(json.dumps(record))
    for score in worse["scores"]:
        score["value"] = None if score["value"] is None else 1.1 * score["value"]
    small = dataclasses.replace(report, scores=tuple(report[name] for name in ("fid", "kid", "vendi")))
    texts = {
        "report": json.dumps(record), "worse": json.dumps(worse), "small": small.to_json(),
        "qualify": make_qualify_report(small).to_json(), "results": json.dumps(make_sweep_record(small)),
        "config": CONFIG, "plan": PLAN, "preset": PRESET,
    }  # fmt: skip
    for name, text in texts.items():
        paths[name] = folder / f"{name}.{'toml' if name in ('config', 'plan', 'preset') else 'json'}"
        paths[name].write_text(text)
    return paths


def make_qualify_report(report: hseval.Report) -> QualifyReport:
    """Return a report of ``hseval qualify`` on the metrics of another report."""
    metrics = report.provenance["metrics"]
    columns = tuple(
        MetricColumn(score.name, score.name, options.get("extractor"), options, score.better)
        for score in report.scores
        for options in [metrics[score.name]["options"]]
    )
    rows = tuple(DegradationRow(name, "smoothed", "spatial", "px (std)", (1.0, 2.0, 4.0)) for name in ("blur", "shift"))
    points = tuple(
        SeverityPoint(x, 1 + x, (x, 2 + x), x, (0.9 * x, 1.1 * x), 0.1, is_significant=True) for x in (1.0, 2.0, 4.0)
    )
    curves = tuple(
        Curve(column.label, row.name, 1.0, (0.9, 1.1), 0.1, (6, 6), points, 1.0, 2.0)
        for column in columns
        for row in rows
    )
    notes = ("6 clean cubes against 6",)
    return QualifyReport(columns, rows, curves, {"vessels": "no masks"}, notes, dict(report.provenance))


def make_sweep_record(report: hseval.Report) -> dict[str, Any]:
    """Return the content of a sweep's ``results.json``."""
    scores: dict[str, Score] = {
        score.name: dataclasses.replace(score, details={}, statistics=None) for score in report.scores
    }
    rows = tuple(
        RunResult(f"size={size}", "eyes", "phantom", {"size": size}, f"runs/{size}", Timing(x, 0.9 * x, 1.1 * x, "cpu"),
                  3.0, {name: dataclasses.replace(score, value=x) for name, score in scores.items()})
        for size, x in ((16, 0.5), (24, 1.5), (32, 2.5))
    )  # fmt: skip
    rows += (RunResult("size=48", "eyes", "phantom", {"size": 48}, "runs/48", error="fit: no"),)
    results = SweepResults("small", rows, PlotConfig("samples/s", tuple(scores), "size"))
    return {"format": "hseval-sweep", "version": 3, **to_jsonable(dataclasses.asdict(results))}
