"""Simulated features with a known truth, scored in the same way as extracted ones."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from hseval.core.cubes import ArraySet
from hseval.core.feature_table import UNGROUPED_PREFIX, FeatureTable
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction, Score
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets
from hseval.scoring.score_metric import score_metric
from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import FeatureCache

NO_CUBES = ArraySet(np.zeros((1, 4, 1, 1), dtype=np.float32))


class MeanDistance:
    """Squared distance of two means: a cheap part of the Frechet distance."""

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
        difference = generated["x"].mean(axis=0) - real["x"].mean(axis=0)
        return float(difference @ difference)


class Shift(MeanDistance):
    """Absolute difference of the first column's means, signed as well."""

    name: ClassVar[str] = "shift"
    headline = None  # type: ignore[assignment]

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the difference."""
        difference = float(generated["x"][:, 0].mean() - real["x"][:, 0].mean())
        return ScoreParts(abs(difference), {}, signed=difference)


class Mean(MeanDistance):
    """Mean of the samples' first column: linear, so that all its statistics have a closed form."""

    name: ClassVar[str] = "mean"
    bounds: ClassVar[tuple[float, float]] = (-float("inf"), float("inf"))

    def headline(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None) -> float:
        """Return the mean."""
        return float(generated["x"][:, 0].mean())


def make_table(values: np.ndarray, *, group: int = 1) -> FeatureTable:
    """Return a table with ``values`` as features; ids derive from the values, so that equal sets are one set."""
    names = np.array([row.tobytes().hex()[:32] for row in np.ascontiguousarray(values)])
    own_groups = [UNGROUPED_PREFIX + name for name in names]
    groups = np.array(own_groups if group == 1 else [f"g{i // group}" for i in range(len(values))])
    table = FeatureTable({"x": values}, names, names, groups, np.arange(4.0))
    return table.select(np.argsort(names, kind="stable"))


def draw_normal_table(n: int, seed: int, *, offset: float = 0.0, d: int = 3, group: int = 1) -> FeatureTable:
    """Return normal features; those of one group differ little."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(size=(-(-n // group), d)), group, axis=0)[:n]
    values = shared if group == 1 else shared + 0.01 * rng.normal(size=(n, d))
    return make_table(values + offset, group=group)


def score_tables(
    metric: Any, real: FeatureTable, generated: FeatureTable, *, seed: int = 0, quick: bool = False
) -> Score:
    """Return the score of two tables."""

    def make_extracted(table: FeatureTable) -> ExtractedSet:
        contents = tuple(table.hashes.tolist())
        return ExtractedSet(
            table, np.arange(len(table)), contents, ("",) * len(table), invalid_ids=(), computed_count=0
        )

    extracted = {"samples": make_extracted(generated), "reference": make_extracted(real)}
    inputs = ExtractedInputs(InputSets(NO_CUBES, NO_CUBES), {}, extracted)
    context = dataclasses.replace(RunContext(FeatureCache(None), Ranks(), seed=seed), quick=quick)
    return score_metric(metric, inputs, context).score
