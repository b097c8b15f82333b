"""Cross-fits a segmenter on the reference: two folds, two models; none segments a group that it was fitted on."""

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
MIN_PARALLEL_PIXELS = 100_000  # of a fold: for fewer, starting two processes takes longer than fitting in turn
CHUNK_CUBES = 4  # cubes a worker segments at a time


class SegmentationError(HsevalError):
    """A segmenter can't be fitted and tested on the reference, or finds nothing in held-out cubes."""


@dataclasses.dataclass(frozen=True)
class Folds:
    """Which cubes each model is fitted on, and which it segments.

    Attributes:
        structures: names of structures that both folds have, sorted.
        exclusion_reasons: structure -> why it can't be segmented.
        fit_indices: of each fold, indices in the reference that its model is fitted on.
        model_keys: of each fold, the key of everything that decides its model.
        fold_by_content: content hash -> fold, of the reference's cubes with masks.
        fold_by_group: group -> fold, of their groups (a cube without a group shares none with another set).
        is_annotated: bool ``(n,)``: which cubes of the reference have masks.
    """

    structures: tuple[str, ...]
    exclusion_reasons: Mapping[str, str]
    fit_indices: tuple[tuple[int, ...], ...]
    model_keys: tuple[str, ...]
    fold_by_content: Mapping[str, int]
    fold_by_group: Mapping[str, int]
    is_annotated: NDArray[np.bool_]

    def select_model(self, content: str, group: str) -> int:
        """Return the fold of a cube's model, which was not fitted on its group; for new groups, by content hash."""
        fold = self.fold_by_content.get(content, self.fold_by_group.get(group))
        return int(content[:8], 16) % FOLD_COUNT if fold is None else 1 - fold


def build_folds(spec: SegmenterSpec, cubes: CubeSet, extracted: ExtractedSet, plan: ExtractionPlan) -> Folds:
    """Assign the reference's cubes that have masks to folds.

    Raises:
        SegmentationError: no structure is in two groups of cubes, one to fit on and one held out.
    """
    names = tuple(sorted(set(cubes.structures) - {FOV}))
    annotated, presence = _find_annotations(cubes, extracted, names)
    features = extracted.features
    annotated_rows = np.flatnonzero(annotated)
    hashes, groups = features.hashes[annotated_rows].tolist(), features.groups[annotated_rows].tolist()
    folds = assign_folds(contents=hashes, groups=groups, presence=presence[annotated_rows])
    is_in_both = np.logical_and.reduce(
        [presence[annotated_rows][folds == fold].any(axis=0) for fold in range(FOLD_COUNT)]
    )
    structures = tuple(name for name, is_usable in zip(names, is_in_both, strict=True) if is_usable)
    if not structures:
        raise SegmentationError(
            f"{cubes.info.location}: no structure is in two groups of cubes with masks, so a segmenter can't be "
            "fitted and tested (--segmenter none scores without one)"
        )
    fit_rows = []
    for fold in range(FOLD_COUNT):
        members = annotated_rows[folds == fold]
        fit_rows.append([int(members[i]) for i in select_fit_cubes(presence[members][:, is_in_both], MAX_FIT_CUBES)])
    recipe = (spec.compute_recipe_key(), structures, plan.wavelengths.tolist(), plan.compute_field_hash())
    return Folds(
        structures,
        {name: "in fewer than two groups of the reference" for name in names if name not in structures},
        tuple(tuple(int(extracted.index[i]) for i in members) for members in fit_rows),
        tuple(
            compute_key(recipe, [(features.hashes[i], extracted.mask_hashes[i]) for i in members])
            for members in fit_rows
        ),
        dict(zip(hashes, folds.tolist(), strict=True)),
        {
            group: fold
            for group, fold in zip(groups, folds.tolist(), strict=True)
            if not group.startswith(UNGROUPED_PREFIX)
        },
        annotated,
    )


