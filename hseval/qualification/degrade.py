"""The half that is to be spoiled, spoiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.extract import describe
from hseval.pipeline.worker import Plan
from hseval.qualification.degraded_sets import KeptSet, Side, SpoiledSet, in_place
from hseval.qualification.plan import MODES, Task
from hseval.utils.feature_cache import Cache
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

Spoiled = Mapping[bool, Side]  # by arm: False: the whole half; True: the part of it that stands for samples


@dataclasses.dataclass
class Spoiler:
    """Spoils the half that is not the clean one; row i of what it returns stands in the place of cube i.

    Attributes:
        other: the half.
        samples, train: its places that stand for a generator's samples and for its training set, where one is needed.
        plan: how spoiled cubes are described.
        seed: of the degradations.
        batch_size: cubes an extractor gets at a time.
    """

    other: Side
    samples: NDArray[np.int64]
    train: NDArray[np.int64]
    plan: Plan
    seed: int
    batch_size: int

    @functools.cached_property
    def _arms(self) -> Spoiled:
        return {False: self.other, True: self.other.part(self.samples)}

    def spoiled(self, task: Task, extractors: set[str], arms: set[bool]) -> Spoiled:
        """Return what a generator with this fault would have made, described by some extractors, for each arm."""
        made: Any = task.degradation
        if made is None:
            return self._arms
        if made.kind == "copies":
            return {True: self._copied(task, extractors)}
        if made.kind == "set":
            return {arm: self._picked(task, self._arms[arm]) for arm in arms}
        if arms == {True}:
            return {True: self._degraded(task, self._arms[True], extractors)}
        whole = self._degraded(task, self.other, extractors)
        return {False: whole, True: whole.part(self.samples)}

    def _degraded(self, task: Task, side: Side, extractors: set[str]) -> Side:
        assert task.degradation is not None
        spoiled = KeptSet(SpoiledSet(side.cubes, task.degradation, task.dose, self.seed))
        chosen = tuple(each for each in self.plan.extractors if each.name in extractors)
        plan = dataclasses.replace(self.plan, extractors=chosen)
        found = describe(spoiled, plan, cache=Cache(None), batch_size=self.batch_size)
        return in_place(spoiled, found, what=f"degradation {task.degradation.name!r} at {task.dose:g}")

    def _picked(self, task: Task, side: Side) -> Side:
        made: Any = task.degradation
        features = side.rows[MODES].reshape(len(side), -1).astype(np.float64)
        rng = stream(self.seed, f"degradation {made.name}")
        return side.shown(made.pick(features, task.dose, rng), like=side)

    def _copied(self, task: Task, extractors: set[str]) -> Side:
        """Return the samples, some of them replaced by near-copies of training cubes, nested by dose."""
        samples = self._arms[True]
        rng = stream(self.seed, "qualify copies")  # the same places and originals for every kind of copy
        places, originals = rng.permutation(len(samples)), rng.permutation(self.train)
        count = round(task.dose / 100 * len(samples))
        replaced, copied = places[:count], np.resize(originals, count)
        distinct, which = np.unique(copied, return_inverse=True)
        copies = self._degraded(task, self.other.part(distinct), extractors)
        shown = np.arange(len(samples), dtype=np.int64)
        shown[replaced] = len(samples) + which
        kept = dataclasses.replace(
            samples.description, rows=samples.rows.only({*extractors, "core"})
        )  # both sides of a join have the same columns
        return Side(samples.cubes, kept).joined(copies).shown(shown, like=samples)
