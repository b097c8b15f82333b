"""State that one scoring run passes from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hseval.utils.distributed import Communicator
from hseval.utils.feature_cache import FeatureCache

if TYPE_CHECKING:
    from hseval.pipeline.extract import ExtractedSet
    from hseval.pipeline.inputs import InputSets
    from hseval.pipeline.worker import ExtractionPlan

ProgressCallback = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class RunContext:
    """How a score is computed; only ``seed`` and ``quick`` change a value by more than rounding.

    ``histogram_values``, where it is a dict, collects by metric name the values of single cubes or pairs that metrics
    return from ``shown_values``.
    """

    cache: FeatureCache
    comm: Communicator
    seed: int = 0
    device: str = "cpu"
    workers: int | None = 0
    batch_size: int | None = None
    quick: bool = False
    verify: bool = False
    progress: ProgressCallback | None = None
    histogram_values: dict[str, Mapping[str, Any]] | None = None

    def make_progress_callback(self, task: str) -> Callable[[int, int], None] | None:
        """Return the progress callback for one piece of work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(task, done, total)


@dataclasses.dataclass(frozen=True)
class ExtractedInputs:
    """The features of a score's sets, by role; ``has_holdout``: some reference cube is not a training cube."""

    sets: InputSets
    plans: Mapping[str, ExtractionPlan]
    samples: ExtractedSet
    reference: ExtractedSet
    train: ExtractedSet | None
    has_holdout: bool = True
