"""Cross-fitting a segmenter on the reference: two folds, two models, and no cube seen by a model that saw its group."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.feature_table import ALONE
from hseval.data.content_hash import key
from hseval.pipeline.context import Run
from hseval.pipeline.extract import Description
from hseval.pipeline.worker import Plan
from hseval.scoring.segmentation.folds import FOLDS, deal, some_of
from hseval.scoring.segmentation.jobs import AGREEMENT, MASKS, Choice, Columns, FitJob, SegmentJob
from hseval.utils.errors import HsevalError, first_line
from hseval.utils.parallel import run as run_job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Segmenter

MOST_FITTED = 64  # cubes that one model is fitted on
WORTH_PIXELS = 100_000  # of a fold, from which two processes are started faster than two models are fitted in turn
CHUNK = 4  # cubes a worker segments at a time


class NothingFoundError(HsevalError):
    """The reference does not do: a segmenter can't be fitted and tested on it, or finds nothing in held-out cubes."""


@dataclasses.dataclass(frozen=True)
class Folds:
    """Who is fitted on what, and who looks at what.

    Attributes:
        structures: names that both folds have, sorted.
        left_out: structure -> why it can't be segmented.
        places: of each fold, places in the reference that its model is fitted on.
        keys: of each fold, what decides its model.
        by_content: content -> fold, of the reference's cubes with masks.
        by_group: group -> fold, of their groups (a cube that has none is in no group of another set).
        annotated: bool ``(n,)``: which rows of the reference have masks.
    """

    structures: tuple[str, ...]
    left_out: Mapping[str, str]
    places: tuple[tuple[int, ...], ...]
    keys: tuple[str, ...]
    by_content: Mapping[str, int]
    by_group: Mapping[str, int]
    annotated: NDArray[np.bool_]

    def model(self, content: str, group: str) -> int:
        """Return which model looks at a cube: one that saw neither it nor its group; for a stranger, by its content."""
        fold = self.by_content.get(content, self.by_group.get(group))
        return int(content[:8], 16) % FOLDS if fold is None else 1 - fold


def fold(choice: Choice, cubes: CubeSet, description: Description, plan: Plan) -> Folds:
    """Deal the reference's cubes that have masks into folds.

    Raises:
        NothingFoundError: no structure is in two groups of cubes, so that one could be fitted on and one held out.
    """
    names = tuple(sorted(set(cubes.structures) - {FIELD}))
    annotated, having = _having(cubes, description, names)
    rows = description.rows
    some = np.flatnonzero(annotated)
    hashes, groups = rows.hashes[some].tolist(), rows.groups[some].tolist()
    dealt = deal(contents=hashes, groups=groups, having=having[some])
    both = np.logical_and.reduce([having[some][dealt == side].any(axis=0) for side in range(FOLDS)])
    structures = tuple(name for name, kept in zip(names, both, strict=True) if kept)
    if not structures:
        raise NothingFoundError(
            f"{cubes.info.location}: no structure is in two groups of cubes with masks, so a segmenter can't be "
            "fitted and tested (--segmenter none scores without)"
        )
    fitted = []
    for side in range(FOLDS):
        members = some[dealt == side]
        fitted.append([int(members[i]) for i in some_of(having[members][:, both], MOST_FITTED)])
    about = (choice.recipe(), structures, plan.wavelengths.tolist(), plan.field_hash())
    return Folds(
        structures,
        {name: "in fewer than two groups of the reference" for name in names if name not in structures},
        tuple(tuple(int(description.index[i]) for i in members) for members in fitted),
        tuple(key(about, [(rows.hashes[i], description.masks[i]) for i in members]) for members in fitted),
        dict(zip(hashes, dealt.tolist(), strict=True)),
        {group: side for group, side in zip(groups, dealt.tolist(), strict=True) if not group.startswith(ALONE)},
        annotated,
    )


