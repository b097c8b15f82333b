"""Between cubes as they are read and what the networks see: bands of mean 0 and deviation 1 inside the field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hseval.core.cubes import FOV, WAVELENGTH_TOLERANCE_NM, BoolArray, Cube, CubeSet
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng
from hseval_ldm.data.fill_values import FillValueDetector
from hseval_ldm.data.moments import Moments, Vector

MIN_STD_RATIO = 1e-2  # least deviation of a band, relative to the median band's: a dead band is not blown up to noise


class Batch(NamedTuple):
    """What the networks train on; the values of pixels outside the field are 0, in cubes and masks alike.

    Attributes:
        cubes: float32 ``(n, band, y, x)``, normalised.
        masks: float32 ``(n, structure, y, x)``, 0 or 1; 0 where the cube lacks the mask.
        has_mask: bool ``(n, structure)``, False where the cube lacks the mask.
        field: bool ``(n, 1, y, x)``, the pixels that count.
    """

    cubes: torch.Tensor
    masks: torch.Tensor
    has_mask: torch.Tensor
    field: torch.Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        return Batch(*(part.to(device, non_blocking=non_blocking) for part in self))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU do not block."""
        return Batch(*(part.pin_memory() for part in self))

    def to_network_input(self) -> torch.Tensor:
        """Return the autoencoder's input ``(n, band + structure, y, x)``: cubes, and masks as -1 and 1.

        A mask that the cube lacks is 0. Outside the field every mask is -1: no structure lies there.
        """
        inside = torch.where(self.has_mask[:, :, None, None], self.masks * 2 - 1, 0.0)
        return torch.cat([self.cubes, torch.where(self.field, inside, -1.0)], dim=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalization:
    """What training has to know of a set, kept with every checkpoint.

    Attributes:
        mean, std: float64 ``(band,)``, over the valid pixels; the deviation has a floor.
        low, high: float64 ``(band,)``, least and greatest value measured.
        wavelengths: float64 ``(band,)`` nm, or None where they are unknown.
        units: of the pixel values, where the set says so.
        structures: names of the masks, sorted.
        size: ``(y, x)``.
    """

    mean: Vector
    deviation: Vector
    low: Vector
    high: Vector
    wavelengths: Vector | None
    units: str | None
    structures: tuple[str, ...]
    size: tuple[int, int]

    @classmethod
    def measure(cls, data: CubeSet, indices: Sequence[int], *, seed: int = 0, limit: int = 512) -> Normalization:
        """Measure the cubes at ``indices``, or ``limit`` of them drawn from the stream (seed, "normalisation").

        Raises:
            HsevalError: cubes of several shapes, no valid pixel, valid pixels that are all the same, or a fill value.
        """
        shape = _get_common_shape(data)
        order = create_rng(seed, "normalisation").permutation(len(indices))[:limit]
        moments, extremes = Moments(shape[0]), FillValueDetector(len(order))
        for place in sorted(order.tolist()):
            cube = data[indices[place]]
            values = cube.data[:, find_valid_pixels(cube)].astype(np.float64)
            moments.add(values)
            extremes.add(cube.id, values)
        where = data.info.location
        if not moments.count:
            told = f"none of {len(order)} cubes has a pixel in its field that is finite in all bands"
            raise HsevalError(f"{where}: {told}; nothing to learn")
        deviation = moments.compute_std()
        if not deviation.any():
            raise HsevalError(f"{where}: all valid pixels of {len(order)} cubes have the same values; nothing to learn")
        extremes.check(data)
        known = data.info.wavelengths_known
        return cls(
            mean=moments.mean,
            deviation=np.maximum(deviation, MIN_STD_RATIO * np.median(deviation[deviation > 0])),
            low=moments.low,
            high=moments.high,
            wavelengths=np.array(data.wavelengths, dtype=np.float64) if known else None,
            units=data.info.units,
            structures=tuple(sorted(data.structures)),
            size=shape[1:],
        )

    def to_record(self) -> dict[str, Any]:
        """Return a mapping that JSON holds without loss."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Normalization:
        """Return what :meth:`to_record` was called on.

        Raises:
            HsevalError: an entry is missing or of another kind.
        """
        try:
            bands = {name: _parse_vector(record[name]) for name in ("mean", "deviation", "low", "high")}
            nm = None if record["wavelengths"] is None else _parse_vector(record["wavelengths"])
            height, width = map(int, record["size"])
            structures, units = tuple(map(str, record["structures"])), record["units"]
        except KeyError as error:
            raise HsevalError(f"normalisation: {error.args[0]!r} is missing; train again") from error
        except (TypeError, ValueError) as error:
            raise HsevalError(f"normalisation: damaged ({error}); train again") from error
        if len({len(v) for v in (*bands.values(), nm) if v is not None}) != 1:
            raise HsevalError("normalisation: damaged (its entries have different numbers of bands); train again")
        return cls(**bands, wavelengths=nm, units=units, structures=structures, size=(height, width))

    def check_compatible(self, data: CubeSet) -> None:
        """Raise HsevalError unless ``data`` has the shape, wavelengths and structures that were measured."""
        where, shape, expected = data.info.location, _get_common_shape(data), (len(self.mean), *self.size)
        if shape != expected:
            raise HsevalError(f"{where}: cubes have shape {shape}, the checkpoint was trained on {expected}")
        if data.info.wavelengths_known and self.wavelengths is not None:
            gaps = np.abs(data.wavelengths - self.wavelengths)
            band = int(gaps.argmax())
            if gaps[band] > WAVELENGTH_TOLERANCE_NM:
                found, wanted = data.wavelengths[band], self.wavelengths[band]
                told = f"band {band} is at {found:.6g} nm, at {wanted:.6g} nm in the checkpoint"
                raise HsevalError(f"{where}: {told}; resample the set or train on it anew")
        if tuple(sorted(data.structures)) != self.structures:
            found, wanted = (", ".join(names) or "none" for names in (sorted(data.structures), self.structures))
            raise HsevalError(f"{where}: has the masks {found}, the checkpoint was trained with {wanted}")

    def to_batch(self, cubes: Sequence[Cube]) -> Batch:
        """Return cubes as tensors on the CPU; each cube's part depends on that cube alone.

        Raises:
            HsevalError: a cube's shape is not the one measured.
        """
        count, bands, names = len(cubes), len(self.mean), self.structures
        images = np.zeros((count, bands, *self.size), dtype=np.float32)
        masks = np.zeros((count, len(names), *self.size), dtype=np.float32)
        field = np.zeros((count, 1, *self.size), dtype=bool)
        mean, deviation = (v.astype(np.float32)[:, None, None] for v in (self.mean, self.deviation))
        for place, cube in enumerate(cubes):
            if cube.data.shape != images.shape[1:]:
                told = f"cube {cube.id!r} has shape {cube.data.shape}, expected {images.shape[1:]}"
                raise HsevalError(f"{told} as in the training set")
            field[place, 0] = valid = find_valid_pixels(cube)
            np.divide(cube.data - mean, deviation, out=images[place], where=valid)
            for number, name in enumerate(names):
                masks[place, number] = cube.masks[name] & valid if name in cube.masks else False
        known = np.array([[name in cube.masks for name in names] for cube in cubes], dtype=bool)
        parts = (images, masks, known.reshape(count, len(names)), field)
        return Batch(*map(torch.from_numpy, parts))

    def to_physical(self, cubes: torch.Tensor) -> torch.Tensor:
        """Return normalised cubes ``(n, band, y, x)`` in the units of the training set."""
        return cubes * _broadcast_bands(cubes, self.deviation) + _broadcast_bands(cubes, self.mean)

    def clip(self, cubes: torch.Tensor, *, margin: float = 0.05) -> torch.Tensor:
        """Clip cubes ``(n, band, y, x)``, in physical units, to the values measured.

        ``margin`` widens each band's range on both sides, relative to its width, but not below 0 where no
        measured value is negative.
        """
        room = margin * (self.high - self.low)
        low = np.where(self.low >= 0, np.maximum(self.low - room, 0), self.low - room)
        return torch.minimum(
            torch.maximum(cubes, _broadcast_bands(cubes, low)), _broadcast_bands(cubes, self.high + room)
        )


def find_valid_pixels(cube: Cube) -> BoolArray:
    """Return where a cube says something, bool ``(y, x)``: in its field of view and finite in all bands."""
    finite: BoolArray = np.logical_and.reduce(np.isfinite(cube.data))
    return np.logical_and(finite, cube.masks[FOV]) if FOV in cube.masks else finite


def _get_common_shape(data: CubeSet) -> tuple[int, int, int]:
    shape = data.shape(0)
    for index, name in enumerate(data.ids):
        if data.shape(index) != shape:
            found = f"cube {name!r} has shape {data.shape(index)}, cube {data.ids[0]!r} has {shape}"
            raise HsevalError(f"{data.info.location}: {found}; hseval_ldm needs cubes of one shape")
    return shape


def _parse_vector(values: Any) -> Vector:
    vector = np.array(values, dtype=np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("expected lists of finite numbers")
    return vector


def _broadcast_bands(cubes: torch.Tensor, values: Vector) -> torch.Tensor:
    return torch.as_tensor(values, dtype=cubes.dtype, device=cubes.device)[:, None, None]
