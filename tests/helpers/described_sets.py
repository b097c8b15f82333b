"""Sets described for one metric, as the core does it, for tests that look at its rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from hseval.core.cubes import FIELD, ArraySet, CubeSet
from hseval.core.feature_table import Rows
from hseval.core.hookspecs import ScoreParts
from hseval.pipeline.extract import describe
from hseval.pipeline.worker import Chosen, Plan
from hseval.utils.feature_cache import Cache

RNG = np.random.default_rng(0)


def described(cubes: CubeSet, *extractors: str) -> Rows:
    """Return the rows of a set by some extractors."""
    plan = Plan(tuple(map(Chosen, extractors)), tuple(sorted({FIELD, *cubes.structures})), cubes.wavelengths)
    with Cache(None) as cache:
        return describe(cubes, plan, cache=cache).rows


def compared(metric: Any, real: CubeSet, fake: CubeSet) -> ScoreParts:
    """Return what a metric makes of two sets."""
    rows = (described(cubes, *metric.needs.rows) for cubes in (real, fake))
    return related(metric, *rows)


def related(metric: Any, real: Rows, fake: Rows) -> ScoreParts:
    """Return what a metric makes of two described sets, by way of ``relate``."""
    real, fake, _ = metric.relate(real=real, fake=fake, train=None)
    parts = metric.compare(real=real, fake=fake, rng=RNG)
    assert isinstance(parts, ScoreParts)
    return parts


def changed(base: ArraySet, cubes: Any, **masks: Any) -> ArraySet:
    """Return a set with other cubes (and masks) under the same wavelengths and ids."""
    return ArraySet(
        np.asarray(cubes, dtype=np.float32), wavelengths=base.wavelengths, masks=masks or base.masks, ids=base.ids
    )
