"""Data sets, generators, training settings and file paths of the leaderboard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ldm.runs import read_seconds
from hseval.utils.atomic_files import write_text

METRICS = "fid,spectral-kl,ms-ssim,authenticity,ndi"
GENERATORS = ("oracle", "pca", "ldm", "diffusers", "monai")

Settings = Mapping[str, Any]


class Data(NamedTuple):
    """A data set: number of samples, visible metrics, and training settings of each generator."""

    samples: int
    visible_metrics: str
    settings: Mapping[str, Settings]


BOARDS = {
    "phantom": Data(
        samples=128,
        visible_metrics=METRICS,
        settings={
            "oracle": {},
            "pca": {},
            "ldm": {"preset": "demo"},
            "diffusers": {
                "channels": "32,64,96", "blocks": 1, "batch": 8, "steps": 1500, "rate": 1e-3, "average": 0.995,
                "checkpoint_every": 100,
            },
            "monai": {
                "ae_channels": "32,64,64", "ae_steps": 2000, "ae_rate": 2e-3, "channels": "64,128", "blocks": 1,
                "steps": 4000, "rate": 1e-3, "batch": 8, "average": 0.995, "checkpoint_every": 100,
            },
        },
    ),
    "indian-pines": Data(
        samples=24,
        visible_metrics=METRICS.replace("ms-ssim,", ""),
        settings={
            "oracle": {},
            "pca": {},
            "ldm": {
                "preset": "demo", "width": 32, "blocks": 1, "base": 32, "multipliers": "1,2", "features_steps": 60,
                "ae_steps": 250, "ldm_steps": 800, "codes": 64, "score_cubes": 4, "score_every": 400, "held_out": 0.2,
            },
            "diffusers": {
                "channels": "32,64", "blocks": 1, "batch": 8, "steps": 700, "rate": 1e-3, "average": 0.99,
                "checkpoint_every": 200,
            },
            "monai": {
                "ae_channels": "32,64", "ae_steps": 600, "ae_rate": 2e-3, "channels": "64,64", "blocks": 1,
                "steps": 700, "rate": 1e-3, "batch": 8, "average": 0.99, "checkpoint_every": 200,
            },
        },
    ),
}  # fmt: skip


class BoardFiles:
    """Paths of the files of one data set."""

    def __init__(self, out: Path, data: str, ldm: Path) -> None:
        self.data, self.folder = data, out / data
        self.clock = self.folder / "seconds.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.demo = ldm if data == "phantom" and "training" in read_seconds(ldm / "seconds.json") else None

    def get_real_path(self, name: str) -> Path:
        """Return the path of ``train`` or ``reference``; that of the demo run if it is used."""
        return (self.demo or self.folder) / f"{name}.h5"

    def get_samples_path(self, generator: str) -> Path:
        """Return the path of a generator's samples."""
        return self.folder / f"{generator}.h5"

    def get_report_path(self, generator: str) -> Path:
        """Return the path of the report on a generator's samples."""
        return self.folder / f"{generator}.json"

    def list_finished(self) -> list[str]:
        """Return the generators that have a report."""
        return [generator for generator in GENERATORS if self.get_report_path(generator).exists()]

    @contextmanager
    def add_cpu_seconds(self, name: str) -> Iterator[None]:
        """Add the CPU seconds of the commands in the block, even if they fail, to those stored under ``name``."""
        start = _get_child_cpu_seconds()
        try:
            yield
        finally:
            before = read_seconds(self.clock)
            seconds = before.get(name, 0.0) + _get_child_cpu_seconds() - start
            write_text(self.clock, json.dumps(before | {name: seconds}) + "\n")


def _get_child_cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
