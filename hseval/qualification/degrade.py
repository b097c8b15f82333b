"""Degrades one half of the real cubes and extracts its features."""

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
    from hseval.utils.arrays import IntArray

DegradedArms = Mapping[bool, AlignedSet]  # by arm; False: the whole half, True: the part that serves as samples


@dataclasses.dataclass
class Degrader:
    """Degrades the half that is not the clean one; feature vector i of its results replaces that of cube i.

    Attributes:
        other_half: the half to degrade.
        sample_indices, train_indices: its cubes that serve as a generator's samples and training set, where one is
            needed.
        plan: how features of degraded cubes are extracted.
        seed: of the degradations.
        batch_size: cubes an extractor gets at a time.
    """

    other_half: AlignedSet
    sample_indices: IntArray
    train_indices: IntArray
    plan: ExtractionPlan
    seed: int
    batch_size: int

    @functools.cached_property
    def _arms(self) -> DegradedArms:
        return {False: self.other_half, True: self.other_half.select(self.sample_indices)}

    def degrade(self, task: Task, extractors: set[str], arms: set[bool]) -> DegradedArms:
        """Return the cubes of a generator with this fault and their features by some extractors, for each arm."""
        degradation: Any = task.degradation
        if degradation is None:
            return self._arms
        if degradation.kind == "copies":
            return {True: self._insert_copies(task, extractors)}
        if degradation.kind == "set":
            return {arm: self._resample_cubes(task, self._arms[arm]) for arm in arms}
        if arms == {True}:
            return {True: self._degrade_cubes(task, self._arms[True], extractors)}
        degraded = self._degrade_cubes(task, self.other_half, extractors)
        return {False: degraded, True: degraded.select(self.sample_indices)}

    def _degrade_cubes(self, task: Task, aligned_set: AlignedSet, extractors: set[str]) -> AlignedSet:
        assert task.degradation is not None
        degraded = CachedSet(DegradedSet(aligned_set.cubes, task.degradation, task.severity, self.seed))
        chosen = tuple(extractor for extractor in self.plan.extractors if extractor.name in extractors)
        plan = dataclasses.replace(self.plan, extractors=chosen)
        extracted = extract_features(degraded, plan, cache=FeatureCache(None), batch_size=self.batch_size)
        return align_to_cubes(degraded, extracted, label=f"degradation {task.degradation.name!r} at {task.severity:g}")

    def _resample_cubes(self, task: Task, aligned_set: AlignedSet) -> AlignedSet:
        degradation: Any = task.degradation
        features = aligned_set.features[MODE_EXTRACTOR].reshape(len(aligned_set), -1).astype(np.float64)
        rng = create_rng(self.seed, f"degradation {degradation.name}")
        return aligned_set.select_as(degradation.pick(features, task.severity, rng), template=aligned_set)

    def _insert_copies(self, task: Task, extractors: set[str]) -> AlignedSet:
        """Return the samples, some of them replaced by near-copies of training cubes, nested by severity."""
        samples = self._arms[True]
        rng = create_rng(self.seed, "qualify copies")  # the same positions and originals for every kind of copy
        positions, originals = rng.permutation(len(samples)), rng.permutation(self.train_indices)
        count = round(task.severity / 100 * len(samples))
        replaced, copied = positions[:count], np.resize(originals, count)
        distinct, copy_indices = np.unique(copied, return_inverse=True)
        copies = self._degrade_cubes(task, self.other_half.select(distinct), extractors)
        indices = np.arange(len(samples), dtype=np.int64)
        indices[replaced] = len(samples) + copy_indices
        extracted = dataclasses.replace(
            samples.extracted, features=samples.features.select_extractors({*extractors, "core"})
        )  # both tables of a concatenation need the same columns
        return AlignedSet(samples.cubes, extracted).concatenate(copies).select_as(indices, template=samples)