def _having(
    cubes: CubeSet, description: Description, names: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows have masks, ``(n,)``, and pixels of which structures, ``(n, structure)``."""
    annotated = np.zeros(len(description.index), dtype=bool)
    having = np.zeros((len(description.index), len(names)), dtype=bool)
    for row, place in enumerate(description.index):
        masks = cubes.read_masks(int(place))
        annotated[row] = any(name in masks for name in names)
        having[row] = [name in masks and bool(np.any(masks[name])) for name in names]
    return annotated, having


class Crossfit:
    """Two models, fitted once they are needed; masks and models are kept in the cache.

    Args:
        choice: which segmenter.
        cubes: the reference.
        folds: who is fitted on what.
        plan: which field of view.
        run: how.
    """

    def __init__(self, choice: Choice, cubes: CubeSet, folds: Folds, plan: Plan, run: Run) -> None:
        self.choice, self.cubes, self.folds, self.plan, self.run = choice, cubes, folds, plan, run
        self.workers = run.workers if run.device == "cpu" else 0
        self._models: dict[int, Segmenter] = {}

    def masks_of(self, cubes: CubeSet, description: Description, *, what: str) -> list[Columns]:
        """Return for each row of a described set its masks and how its own agree; see :class:`SegmentJob`.

        Raises:
            HsevalError: the segmenter fails, here or on another rank.
        """
        rows, run = description.rows, self.run
        models = [self.folds.model(*each) for each in zip(rows.hashes, rows.groups, strict=True)]
        decided = zip(models, rows.hashes, description.masks, strict=True)
        keys = [key("segment-1", self.folds.keys[model], content, masks) for model, content, masks in decided]
        found: dict[str, Columns] = dict(run.cache.rows(keys))
        mine = [row for row in run.comm.share(len(keys)) if keys[row] not in found]
        places = {int(description.index[row]): row for row in mine}
        error, done = None, 0
        try:
            for part in self._segmented(cubes, places, models):
                of_key = {keys[places[place]]: columns for place, columns in part.items()}
                run.cache.store_rows(of_key)
                found.update(of_key)
                done += len(part)
                if run.progress is not None:
                    run.progress(f"segmenting {what}", done, len(mine))
        except Exception as failure:
            if run.comm.size == 1:
                raise
            error = first_line(failure)
        run.comm.agree(error)
        found.update(self._gathered(found, keys))
        return [found[name] for name in keys]

    def _segmented(self, cubes: CubeSet, places: Mapping[int, int], models: Sequence[int]) -> Any:
        if not places:
            return iter(())
        fold, folds = {place: models[row] for place, row in places.items()}, self.folds
        fitted = self._fitted()
        about = (folds.structures, self.plan.field, self.plan.wavelengths)
        job = SegmentJob(self.choice.name, cubes, fold, fitted, *about)
        order = list(places)
        return run_job(job, [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)], self.workers)

    def _fitted(self) -> dict[int, Segmenter]:
        """Return the models, from the cache where the segmenter can take up its state, else fitted now."""
        run = self.run
        missing = [side for side in range(FOLDS) if side not in self._models and not self._restored(side)]
        job = FitJob(self.choice, self.cubes, self.folds.places, self.folds.structures, self.plan.field)
        workers = self._workers_to_fit() if len(missing) > 1 else 0
        for part in run_job(job, [[side] for side in missing], workers):
            self._models.update(part)
            for side, model in part.items():
                if hasattr(model, "state"):
                    run.cache.store_rows({self._state_key(side): model.state()})
            if run.progress is not None:
                run.progress(f"fitting {self.choice.name}", len(self._models), FOLDS)
        return self._models

    def _workers_to_fit(self) -> int:
        """Return one process a fold, where they do not have to share a GPU and have enough to learn from."""
        run, places = self.run, self.folds.places[0]
        if run.comm.size > 1 or run.device != "cpu":
            return 0
        if run.workers is not None:
            return run.workers
        _, height, width = self.cubes.shape(places[0])
        pays = (os.cpu_count() or 1) > 1 and len(places) * height * width > WORTH_PIXELS
        return FOLDS if pays else 0

    def _restored(self, side: int) -> bool:
        """Take up a model's state from the cache, if it is there."""
        built: Any = self.choice.build()
        kept = self.run.cache.rows([self._state_key(side)]).get(self._state_key(side))
        if kept is None or not hasattr(built, "restore"):
            return False
        built.restore(kept, self.folds.structures)
        self._models[side] = built
        return True

    def _state_key(self, side: int) -> str:
        return key("segmenter state", self.folds.keys[side])

    def _gathered(self, found: Mapping[str, Columns], keys: Sequence[str]) -> dict[str, Columns]:
        comm = self.run.comm
        if comm.size == 1:
            return {}
        mine = comm.share(len(keys))
        packed = {f"{row}:{name}": found[keys[row]][name] for row in mine for name in (MASKS, AGREEMENT)}
        gathered: dict[str, dict[str, Any]] = {}
        for part in comm.gather(packed):
            for label, column in part.items():
                row, name = label.split(":", 1)
                gathered.setdefault(keys[int(row)], {})[name] = column
        return dict(gathered)
