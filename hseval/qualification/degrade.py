"""The half that is to be spoiled, spoiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.extract import extract_features
from hseval.pipeline.worker import ExtractionPlan
from hseval.qualification.degraded_sets import AlignedSet, CachedSet, DegradedSet, align_to_cubes
from hseval.qualification.plan import MODE_EXTRACTOR, Task
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from numpy.typing import NDArray

DegradedArms = Mapping[bool, AlignedSet]  # by arm: False: the whole half; True: the part of it that stands for samples


@dataclasses.dataclass
class Degrader:
    """Spoils the half that is not the clean one; row i of what it returns stands in the place of cube i.

    Attributes:
        other_half: the half.
        sample_indices, train_indices: its places that stand for a generator's samples and for its training set, where one is needed.
        plan: how spoiled cubes are described.
        seed: of the degradations.
        batch_size: cubes an extractor gets at a time.
    """

    other_half: AlignedSet
    sample_indices: NDArray[np.int64]
    train_indices: NDArray[np.int64]
    plan: ExtractionPlan
    seed: int
    batch_size: int

    @functools.cached_property
    def _arms(self) -> DegradedArms:
        return {False: self.other_half, True: self.other_half.select(self.sample_indices)}

    def degrade(self, task: Task, extractors: set[str], arms: set[bool]) -> DegradedArms:
        """Return what a generator with this fault would have made, described by some extractors, for each arm."""
        made: Any = task.degradation
        if made is None:
            return self._arms
        if made.kind == "copies":
            return {True: self._insert_copies(task, extractors)}
        if made.kind == "set":
            return {arm: self._resample_cubes(task, self._arms[arm]) for arm in arms}
        if arms == {True}:
            return {True: self._degrade_cubes(task, self._arms[True], extractors)}
        whole = self._degrade_cubes(task, self.other_half, extractors)
        return {False: whole, True: whole.select(self.sample_indices)}

    def _degrade_cubes(self, task: Task, aligned_set: AlignedSet, extractors: set[str]) -> AlignedSet:
        assert task.degradation is not None
        spoiled = CachedSet(DegradedSet(aligned_set.cubes, task.degradation, task.severity, self.seed))
        chosen = tuple(each for each in self.plan.extractors if each.name in extractors)
        plan = dataclasses.replace(self.plan, extractors=chosen)
        found = extract_features(spoiled, plan, cache=FeatureCache(None), batch_size=self.batch_size)
        return align_to_cubes(spoiled, found, label=f"degradation {task.degradation.name!r} at {task.severity:g}")

    def _resample_cubes(self, task: Task, aligned_set: AlignedSet) -> AlignedSet:
        made: Any = task.degradation
        features = aligned_set.features[MODE_EXTRACTOR].reshape(len(aligned_set), -1).astype(np.float64)
        rng = create_rng(self.seed, f"degradation {made.name}")
        return aligned_set.select_as(made.pick(features, task.severity, rng), template=aligned_set)

    def _insert_copies(self, task: Task, extractors: set[str]) -> AlignedSet:
        """Return the samples, some of them replaced by near-copies of training cubes, nested by severity."""
        samples = self._arms[True]
        rng = create_rng(self.seed, "qualify copies")  # the same places and originals for every kind of copy
        places, originals = rng.permutation(len(samples)), rng.permutation(self.train_indices)
        count = round(task.severity / 100 * len(samples))
        replaced, copied = places[:count], np.resize(originals, count)
        distinct, which = np.unique(copied, return_inverse=True)
        copies = self._degrade_cubes(task, self.other_half.select(distinct), extractors)
        shown = np.arange(len(samples), dtype=np.int64)
        shown[replaced] = len(samples) + which
        kept = dataclasses.replace(
            samples.description, features=samples.features.select_extractors({*extractors, "core"})
        )  # both sides of a join have the same columns
        return AlignedSet(samples.cubes, kept).concatenate(copies).select_as(shown, template=samples)
