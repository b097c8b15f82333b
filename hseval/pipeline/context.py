"""What one scoring run carries from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hseval.utils.distributed import Comm
from hseval.utils.feature_cache import Cache

if TYPE_CHECKING:
    from hseval.pipeline.extract import Description
    from hseval.pipeline.inputs import Sets
    from hseval.pipeline.worker import Plan

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """How a score is computed; nothing in it changes a value beyond rounding, but ``seed`` and ``quick``.

    ``shown``, where it is a dict, is filled with what metrics say of single cubes or pairs (``shown_values``), by name.
    """

    cache: Cache
    comm: Comm
    seed: int = 0
    device: str = "cpu"
    workers: int | None = 0
    batch_size: int | None = None
    quick: bool = False
    verify: bool = False
    progress: Progress | None = None
    shown: dict[str, Mapping[str, Any]] | None = None

    def told(self, what: str) -> Callable[[int, int], None] | None:
        """Return the progress callback for one piece of work."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(what, done, total)


@dataclasses.dataclass(frozen=True)
class Described:
    """The described sets of a score, by role; ``held_out``: some reference cube is not a training cube."""

    sets: Sets
    plans: Mapping[str, Plan]
    samples: Description
    reference: Description
    train: Description | None
    held_out: bool = True
