"""Features of sets for one metric, extracted as the core does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from hseval.core.cubes import FOV, ArraySet, CubeSet
from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import ScoreParts
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.feature_cache import FeatureCache

RNG = np.random.default_rng(0)


def extract_table(cubes: CubeSet, *extractors: str) -> FeatureTable:
    """Return the features of a set by some extractors."""
    plan = ExtractionPlan(
        tuple(map(ExtractorSpec, extractors)), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths
    )
    with FeatureCache(None) as cache:
        return extract_features(cubes, plan, cache=cache).features


def compare_sets(metric: Any, real: CubeSet, generated: CubeSet) -> ScoreParts:
    """Return a metric's score of two sets."""
    tables = (extract_table(cubes, *metric.needs.features) for cubes in (real, generated))
    return compare_tables(metric, *tables)


def compare_tables(metric: Any, real: FeatureTable, generated: FeatureTable) -> ScoreParts:
    """Return a metric's score of the features of two sets, after its ``relate``."""
    real, generated, _ = metric.relate(real=real, generated=generated, train=None)
    parts = metric.compare(real=real, generated=generated, rng=RNG)
    assert isinstance(parts, ScoreParts)
    return parts


def replace_cubes(base: ArraySet, cubes: Any, **masks: Any) -> ArraySet:
    """Return a set with other cubes (and masks) under the same wavelengths and ids."""
    return ArraySet(
        np.asarray(cubes, dtype=np.float32), wavelengths=base.wavelengths, masks=masks or base.masks, ids=base.ids
    )
