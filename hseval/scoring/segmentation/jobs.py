"""The two long steps of segmenting, cut into chunks for one process or several: fitting folds, finding masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.options import as_dict
from hseval.core.plugin_manager import plugins
from hseval.data.content_hash import key
from hseval.data.preprocessing import prepare
from hseval.scoring.segmentation.segmented_set import PreparedSet, agreement, packed
from hseval.utils.errors import HsevalError
from hseval.utils.parallel import Assignment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Segmenter

Columns = Mapping[str, "NDArray[Any]"]
FITTED = "fit-1"  # raised whenever the same cubes are served to `fit` or `segment` otherwise
MASKS, AGREEMENT = "masks", "agreement"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A segmenter by name and options: small enough to send to a worker process, which builds its own.

    Attributes:
        name: the plugin's.
        asked: whether the user named it.
        lacking: the reference's structures that the samples have no masks of.
        options: as given.
        device: where it computes, if it can choose.
    """

    name: str
    asked: bool
    lacking: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = "cpu"

    def build(self) -> Segmenter:
        """Return the segmenter, not fitted."""
        built: Segmenter = plugins().build("segmenter", self.name, self.options)
        if hasattr(built, "device"):
            built.device = self.device
        return built

    def recipe(self) -> str:
        """Return what, besides the cubes that it is fitted on, decides what the segmenter finds."""
        built = self.build()
        fingerprint = built.fingerprint() if hasattr(built, "fingerprint") else ""
        options = as_dict(getattr(built, "options", None)) or dict(self.options)
        return key(FITTED, self.name, plugins().origin("segmenter", self.name), built.version, options, fingerprint)


@dataclasses.dataclass(frozen=True)
class FitJob:
    """Fits one segmenter a fold.

    Attributes:
        choice: which segmenter.
        cubes: the reference.
        places: of each fold, the cubes to fit on, in the order of their content.
        structures: names to learn.
        field: the field that stands in for the cubes' own, or None.
    """

    choice: Choice
    cubes: CubeSet
    places: tuple[tuple[int, ...], ...]
    structures: tuple[str, ...]
    field: NDArray[np.bool_] | None

    def work(self, chunk: list[int]) -> dict[int, Segmenter]:
        """Return the fitted segmenters of some folds."""
        return {fold: self._fitted(fold) for fold in chunk}

    def assignment(self) -> Assignment:
        """Return how a worker builds this job."""
        return FitJob, (self.choice, self.cubes, self.places, self.structures, self.field)

    def _fitted(self, fold: int) -> Segmenter:
        segmenter = self.choice.build()
        data = PreparedSet(self.cubes.subset(self.places[fold]), self.structures, self.field)
        with plugins().blaming("segmenter", self.choice.name):
            segmenter.fit(data)
        return segmenter


@dataclasses.dataclass(frozen=True)
class SegmentJob:
    """Finds the masks of some cubes of a set.

    Attributes:
        name: the segmenter's.
        cubes: the set.
        fold: place -> which model.
        models: fitted segmenters, by fold.
        structures: names to look for, sorted.
        field: the field that stands in for the cubes' own, or None.
        wavelengths: ``(band,)``.
    """

    name: str
    cubes: CubeSet
    fold: Mapping[int, int]
    models: Mapping[int, Segmenter]
    structures: tuple[str, ...]
    field: NDArray[np.bool_] | None
    wavelengths: NDArray[Any]

    def work(self, chunk: list[int]) -> dict[int, Columns]:
        """Return by place: ``masks``, packed by :mod:`hseval.scoring.segmentation.segmented_set`, and how the cube's own agree."""
        return {place: self._found(place) for place in chunk}

    def assignment(self) -> Assignment:
        """Return how a worker builds this job; fitted models travel by pickling, as sets do."""
        return SegmentJob, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def _found(self, place: int) -> Columns:
        cube = self.cubes[place]
        seen = prepare(cube, (*self.structures, FIELD), field=self.field)
        assert seen is not None
        with plugins().blaming("segmenter", self.name):
            found = self.models[self.fold[place]].segment(seen.data[None], wavelengths=self.wavelengths)
            masks = _checked(found, self.structures, seen.data.shape[1:], self.name) & seen.masks[FIELD]
        own = np.stack([seen.masks[name] for name in self.structures])
        return {MASKS: packed(masks), AGREEMENT: agreement(masks, own)}


def _checked(
    found: Mapping[str, NDArray[Any]], structures: Sequence[str], shape: tuple[int, ...], name: str
) -> NDArray[np.bool_]:
    """Return the masks of one cube, ``(structure, y, x)``.

    Raises:
        HsevalError: a structure is missing, or a mask is not bool ``(1, y, x)``.
    """
    masks = []
    for structure in structures:
        mask = np.asarray(found[structure]) if structure in found else None
        if mask is None or mask.shape != (1, *shape) or mask.dtype != np.bool_:
            what = "nothing" if mask is None else f"{mask.dtype} {mask.shape}"
            raise HsevalError(f"segmenter {name!r}: {what} for {structure!r}; bool {(1, *shape)} expected")
        masks.append(mask[0])
    return np.stack(masks)
