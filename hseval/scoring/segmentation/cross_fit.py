"""Cross-fitting a segmenter on the reference: two folds, two models, and no cube seen by a model that saw its group."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.core.feature_table import UNGROUPED_PREFIX
from hseval.data.content_hash import compute_key
from hseval.pipeline.context import RunContext
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.worker import ExtractionPlan
from hseval.scoring.segmentation.folds import FOLD_COUNT, assign_folds, select_fit_cubes
from hseval.scoring.segmentation.jobs import AGREEMENT, MASKS, Columns, FitJob, SegmenterSpec, SegmentJob
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.parallel import run_chunks as run_job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Segmenter

MAX_FIT_CUBES = 64  # cubes that one model is fitted on
MIN_PARALLEL_PIXELS = (
    100_000  # of a fold, from which two processes are started faster than two models are fitted in turn
)
CHUNK_CUBES = 4  # cubes a worker segments at a time


class SegmentationError(HsevalError):
    """The reference does not do: a segmenter can't be fitted and tested on it, or finds nothing in held-out cubes."""


@dataclasses.dataclass(frozen=True)
class Folds:
    """Who is fitted on what, and who looks at what.

    Attributes:
        structures: names that both folds have, sorted.
        exclusion_reasons: structure -> why it can't be segmented.
        fit_indices: of each fold, places in the reference that its model is fitted on.
        model_keys: of each fold, what decides its model.
        fold_by_content: content -> fold, of the reference's cubes with masks.
        fold_by_group: group -> fold, of their groups (a cube that has none is in no group of another set).
        is_annotated: bool ``(n,)``: which rows of the reference have masks.
    """

    structures: tuple[str, ...]
    exclusion_reasons: Mapping[str, str]
    fit_indices: tuple[tuple[int, ...], ...]
    model_keys: tuple[str, ...]
    fold_by_content: Mapping[str, int]
    fold_by_group: Mapping[str, int]
    is_annotated: NDArray[np.bool_]

    def select_model(self, content: str, group: str) -> int:
        """Return which model looks at a cube: one that saw neither it nor its group; for a stranger, by its content."""
        fold = self.fold_by_content.get(content, self.fold_by_group.get(group))
        return int(content[:8], 16) % FOLD_COUNT if fold is None else 1 - fold


def build_folds(spec: SegmenterSpec, cubes: CubeSet, extracted: ExtractedSet, plan: ExtractionPlan) -> Folds:
    """Deal the reference's cubes that have masks into folds.

    Raises:
        NothingFoundError: no structure is in two groups of cubes, so that one could be fitted on and one held out.
    """
    names = tuple(sorted(set(cubes.structures) - {FOV}))
    annotated, having = _find_annotations(cubes, extracted, names)
    rows = extracted.features
    some = np.flatnonzero(annotated)
    hashes, groups = rows.hashes[some].tolist(), rows.groups[some].tolist()
    dealt = assign_folds(contents=hashes, groups=groups, presence=having[some])
    both = np.logical_and.reduce([having[some][dealt == side].any(axis=0) for side in range(FOLD_COUNT)])
    structures = tuple(name for name, kept in zip(names, both, strict=True) if kept)
    if not structures:
        raise SegmentationError(
            f"{cubes.info.location}: no structure is in two groups of cubes with masks, so a segmenter can't be "
            "fitted and tested (--segmenter none scores without)"
        )
    fitted = []
    for side in range(FOLD_COUNT):
        members = some[dealt == side]
        fitted.append([int(members[i]) for i in select_fit_cubes(having[members][:, both], MAX_FIT_CUBES)])
    about = (spec.compute_recipe_key(), structures, plan.wavelengths.tolist(), plan.compute_field_hash())
    return Folds(
        structures,
        {name: "in fewer than two groups of the reference" for name in names if name not in structures},
        tuple(tuple(int(extracted.index[i]) for i in members) for members in fitted),
        tuple(compute_key(about, [(rows.hashes[i], extracted.mask_hashes[i]) for i in members]) for members in fitted),
        dict(zip(hashes, dealt.tolist(), strict=True)),
        {
            group: side
            for group, side in zip(groups, dealt.tolist(), strict=True)
            if not group.startswith(UNGROUPED_PREFIX)
        },
        annotated,
    )


