"""Sets of simulated rows, whose truth is known, that go the way of any score."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from hseval.core.cubes import ArraySet
from hseval.core.feature_table import UNGROUPED_PREFIX, FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Direction, Score
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets
from hseval.scoring.score_metric import score_metric
from hseval.utils.distributed import Communicator
from hseval.utils.feature_cache import FeatureCache

NO_CUBES = ArraySet(np.zeros((1, 4, 1, 1), dtype=np.float32))


class MeansApart:
    """Squared distance of two means: what a Frechet distance is made of, and cheap."""

    name: ClassVar[str] = "means-apart"
    summary: ClassVar[str] = "squared distance of means"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    needs: ClassVar[Needs] = Needs(features=("x",))

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> float:
        """Return the distance."""
        return self.headline(real=real, generated=generated)

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the distance."""
        apart = generated["x"].mean(axis=0) - real["x"].mean(axis=0)
        return float(apart @ apart)


class Shift(MeansApart):
    """Absolute difference of the first column's means, signed as well."""

    name: ClassVar[str] = "shift"
    headline = None  # type: ignore[assignment]

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the difference."""
        apart = float(generated["x"][:, 0].mean() - real["x"][:, 0].mean())
        return ScoreParts(abs(apart), {}, signed=apart)


class Mean(MeansApart):
    """Mean of the samples' first column: linear, so that every figure has a closed form."""

    name: ClassVar[str] = "mean"
    bounds: ClassVar[tuple[float, float]] = (-float("inf"), float("inf"))

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the mean."""
        return float(generated["x"][:, 0].mean())


def rows(values: np.ndarray, *, group: int = 1) -> FeatureTable:
    """Return one row a value; the values say what a row is called, so that equal sets are one set."""
    names = np.array([row.tobytes().hex()[:32] for row in np.ascontiguousarray(values)])
    alone = [UNGROUPED_PREFIX + name for name in names]
    groups = np.array(alone if group == 1 else [f"g{i // group}" for i in range(len(values))])
    found = FeatureTable({"x": values}, names, names, groups, np.arange(4.0))
    return found.select(np.argsort(names, kind="stable"))


def normal(n: int, seed: int, *, away: float = 0.0, d: int = 3, group: int = 1) -> FeatureTable:
    """Return normal rows; those of a group are equal but for a little."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(size=(-(-n // group), d)), group, axis=0)[:n]
    values = shared if group == 1 else shared + 0.01 * rng.normal(size=(n, d))
    return rows(values + away, group=group)


def scored(metric: Any, real: FeatureTable, generated: FeatureTable, *, seed: int = 0, quick: bool = False) -> Score:
    """Return the score of described sets."""

    def description(each: FeatureTable) -> ExtractedSet:
        contents = tuple(each.hashes.tolist())
        return ExtractedSet(each, np.arange(len(each)), contents, ("",) * len(each), invalid_ids=(), computed_count=0)

    sets = InputSets(samples=NO_CUBES, reference=NO_CUBES, train=None)
    described = ExtractedInputs(sets, {}, samples=description(generated), reference=description(real), train=None)
    run = dataclasses.replace(RunContext(FeatureCache(None), Communicator(), seed=seed), quick=quick)
    return score_metric(metric, described, run)
