"""The two long steps of segmentation, in chunks for one process or several: fitting folds, predicting masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, CubeSet
from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Segmenter
from hseval.data.content_hash import compute_key
from hseval.data.preprocessing import preprocess_cube
from hseval.pipeline.cached_columns import Columns
from hseval.pipeline.worker import PluginSpec
from hseval.scoring.segmentation.segmented_set import PreparedSet, count_agreement, pack_masks
from hseval.utils.errors import HsevalError
from hseval.utils.parallel import JobSpec

FIT_VERSION = "fit-1"  # raised whenever `fit` or `segment` get something else for the same cubes
MASKS, AGREEMENT = "masks", "agreement"


@dataclasses.dataclass(frozen=True)
class SegmenterSpec(PluginSpec):
    """A segmenter by name and options.

    Attributes:
        is_requested: whether the user named it.
        missing_structures: the reference's structures that the samples have no masks of.
    """

    kind: ClassVar[str] = "segmenter"
    is_requested: bool = True
    missing_structures: tuple[str, ...] = ()

    def compute_recipe_key(self) -> str:
        """Return the key of everything, besides the cubes that it is fitted on, that decides the segmenter's masks."""
        return compute_key(FIT_VERSION, *self.describe_identity(self.build()))


@dataclasses.dataclass(frozen=True)
class FitJob:
    """Fits one segmenter a fold.

    Attributes:
        spec: which segmenter.
        cubes: the reference.
        fit_indices: of each fold, the cubes to fit on, in the order of their content.
        structures: names to learn.
        field: the field that replaces the cubes' own, or None.
    """

    spec: SegmenterSpec
    cubes: CubeSet
    fit_indices: tuple[tuple[int, ...], ...]
    structures: tuple[str, ...]
    field: NDArray[np.bool_] | None

    def run_chunk(self, chunk: list[int]) -> dict[int, Segmenter]:
        """Return the fitted segmenters of some folds."""
        return {fold: self._fit_fold(fold) for fold in chunk}

    def get_spec(self) -> JobSpec:
        """Return how a worker builds this job."""
        return FitJob, (self.spec, self.cubes, self.fit_indices, self.structures, self.field)

    def _fit_fold(self, fold: int) -> Segmenter:
        segmenter: Segmenter = self.spec.build()
        data = PreparedSet(self.cubes.subset(self.fit_indices[fold]), self.structures, self.field)
        with get_plugins().wrap_errors("segmenter", self.spec.name):
            segmenter.fit(data)
        return segmenter


@dataclasses.dataclass(frozen=True)
class SegmentJob:
    """Predicts the masks of some cubes of a set.

    Attributes:
        segmenter_name: the segmenter's.
        cubes: the set.
        model_by_index: index in the set -> fold of its model.
        models: fitted segmenters, by fold.
        structures: names to look for, sorted.
        field: the field that replaces the cubes' own, or None.
        wavelengths: ``(band,)``.
    """

    segmenter_name: str
    cubes: CubeSet
    model_by_index: Mapping[int, int]
    models: Mapping[int, Segmenter]
    structures: tuple[str, ...]
    field: NDArray[np.bool_] | None
    wavelengths: NDArray[Any]

    def run_chunk(self, chunk: list[int]) -> dict[int, Columns]:
        """Return by index: ``masks``, packed by :func:`pack_masks`, and their ``agreement`` with the cube's own."""
        return {index: self._segment_cube(index) for index in chunk}

    def get_spec(self) -> JobSpec:
        """Return how a worker builds this job; fitted models travel by pickling, as sets do."""
        return SegmentJob, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _segment_cube(self, index: int) -> Columns:
        cube = self.cubes[index]
        visible = preprocess_cube(cube, (*self.structures, FOV), fov=self.field)
        assert visible is not None
        field, model = visible.masks[FOV], self.models[self.model_by_index[index]]
        with get_plugins().wrap_errors("segmenter", self.segmenter_name):
            predicted = model.segment(visible.data[None], wavelengths=self.wavelengths)
            masks = _check_masks(predicted, self.structures, field.shape, self.segmenter_name) & field
        own = np.stack([visible.masks[name] for name in self.structures])
        return {MASKS: pack_masks(masks), AGREEMENT: count_agreement(masks, own)}


def _check_masks(
    predicted: Mapping[str, NDArray[Any]], structures: Sequence[str], shape: tuple[int, ...], segmenter_name: str
) -> NDArray[np.bool_]:
    """Return the masks of one cube, ``(structure, y, x)``.

    Raises:
        HsevalError: a structure is missing, or a mask is not bool ``(1, y, x)``.
    """
    masks = []
    for structure in structures:
        mask = np.asarray(predicted[structure]) if structure in predicted else None
        if mask is None or mask.shape != (1, *shape) or mask.dtype != np.bool_:
            label = "nothing" if mask is None else f"{mask.dtype} {mask.shape}"
            raise HsevalError(f"segmenter {segmenter_name!r}: {label} for {structure!r}; bool {(1, *shape)} expected")
        masks.append(mask[0])
    return np.stack(masks)