def _find_annotations(
    cubes: CubeSet, extracted: ExtractedSet, names: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows have masks, ``(n,)``, and pixels of which structures, ``(n, structure)``."""
    annotated = np.zeros(len(extracted.index), dtype=bool)
    having = np.zeros((len(extracted.index), len(names)), dtype=bool)
    for row, place in enumerate(extracted.index):
        masks = cubes.read_masks(int(place))
        annotated[row] = any(name in masks for name in names)
        having[row] = [name in masks and bool(np.any(masks[name])) for name in names]
    return annotated, having


class CrossFitSegmenter:
    """Two models, fitted once they are needed; masks and models are kept in the cache.

    Args:
        spec: which segmenter.
        cubes: the reference.
        folds: who is fitted on what.
        plan: which field of view.
        context: how.
    """

    def __init__(
        self, spec: SegmenterSpec, cubes: CubeSet, folds: Folds, plan: ExtractionPlan, context: RunContext
    ) -> None:
        self.spec, self.cubes, self.folds, self.plan, self.context = spec, cubes, folds, plan, context
        self.workers = context.workers if context.device == "cpu" else 0
        self._models: dict[int, Segmenter] = {}

    def compute_masks(self, cubes: CubeSet, extracted: ExtractedSet, *, label: str) -> list[Columns]:
        """Return for each row of a described set its masks and how its own agree; see :class:`SegmentJob`.

        Raises:
            HsevalError: the segmenter fails, here or on another rank.
        """
        rows, run = extracted.features, self.context
        models = [self.folds.select_model(*each) for each in zip(rows.hashes, rows.groups, strict=True)]
        decided = zip(models, rows.hashes, extracted.mask_hashes, strict=True)
        keys = [
            compute_key("segment-1", self.folds.model_keys[model], content, masks) for model, content, masks in decided
        ]
        found: dict[str, Columns] = dict(run.cache.load_features(keys))
        mine = [row for row in run.comm.shard_indices(len(keys)) if keys[row] not in found]
        places = {int(extracted.index[row]): row for row in mine}
        error, done = None, 0
        try:
            for part in self._run_segmentation(cubes, places, models):
                of_key = {keys[places[place]]: columns for place, columns in part.items()}
                run.cache.store_features(of_key)
                found.update(of_key)
                done += len(part)
                if run.progress is not None:
                    run.progress(f"segmenting {label}", done, len(mine))
        except Exception as failure:
            if run.comm.size == 1:
                raise
            error = format_error(failure)
        run.comm.raise_first_error(error)
        found.update(self._gather_masks(found, keys))
        return [found[name] for name in keys]

    def _run_segmentation(self, cubes: CubeSet, rows_by_index: Mapping[int, int], models: Sequence[int]) -> Any:
        if not rows_by_index:
            return iter(())
        fold, folds = {place: models[row] for place, row in rows_by_index.items()}, self.folds
        fitted = self._fit_models()
        about = (folds.structures, self.plan.field, self.plan.wavelengths)
        job = SegmentJob(self.spec.name, cubes, fold, fitted, *about)
        order = list(rows_by_index)
        return run_job(job, [order[i : i + CHUNK_CUBES] for i in range(0, len(order), CHUNK_CUBES)], self.workers)

    def _fit_models(self) -> dict[int, Segmenter]:
        """Return the models, from the cache where the segmenter can take up its state, else fitted now."""
        run = self.context
        missing = [side for side in range(FOLD_COUNT) if side not in self._models and not self._restore_model(side)]
        job = FitJob(self.spec, self.cubes, self.folds.fit_indices, self.folds.structures, self.plan.field)
        workers = self._count_fit_workers() if len(missing) > 1 else 0
        for part in run_job(job, [[side] for side in missing], workers):
            self._models.update(part)
            for side, model in part.items():
                if hasattr(model, "state"):
                    run.cache.store_features({self._compute_state_key(side): model.state()})
            if run.progress is not None:
                run.progress(f"fitting {self.spec.name}", len(self._models), FOLD_COUNT)
        return self._models

    def _count_fit_workers(self) -> int:
        """Return one process a fold, where they do not have to share a GPU and have enough to learn from."""
        run, places = self.context, self.folds.fit_indices[0]
        if run.comm.size > 1 or run.device != "cpu":
            return 0
        if run.workers is not None:
            return run.workers
        _, height, width = self.cubes.shape(places[0])
        pays = (os.cpu_count() or 1) > 1 and len(places) * height * width > MIN_PARALLEL_PIXELS
        return FOLD_COUNT if pays else 0

    def _restore_model(self, fold_index: int) -> bool:
        """Take up a model's state from the cache, if it is there."""
        built: Any = self.spec.build()
        kept = self.context.cache.load_features([self._compute_state_key(fold_index)]).get(
            self._compute_state_key(fold_index)
        )
        if kept is None or not hasattr(built, "restore"):
            return False
        built.restore(kept, self.folds.structures)
        self._models[fold_index] = built
        return True

    def _compute_state_key(self, fold_index: int) -> str:
        return compute_key("segmenter state", self.folds.model_keys[fold_index])

    def _gather_masks(self, columns_by_key: Mapping[str, Columns], keys: Sequence[str]) -> dict[str, Columns]:
        comm = self.context.comm
        if comm.size == 1:
            return {}
        mine = comm.shard_indices(len(keys))
        packed = {f"{row}:{name}": columns_by_key[keys[row]][name] for row in mine for name in (MASKS, AGREEMENT)}
        gathered: dict[str, dict[str, Any]] = {}
        for part in comm.gather(packed):
            for label, column in part.items():
                row, name = label.split(":", 1)
                gathered.setdefault(keys[int(row)], {})[name] = column
        return dict(gathered)
