"""Records that one scoring run passes from stage to stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import FeatureCache

if TYPE_CHECKING:
    from hseval.pipeline.extract import ExtractedSet
    from hseval.pipeline.inputs import InputSets
    from hseval.pipeline.worker import ExtractionPlan

ProgressCallback = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class RunContext:
    """How a score is computed; only ``seed`` and ``quick`` change a value by more than rounding."""

    cache: FeatureCache
    ranks: Ranks
    seed: int = 0
    device: str = "cpu"
    workers: int | None = 0
    batch_size: int | None = None
    quick: bool = False
    verify: bool = False
    progress: ProgressCallback | None = None
    exhibits: bool = False

    @property
    def device_workers(self) -> int | None:
        """The worker processes for what runs on the device: none beside a GPU, which they would have to share."""
        return self.workers if self.device == "cpu" else 0

    def make_progress_callback(self, task: str) -> Callable[[int, int], None] | None:
        """Return the progress callback for one piece of work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(task, done, total)


@dataclasses.dataclass(frozen=True)
class ExtractedInputs:
    """The sets of a score with their features, by role: ``samples``, ``reference`` and, where there is one, ``train``.

    Attributes:
        sets: the sets.
        plans: how their features were extracted.
        extracted: their features; the reference's without training cubes.
        has_holdout: whether some reference cube is not a training cube.
    """

    sets: InputSets
    plans: Mapping[str, ExtractionPlan]
    extracted: Mapping[str, ExtractedSet]
    has_holdout: bool = True

    @property
    def samples(self) -> ExtractedSet:
        """The samples' features."""
        return self.extracted["samples"]

    @property
    def reference(self) -> ExtractedSet:
        """The reference's features."""
        return self.extracted["reference"]

    @property
    def train(self) -> ExtractedSet | None:
        """The training set's features."""
        return self.extracted.get("train")
