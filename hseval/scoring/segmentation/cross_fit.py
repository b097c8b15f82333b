"""Cross-fits a segmenter on the reference: two folds, two models; none segments a group that it was fitted on."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hseval.core.capabilities import SupportsState
from hseval.core.cubes import FOV, CubeSet
from hseval.core.feature_table import UNGROUPED_PREFIX
from hseval.core.protocols import Segmenter
from hseval.data.content_hash import compute_key
from hseval.pipeline.cached_columns import CachedColumns, Columns, raise_on_all_ranks
from hseval.pipeline.context import RunContext
from hseval.pipeline.extract import ExtractedSet, UnchangedSet
from hseval.pipeline.worker import ExtractionPlan
from hseval.scoring.segmentation.folds import FOLD_COUNT, assign_folds, select_fit_cubes
from hseval.scoring.segmentation.jobs import FitJob, SegmenterSpec, SegmentJob
from hseval.utils.errors import HsevalError
from hseval.utils.parallel import run_chunks

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
    is_in_fold = [presence[annotated_rows][folds == fold].any(axis=0) for fold in range(FOLD_COUNT)]
    is_in_both = np.logical_and.reduce(is_in_fold)
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
    identities = list(zip(features.hashes, extracted.mask_hashes, strict=True))
    fold_by_group = dict(zip(groups, folds.tolist(), strict=True))
    return Folds(
        structures,
        {name: "in fewer than two groups of the reference" for name in names if name not in structures},
        tuple(tuple(int(extracted.index[i]) for i in members) for members in fit_rows),
        tuple(compute_key(recipe, [identities[i] for i in members]) for members in fit_rows),
        dict(zip(hashes, folds.tolist(), strict=True)),
        {group: fold for group, fold in fold_by_group.items() if not group.startswith(UNGROUPED_PREFIX)},
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
    """Two models of a reference, ``cubes``, fitted when they are needed; masks and models are stored in the cache."""

    def __init__(
        self, spec: SegmenterSpec, cubes: CubeSet, folds: Folds, plan: ExtractionPlan, context: RunContext
    ) -> None:
        self.spec, self.cubes, self.folds, self.plan, self.context = spec, cubes, folds, plan, context

    def compute_masks(self, cubes: CubeSet, extracted: ExtractedSet, *, label: str) -> list[Columns]:
        """Return each cube's masks and their agreement with its own; see :class:`SegmentJob`.

        Raises:
            HsevalError: the segmenter fails, here or on another rank.
        """
        features, folds, context = extracted.features, self.folds, self.context
        models, keys = {}, {}
        identities = zip(features.hashes.tolist(), features.groups.tolist(), extracted.mask_hashes, strict=True)
        for index, (content, group, masks) in zip(extracted.index.tolist(), identities, strict=True):
            models[index] = folds.select_model(content, group)
            keys[index] = compute_key("segment-1", folds.model_keys[models[index]], content, masks)
        columns = CachedColumns(keys, context.cache, context.ranks)
        with raise_on_all_ranks(context.ranks):
            if columns.pending:
                settings = (folds.structures, self.plan.field, self.plan.wavelengths)
                columns.compute(
                    SegmentJob(self.spec.name, UnchangedSet(cubes, extracted), models, self._models, *settings),
                    chunk_size=CHUNK_CUBES,
                    workers=context.device_workers,
                    progress=context.make_progress_callback(f"segmenting {label}"),
                )
        return columns.gather()

    @functools.cached_property
    def _models(self) -> dict[int, Segmenter]:
        """The models by fold: from the cache where the segmenter can restore its state, else newly fitted."""
        context, folds = self.context, self.folds
        models = {fold: model for fold in range(FOLD_COUNT) if (model := self._restore_model(fold)) is not None}
        missing = [[fold] for fold in range(FOLD_COUNT) if fold not in models]
        progress = context.make_progress_callback(f"fitting {self.spec.name}")
        job = FitJob(self.spec, self.cubes, folds.fit_indices, folds.structures, self.plan.field)
        for fitted in run_chunks(job, missing, self._count_fit_workers() if len(missing) > 1 else 0):
            models.update(fitted)
            for fold, model in fitted.items():
                if isinstance(model, SupportsState):
                    context.cache.store_features({self._compute_state_key(fold): model.state()})
            if progress is not None:
                progress(len(models), FOLD_COUNT)
        return models

    def _count_fit_workers(self) -> int:
        """Return one process a fold, unless they share a GPU or have too few pixels to fit on."""
        context, indices = self.context, self.folds.fit_indices[0]
        if context.ranks.size > 1 or context.device != "cpu":
            return 0
        if context.workers is not None:
            return context.workers
        _, height, width = self.cubes.shape(indices[0])
        is_faster = (os.cpu_count() or 1) > 1 and len(indices) * height * width > MIN_PARALLEL_PIXELS
        return FOLD_COUNT if is_faster else 0

    def _restore_model(self, fold: int) -> Segmenter | None:
        segmenter: Segmenter = self.spec.build()
        key = self._compute_state_key(fold)
        state = self.context.cache.load_features([key]).get(key)
        if state is None or not isinstance(segmenter, SupportsState):
            return None
        segmenter.restore(state, self.folds.structures)
        return segmenter

    def _compute_state_key(self, fold: int) -> str:
        return compute_key("segmenter state", self.folds.model_keys[fold])
