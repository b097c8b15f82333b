"""Helpers for the tests of sweeps: small sets, a plan, and a third party's generator whose fit has stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from hseval import Sample, hookimpl, option
from hseval.core.plugin_manager import get_plugins
from hseval.utils.random_streams import create_rng
from tests.helpers.sets import make_texture_set, save_set

BASE = make_texture_set(24, size=16, bands=3, seed=5)
CHEAP = '[score]\nmetrics = ["spectral-kl"]\n[timing]\ncubes = 2\nrepeats = 1\n'


class StagedGenerator:
    """Draws textures with noise; records its calls in ``calls``, and raises the errors in ``fails``."""

    name, version, units, summary = "staged", "1", None, "textures"
    wavelengths = BASE.wavelengths
    sampling: ClassVar[tuple[str, ...]] = ("gain",)
    stages: ClassVar[Mapping[str, tuple[str, ...]]] = {"first": ("a",), "second": ("b",)}
    calls: ClassVar[list[tuple[Any, ...]]] = []
    fails: ClassVar[dict[tuple[str, Any], BaseException]] = {}

    @dataclasses.dataclass(frozen=True)
    class Options:
        a: int = option(1, "of the first stage")
        b: int = option(1, "of the second stage")
        c: float = option(0.0, "of the rest of the fit: noise")
        gain: float = option(1.0, "of sampling")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def fit(
        self, data: Any, out: Path, *, seed: int = 0, until: str | None = None, start: Path | None = None,
        resume: bool = False,
    ) -> None:  # fmt: skip
        options = self.options
        is_resumed = (out / "begun").exists()
        (out / "begun").write_text("")
        self.calls.append((until or "rest", options.a, options.b, options.c, "resumed" if is_resumed else "anew"))
        for key in (("fit", options.c), (until, options.a)):
            if key in self.fails:
                raise self.fails[key]
        finished = "" if start is None else (start / "done").read_text()
        (out / "done").write_text(f"{finished}{until or 'rest'} ")

    def load(self, path: Path) -> None:
        assert (path / "done").read_text() == "first second rest "

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        if ("sample", self.options.gain) in self.fails:
            raise self.fails["sample", self.options.gain]
        self.calls.append(("sample", self.options.gain, n))
        for index in range(start, n):
            noise = create_rng(seed, "staged", index).standard_normal(BASE.cubes[0].shape, dtype=np.float32)
            fov = BASE.masks["fov"][index % 24]
            cube = self.options.gain * (BASE.cubes[index % 24] + np.float32(0.01 + self.options.c) * noise) * fov
            masks = {name: mask[index % 24] for name, mask in BASE.masks.items()}
            yield Sample(cube.astype(np.float32), masks, f"s-{index}")


class StagedPlugin:
    """The hooks of the third party's plugin."""

    @hookimpl
    def hseval_generators(self) -> list[type]:
        return [StagedGenerator]


def save_sets(folder: Path) -> None:
    """Write the training set and the reference."""
    for name, seed in (("train", 1), ("ref", 2)):
        save_set(folder / f"{name}.h5", make_texture_set(24, size=16, bands=3, seed=seed))


def write_plan(folder: Path, generators: str, *, score: str = CHEAP, plot: str = "y = []") -> Path:
    """Write a sweep's file into the folder of the sets; by default it has no plot."""
    path, data = folder / "s.toml", 'train = "train.h5"\nref = "ref.h5"'
    path.write_text(f"samples = 16\n[data]\n{data}\n{score}\n[plot]\n{plot}\n{generators}\n")
    return path


def format_grid(name: str = "staged", exclude: str = "", **values: list[Any]) -> str:
    """Return a generator's table with a grid."""
    lines = "\n".join(f"{key} = {value}" for key, value in values.items())
    return f'[[generator]]\nname = "{name}"\n[generator.grid]\n{lines}\n{exclude}\n'


@contextmanager
def register_plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the third party's generator, without recorded calls and failures."""
    registry = get_plugins()
    registry.register(StagedPlugin(), name="hseval-staged:staged", distribution="hseval-staged")
    monkeypatch.setattr(StagedGenerator, "calls", [])
    monkeypatch.setattr(StagedGenerator, "fails", {})
    try:
        yield
    finally:
        registry.manager.unregister(name="hseval-staged:staged")
        registry._registrations.clear()
