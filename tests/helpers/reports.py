"""Reports for the tests of comparisons: four generators of known order, scored once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from hseval import ArraySet, Report, score
from tests.helpers.sets import texture_set

METRICS = ("spectral-kl", "plausibility")
NOISE = {"good": 0.003, "twin": 0.003, "fair": 0.03, "poor": 0.05}


def samples(name: str, *, count: int = 24) -> ArraySet:
    """Return a generator's cubes: textures with more or less noise."""
    seed = 10 + list(NOISE).index(name)
    made = texture_set(count, size=16, bands=3, seed=seed)
    noise = np.random.default_rng(seed).normal(0, NOISE[name], made.cubes.shape)
    made.cubes += (noise * made.masks["fov"][:, None]).astype(np.float32)
    return made


@functools.cache
def real(seed: int = 2) -> ArraySet:
    """Return the reference."""
    return texture_set(40, size=16, bands=3, seed=seed)


def report_of(name: str, *, count: int = 24, **given: Any) -> Report:
    """Score a generator."""
    settings = {"ref": real(), "metrics": METRICS, "cache": False} | given
    return score(samples(name, count=count), **settings)


@functools.cache
def plain_report(name: str) -> Report:
    """Return a generator's report as the tests share it."""
    return report_of(name)
