"""Normalization of cubes for the networks: bands of mean 0 and standard deviation 1 inside the field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hseval.plugin import (
    FOV,
    WAVELENGTH_TOLERANCE_NM,
    Cube,
    CubeSet,
    HsevalError,
    Moments,
    create_rng,
    find_valid_pixels,
    format_count,
    get_common_shape,
)
from hseval_ldm.data.fill_values import FillValueDetector, Vector

# Smallest standard deviation of a band, relative to the median band's: keeps a dead band from being scaled up to noise.
MIN_STD_RATIO = 1e-2
_RECORD_KEYS = {"std": "deviation"}  # attributes whose key in config.json has another name


class Batch(NamedTuple):
    """Training data of the networks; pixels outside the field are 0, in cubes and masks alike.

    Attributes:
        cubes: float32 ``(n, band, y, x)``, normalized.
        masks: float32 ``(n, structure, y, x)``, 0 or 1; 0 where the cube lacks the mask.
        has_mask: bool ``(n, structure)``, False where the cube lacks the mask.
        field: bool ``(n, 1, y, x)``, the valid pixels.
    """

    cubes: torch.Tensor
    masks: torch.Tensor
    has_mask: torch.Tensor
    field: torch.Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        return Batch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def to_network_input(self) -> torch.Tensor:
        """Return the autoencoder's input ``(n, band + structure, y, x)``: cubes, and masks as -1 and 1.

        A mask that the cube lacks is 0. Outside the field every mask is -1. In memory channels are last, where
        convolutions are fastest.
        """
        inside = torch.where(self.has_mask[:, :, None, None], self.masks * 2 - 1, 0.0)
        joined = torch.cat([self.cubes, torch.where(self.field, inside, -1.0)], dim=1)
        return joined.contiguous(memory_format=torch.channels_last)


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """Return the batch with sides padded to multiples of ``multiple`` by pixels outside the field."""
    below, right = (-side % multiple for side in batch.cubes.shape[-2:])
    if not below and not right:
        return batch
    cubes, masks = (torch.nn.functional.pad(images, (0, right, 0, below)) for images in (batch.cubes, batch.masks))
    field = torch.nn.functional.pad(batch.field.byte(), (0, right, 0, below)).bool()
    return Batch(cubes, masks, batch.has_mask, field)


@dataclasses.dataclass(frozen=True, eq=False)
class Normalization:
    """Statistics and format of a training set, stored with every run.

    Attributes:
        mean, std: float64 ``(band,)``, over the valid pixels; ``std`` has a lower bound.
        low, high: float64 ``(band,)``, smallest and largest value measured.
        wavelengths: float64 ``(band,)`` nm, or None where they are unknown.
        units: of the pixel values, where the set states them.
        structures: names of the masks, sorted.
        size: ``(y, x)``.
    """

    mean: Vector
    std: Vector
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
        shape = get_common_shape(data)
        order = create_rng(seed, "normalisation").permutation(len(indices))[:limit]
        moments, extremes = Moments(shape[0]), FillValueDetector(len(order))
        for position in sorted(order.tolist()):
            cube = data[indices[position]]
            values = cube.data[:, find_valid_pixels(cube.data, cube.masks.get(FOV))].astype(np.float64)
            moments.add(values)
            extremes.add(cube.id, values)
        location, count = data.info.location, format_count(len(order), "cube")
        if not moments.count:
            reason = f"none of {count} has a pixel in its field that is finite in all bands"
            raise HsevalError(f"{location}: {reason}; nothing to learn")
        std = moments.compute_std()
        if not std.any():
            raise HsevalError(f"{location}: all valid pixels of {count} have the same values; nothing to learn")
        extremes.check(data)
        has_wavelengths = data.info.wavelengths_known
        return cls(
            mean=moments.mean,
            std=np.maximum(std, MIN_STD_RATIO * np.median(std[std > 0])),
            low=moments.low,
            high=moments.high,
            wavelengths=np.array(data.wavelengths, dtype=np.float64) if has_wavelengths else None,
            units=data.info.units,
            structures=tuple(sorted(data.structures)),
            size=shape[1:],
        )

    def to_record(self) -> dict[str, Any]:
        """Return a mapping that JSON stores without loss."""
        record = {_RECORD_KEYS.get(f.name, f.name): getattr(self, f.name) for f in dataclasses.fields(self)}
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in record.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Normalization:
        """Rebuild the normalization from a result of :meth:`to_record`.

        Raises:
            HsevalError: an entry is missing or of another type.
        """
        try:
            bands = {
                name: _parse_vector(record[_RECORD_KEYS.get(name, name)]) for name in ("mean", "std", "low", "high")
            }
            nm = None if record["wavelengths"] is None else _parse_vector(record["wavelengths"])
            height, width = map(int, record["size"])
            structures, units = tuple(map(str, record["structures"])), record["units"]
        except KeyError as error:
            raise HsevalError(f"normalization: {error.args[0]!r} is missing; train again") from error
        except (TypeError, ValueError) as error:
            raise HsevalError(f"normalization: damaged ({error}); train again") from error
        if len({len(v) for v in (*bands.values(), nm) if v is not None}) != 1:
            raise HsevalError("normalization: damaged (its entries have different numbers of bands); train again")
        return cls(**bands, wavelengths=nm, units=units, structures=structures, size=(height, width))

    def check_compatible(self, data: CubeSet) -> None:
        """Raise HsevalError unless ``data`` has the shape, wavelengths and structures that were measured."""
        location, shape, expected = data.info.location, get_common_shape(data), (len(self.mean), *self.size)
        if shape != expected:
            raise HsevalError(f"{location}: cubes have shape {shape}, the checkpoint was trained on {expected}")
        if data.info.wavelengths_known and self.wavelengths is not None:
            gaps = np.abs(data.wavelengths - self.wavelengths)
            band = int(gaps.argmax())
            if gaps[band] > WAVELENGTH_TOLERANCE_NM:
                mismatch = f"band {band} is at {data.wavelengths[band]:.6g} nm, at {self.wavelengths[band]:.6g} nm"
                raise HsevalError(f"{location}: {mismatch} in the checkpoint; resample the set, or train a new run")
        if tuple(sorted(data.structures)) != self.structures:
            ours, theirs = (", ".join(names) or "none" for names in (sorted(data.structures), self.structures))
            raise HsevalError(f"{location}: has the masks {ours}, the checkpoint was trained with {theirs}")

    def to_batch(self, cubes: Sequence[Cube]) -> Batch:
        """Return cubes as tensors on the CPU; the values of a cube depend on that cube alone.

        Raises:
            HsevalError: a cube's shape is not the one measured.
        """
        count, bands, names = len(cubes), len(self.mean), self.structures
        images = np.zeros((count, bands, *self.size), dtype=np.float32)
        masks = np.zeros((count, len(names), *self.size), dtype=np.float32)
        field = np.zeros((count, 1, *self.size), dtype=bool)
        mean, std = (v.astype(np.float32)[:, None, None] for v in (self.mean, self.std))
        for position, cube in enumerate(cubes):
            if cube.data.shape != images.shape[1:]:
                mismatch = f"cube {cube.id!r} has shape {cube.data.shape}, expected {images.shape[1:]}"
                raise HsevalError(f"{mismatch} as in the training set")
            field[position, 0] = valid = find_valid_pixels(cube.data, cube.masks.get(FOV))
            np.divide(cube.data - mean, std, out=images[position], where=valid)
            for number, name in enumerate(names):
                masks[position, number] = cube.masks[name] & valid if name in cube.masks else False
        has_mask = np.array([[name in cube.masks for name in names] for cube in cubes], dtype=bool)
        arrays = (images, masks, has_mask.reshape(count, len(names)), field)
        return Batch(*map(torch.from_numpy, arrays))

    def to_physical(self, cubes: torch.Tensor) -> torch.Tensor:
        """Return normalized cubes ``(n, band, y, x)`` in the units of the training set."""
        return cubes * _broadcast_bands(cubes, self.std) + _broadcast_bands(cubes, self.mean)

    def clip(self, cubes: torch.Tensor, *, margin: float = 0.05) -> torch.Tensor:
        """Clip cubes ``(n, band, y, x)``, in physical units, to the range measured.

        ``margin`` widens each band's range on both sides, relative to its width, but not below 0 where no
        measured value is negative.
        """
        extra = margin * (self.high - self.low)
        low = np.where(self.low >= 0, np.maximum(self.low - extra, 0), self.low - extra)
        clipped = torch.maximum(cubes, _broadcast_bands(cubes, low))
        return torch.minimum(clipped, _broadcast_bands(cubes, self.high + extra))


def _parse_vector(values: Any) -> Vector:
    vector = np.array(values, dtype=np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("expected lists of finite numbers")
    return vector


def _broadcast_bands(cubes: torch.Tensor, values: Vector) -> torch.Tensor:
    return torch.as_tensor(values, dtype=cubes.dtype, device=cubes.device)[:, None, None]
