"""Reports for the tests of comparisons: four generators of known order, scored once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hseval import ArraySet, Report, score
from tests.helpers.sets import make_texture_set

METRICS = ("spectral-kl", "plausibility")
NOISE = {"good": 0.003, "twin": 0.003, "fair": 0.03, "poor": 0.05}


def make_samples(name: str, *, count: int = 24) -> ArraySet:
    """Return a generator's cubes: textures with more or less noise."""
    seed = 10 + list(NOISE).index(name)
    cubes = make_texture_set(count, size=16, bands=3, seed=seed)
    noise = np.random.default_rng(seed).normal(0, NOISE[name], cubes.cubes.shape)
    cubes.cubes += (noise * cubes.masks["fov"][:, None]).astype(np.float32)
    return cubes


@functools.cache
def make_reference(seed: int = 2) -> ArraySet:
    """Return the reference."""
    return make_texture_set(40, size=16, bands=3, seed=seed)


def make_report(name: str, *, count: int = 24, **options: Any) -> Report:
    """Score a generator."""
    arguments = {"ref": make_reference(), "metrics": METRICS, "cache": False} | options
    return score(make_samples(name, count=count), **arguments)


@functools.cache
def get_report(name: str) -> Report:
    """Return a generator's report, computed once for all tests."""
    return make_report(name)