def _find_annotations(
    cubes: CubeSet, extracted: ExtractedSet, names: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool ``(n,)``: which cubes have masks, and ``(n, structure)``: pixels of which structures."""
    annotated = np.zeros(len(extracted.index), dtype=bool)
    presence = np.zeros((len(extracted.index), len(names)), dtype=bool)
    for row, index in enumerate(extracted.index):
        masks = cubes.read_masks(int(index))
        annotated[row] = any(name in masks for name in names)
        presence[row] = [name in masks and bool(np.any(masks[name])) for name in names]
    return annotated, presence


class CrossFitSegmenter:
    """Two models, fitted when they are needed; masks and models are stored in the cache.

    Args:
        spec: which segmenter.
        cubes: the reference.
        folds: which cubes each model is fitted on.
        plan: which field of view.
        context: of the run.
    """

    def __init__(
        self, spec: SegmenterSpec, cubes: CubeSet, folds: Folds, plan: ExtractionPlan, context: RunContext
    ) -> None:
        self.spec, self.cubes, self.folds, self.plan, self.context = spec, cubes, folds, plan, context
        self.workers = context.workers if context.device == "cpu" else 0
        self._models: dict[int, Segmenter] = {}

    def compute_masks(self, cubes: CubeSet, extracted: ExtractedSet, *, label: str) -> list[Columns]:
        """Return each cube's masks and their agreement with its own; see :class:`SegmentJob`.

        Raises:
            HsevalError: the segmenter fails, here or on another rank.
        """
        features, context = extracted.features, self.context
        models = [self.folds.select_model(*identity) for identity in zip(features.hashes, features.groups, strict=True)]
        identities = zip(models, features.hashes, extracted.mask_hashes, strict=True)
        keys = [
            compute_key("segment-1", self.folds.model_keys[model], content, masks)
            for model, content, masks in identities
        ]
        columns_by_key: dict[str, Columns] = dict(context.cache.load_features(keys))
        pending = [row for row in context.comm.shard_indices(len(keys)) if keys[row] not in columns_by_key]
        rows_by_index = {int(extracted.index[row]): row for row in pending}
        error, done = None, 0
        try:
            for chunk in self._run_segmentation(cubes, rows_by_index, models):
                computed = {keys[rows_by_index[index]]: columns for index, columns in chunk.items()}
                context.cache.store_features(computed)
                columns_by_key.update(computed)
                done += len(chunk)
                if context.progress is not None:
                    context.progress(f"segmenting {label}", done, len(pending))
        except Exception as failure:
            if context.comm.size == 1:
                raise
            error = format_error(failure)
        context.comm.raise_first_error(error)
        columns_by_key.update(self._gather_masks(columns_by_key, keys))
        return [columns_by_key[name] for name in keys]

    def _run_segmentation(self, cubes: CubeSet, rows_by_index: Mapping[int, int], models: Sequence[int]) -> Any:
        if not rows_by_index:
            return iter(())
        model_by_index, folds = {index: models[row] for index, row in rows_by_index.items()}, self.folds
        fitted_models = self._fit_models()
        settings = (folds.structures, self.plan.field, self.plan.wavelengths)
        job = SegmentJob(self.spec.name, cubes, model_by_index, fitted_models, *settings)
        indices = list(rows_by_index)
        return run_job(job, [indices[i : i + CHUNK_CUBES] for i in range(0, len(indices), CHUNK_CUBES)], self.workers)

    def _fit_models(self) -> dict[int, Segmenter]:
        """Return the models, from the cache where the segmenter can restore its state, else newly fitted."""
        context = self.context
        missing = [fold for fold in range(FOLD_COUNT) if fold not in self._models and not self._restore_model(fold)]
        job = FitJob(self.spec, self.cubes, self.folds.fit_indices, self.folds.structures, self.plan.field)
        workers = self._count_fit_workers() if len(missing) > 1 else 0
        for fitted in run_job(job, [[fold] for fold in missing], workers):
            self._models.update(fitted)
            for fold, model in fitted.items():
                if hasattr(model, "state"):
                    context.cache.store_features({self._compute_state_key(fold): model.state()})
            if context.progress is not None:
                context.progress(f"fitting {self.spec.name}", len(self._models), FOLD_COUNT)
        return self._models

    def _count_fit_workers(self) -> int:
        """Return one process a fold, unless they share a GPU or have too few pixels to fit on."""
        context, indices = self.context, self.folds.fit_indices[0]
        if context.comm.size > 1 or context.device != "cpu":
            return 0
        if context.workers is not None:
            return context.workers
        _, height, width = self.cubes.shape(indices[0])
        is_faster = (os.cpu_count() or 1) > 1 and len(indices) * height * width > MIN_PARALLEL_PIXELS
        return FOLD_COUNT if is_faster else 0

    def _restore_model(self, fold_index: int) -> bool:
        """Restore a model's state from the cache; return whether it was there."""
        segmenter: Any = self.spec.build()
        state = self.context.cache.load_features([self._compute_state_key(fold_index)]).get(
            self._compute_state_key(fold_index)
        )
        if state is None or not hasattr(segmenter, "restore"):
            return False
        segmenter.restore(state, self.folds.structures)
        self._models[fold_index] = segmenter
        return True

    def _compute_state_key(self, fold_index: int) -> str:
        return compute_key("segmenter state", self.folds.model_keys[fold_index])

    def _gather_masks(self, columns_by_key: Mapping[str, Columns], keys: Sequence[str]) -> dict[str, Columns]:
        comm = self.context.comm
        if comm.size == 1:
            return {}
        own_rows = comm.shard_indices(len(keys))
        packed = {f"{row}:{name}": columns_by_key[keys[row]][name] for row in own_rows for name in (MASKS, AGREEMENT)}
        gathered: dict[str, dict[str, Any]] = {}
        for received in comm.gather(packed):
            for label, column in received.items():
                row, name = label.split(":", 1)
                gathered.setdefault(keys[int(row)], {})[name] = column
        return dict(gathered)
