"""Sets described for one metric, as the core does it, for tests that look at its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from hseval.core.cubes import FOV, ArraySet, CubeSet
from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.utils.feature_cache import FeatureCache

RNG = np.random.default_rng(0)


def described(cubes: CubeSet, *extractors: str) -> FeatureTable:
    """Return the rows of a set by some extractors."""
    plan = ExtractionPlan(
        tuple(map(ExtractorSpec, extractors)), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths
    )
    with FeatureCache(None) as cache:
        return extract_features(cubes, plan, cache=cache).features


def compared(metric: Any, real: CubeSet, generated: CubeSet) -> ScoreParts:
    """Return what a metric makes of two sets."""
    rows = (described(cubes, *metric.needs.features) for cubes in (real, generated))
    return related(metric, *rows)


def related(metric: Any, real: FeatureTable, generated: FeatureTable) -> ScoreParts:
    """Return what a metric makes of two described sets, by way of ``relate``."""
    real, generated, _ = metric.relate(real=real, generated=generated, train=None)
    parts = metric.compare(real=real, generated=generated, rng=RNG)
    assert isinstance(parts, ScoreParts)
    return parts


def changed(base: ArraySet, cubes: Any, **masks: Any) -> ArraySet:
    """Return a set with other cubes (and masks) under the same wavelengths and ids."""
    return ArraySet(
        np.asarray(cubes, dtype=np.float32), wavelengths=base.wavelengths, masks=masks or base.masks, ids=base.ids
    )
