"""Cubes and sets of cubes, as readers return them and all other code consumes them."""

from __future__ import annotations

import dataclasses
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from hseval.core.display import render_html

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

FOV = "fov"  # the structure that marks the valid pixels
WAVELENGTH_TOLERANCE_NM = 0.1  # sets whose band centers differ by more are not comparable


@dataclasses.dataclass(frozen=True)
class Cube:
    """One hyperspectral image.

    Attributes:
        data: float32 ``(band, y, x)``, bands in ascending order of wavelength.
        masks: structure name -> bool ``(y, x)``; ``fov``, where present, marks the valid pixels.
        id: its name in reports.
        group: name shared by dependent cubes (of a patient, visit, scene), or None.
    """

    data: FloatArray
    masks: Mapping[str, BoolArray] = dataclasses.field(default_factory=dict)
    id: str = ""
    group: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class IndexIds(Sequence[str]):
    """Ids ``"000000"``, ``"000001"`` ... of cubes without names, made when they are needed: there may be millions."""

    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        positions = range(self.length)[index]
        return f"{positions:06d}" if isinstance(positions, int) else tuple(f"{i:06d}" for i in positions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list's


@dataclasses.dataclass(frozen=True)
class SetInfo:
    """What is known about a set without reading a pixel.

    Attributes:
        location: the path as the user gave it, for messages.
        ids: one per cube, unique.
        wavelengths: float64 ``(band,)``, ascending, nm; band indices where wavelengths are unknown.
        wavelengths_known: False where ``wavelengths`` holds band indices.
        structures: names of the masks that at least one cube has, sorted.
        groups: one per cube, or None.
        labels: label name -> one value a cube.
        units: of the pixel values, where the file states them.
        notes: what the reader assumed or fixed (axis order, sorted bands ...): shown in reports.
        provenance: generator, version, options, seed, where the file states them.
    """

    location: str
    ids: Sequence[str]
    wavelengths: FloatArray
    wavelengths_known: bool = True
    structures: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    labels: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    units: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class CubeSet(ABC):
    """A lazy sequence of cubes: opening one reads headers, ``[i]`` reads pixels.

    Subclasses fill ``info`` and implement :meth:`read` and :meth:`shape`. Sets are pickled to worker processes, so
    their state holds no open file handles.
    """

    info: SetInfo

    @abstractmethod
    def read(self, index: int) -> Cube:
        """Read one cube, ``0 <= index < len(self)``."""

    @abstractmethod
    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)`` of one cube without reading its pixels."""

    def sources(self, index: int) -> tuple[Path, ...]:
        """Return the files that cube ``index`` is read from; none for a cube in memory."""
        return ()

    def recipe(self, index: int) -> str:
        """Return what, besides the files' bytes, decides cube ``index``: its position, layout, band order."""
        return str(index)

    def read_masks(self, index: int) -> Mapping[str, BoolArray]:
        """Return the masks of one cube; subclasses override it where the pixels need not be read."""
        return self.read(index).masks

    def __len__(self) -> int:
        return len(self.info.ids)

    def __getitem__(self, index: int) -> Cube:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cube {index} of {len(self)}")
        return self.read(index % len(self))

    def __iter__(self) -> Iterator[Cube]:
        return (self.read(index) for index in range(len(self)))

    @property
    def ids(self) -> Sequence[str]:
        """One id a cube."""
        return self.info.ids

    @property
    def wavelengths(self) -> FloatArray:
        """Band centers in nm, ascending, ``(band,)``."""
        return self.info.wavelengths

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the masks."""
        return self.info.structures

    @property
    def groups(self) -> tuple[str, ...] | None:
        """One group a cube, or None."""
        return self.info.groups

    @property
    def labels(self) -> Mapping[str, Sequence[Any]]:
        """Label name -> one value a cube."""
        return self.info.labels

    def _repr_html_(self) -> str | None:
        """Return the set for a notebook: a table of its headers, and a picture of its first cubes."""
        return render_html("set", self)

    def subset(self, indices: Sequence[int]) -> CubeSet:
        """Return a lazy set of the cubes at ``indices``."""
        return Subset(self, tuple(indices))


class DerivedSet(CubeSet):
    """Base of sets made of another set's cubes, whose shapes and files theirs are unless they override that.

    Masks are those of :meth:`read`, which subclasses implement.
    """

    base: CubeSet

    def locate(self, index: int) -> tuple[CubeSet, int]:
        """Return the set that cube ``index`` is made of, and its index there."""
        return self.base, index

    def shape(self, index: int) -> tuple[int, int, int]:
        cubes, base_index = self.locate(index)
        return cubes.shape(base_index)

    def sources(self, index: int) -> tuple[Path, ...]:
        cubes, base_index = self.locate(index)
        return cubes.sources(base_index)

    def recipe(self, index: int) -> str:
        cubes, base_index = self.locate(index)
        return cubes.recipe(base_index)


class Subset(DerivedSet):
    """Some cubes of another set; an index may occur several times."""

    def __init__(self, base: CubeSet, indices: tuple[int, ...]) -> None:
        self.base, self.indices = base, indices
        info = base.info
        self.info = dataclasses.replace(
            info,
            ids=tuple(info.ids[i] for i in indices),
            groups=tuple(info.groups[i] for i in indices) if info.groups is not None else None,
            labels={name: [values[i] for i in indices] for name, values in info.labels.items()},
        )

    def locate(self, index: int) -> tuple[CubeSet, int]:
        return self.base, self.indices[index]

    def read(self, index: int) -> Cube:
        return self.base.read(self.indices[index])

    def read_masks(self, index: int) -> Mapping[str, BoolArray]:
        return self.base.read_masks(self.indices[index])


class ArraySet(CubeSet):
    """A set in memory, for notebooks and tests.

    Args:
        cubes: float ``(n, band, y, x)``.
        wavelengths: ``(band,)`` nm, ascending; None: band indices are used.
        masks: structure name -> bool ``(n, y, x)``.
    """

    def __init__(
        self,
        cubes: FloatArray,
        *,
        wavelengths: FloatArray | None = None,
        masks: Mapping[str, BoolArray] | None = None,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        location: str = "array",
    ) -> None:
        self.cubes = np.asarray(cubes, dtype=np.float32)
        self.masks = {name: np.asarray(mask, dtype=bool) for name, mask in (masks or {}).items()}
        count, bands = self.cubes.shape[:2]
        known = wavelengths is not None
        self.info = SetInfo(
            location=location,
            ids=tuple(ids) if ids is not None else IndexIds(count),
            wavelengths=np.asarray(wavelengths if known else np.arange(bands), dtype=np.float64),
            wavelengths_known=known,
            structures=tuple(sorted(self.masks)),
            groups=tuple(groups) if groups is not None else None,
        )

    def read(self, index: int) -> Cube:
        group = None if self.groups is None else self.groups[index]
        return Cube(self.cubes[index], self.read_masks(index), self.ids[index], group)

    def shape(self, index: int) -> tuple[int, int, int]:
        bands, height, width = self.cubes.shape[1:]
        return bands, height, width

    def read_masks(self, index: int) -> Mapping[str, BoolArray]:
        return {name: mask[index] for name, mask in self.masks.items()}
