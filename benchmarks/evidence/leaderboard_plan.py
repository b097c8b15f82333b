"""What the leaderboard is made of: data sets, generators, how each is trained, and where the files lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ldm.runs import spent
from hseval.utils.atomic_files import write_text

METRICS = "fid,spectral-kl,ms-ssim,authenticity,ndi"
GENERATORS = ("oracle", "pca", "ldm", "diffusers", "monai")

Settings = Mapping[str, Any]


class Data(NamedTuple):
    """A data set: how many samples are scored, which scores are shown, and what each generator is trained with."""

    samples: int
    shown: str
    settings: Mapping[str, Settings]


BOARDS = {
    "phantom": Data(
        samples=128,
        shown=METRICS,
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
        shown=METRICS.replace("ms-ssim,", ""),
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


class Place:
    """Where one data set's files lie."""

    def __init__(self, out: Path, data: str, ldm: Path) -> None:
        self.data, self.folder = data, out / data
        self.clock = self.folder / "seconds.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.demo = ldm if data == "phantom" and "training" in spent(ldm / "seconds.json") else None

    def real(self, name: str) -> Path:
        """Return ``train`` or ``reference``; those of the demo run where that is used."""
        return (self.demo or self.folder) / f"{name}.h5"

    def samples(self, generator: str) -> Path:
        """Return the set of a generator's samples."""
        return self.folder / f"{generator}.h5"

    def report(self, generator: str) -> Path:
        """Return the report on them."""
        return self.folder / f"{generator}.json"

    def finished(self) -> list[str]:
        """Return the generators that have a report."""
        return [each for each in GENERATORS if self.report(each).exists()]

    @contextmanager
    def counted(self, what: str) -> Iterator[None]:
        """Add the CPU seconds of the commands run inside, however they end, to those kept under ``what``."""
        start = _children()
        try:
            yield
        finally:
            before = spent(self.clock)
            write_text(self.clock, json.dumps(before | {what: before.get(what, 0.0) + _children() - start}) + "\n")


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system
