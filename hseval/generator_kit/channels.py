"""Conversion between a cube with its masks and one array of channels, which a network generates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.data.field_of_view import find_valid_pixels
from hseval.data.moments import Moments
from hseval.data.validation import get_common_shape
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count
from hseval.utils.structured_files import convert_record

Array = NDArray[Any]
_RECORD_KEYS = {"std": "deviation"}  # attributes whose key in a checkpoint has another name
# Smallest standard deviation of a band, relative to the median band's: keeps a dead band from being scaled up to noise.
MIN_BAND_STD_RATIO = 1e-2


@dataclasses.dataclass(frozen=True)
class _ChannelRecord:
    mean: list[float]
    deviation: list[float]
    structures: tuple[str, ...]
    size: tuple[int, int]
    multiple: int
    wavelengths: list[float] | None
    units: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelCodec:
    """How the cubes of a set become channels, and back.

    The first channels are the bands, with mean 0 and standard deviation 1 over the valid pixels; the masks follow, -1
    outside and 1 inside. Invalid pixels, and those outside the field of view, are 0 in every band. A mask that is
    the same in all cubes (an instrument's field of view) is no channel: it is stored, and returned with every cube. A
    cube without a mask has none of that structure.

    Attributes:
        mean, std: float64 ``(band,)``.
        structures: names of the masks that are channels.
        fixed_masks: bool ``(y, x)`` by name, the masks that never change.
        size: ``(y, x)`` of the cubes.
        multiple: channels are padded at the bottom and the right to a multiple of it, for networks that halve sides.
        wavelengths: nm, float64 ``(band,)``; None where they are unknown.
        units: of the pixel values, where the set states them.
    """

    mean: Array
    std: Array
    structures: tuple[str, ...]
    fixed_masks: Mapping[str, Array]
    size: tuple[int, int]
    multiple: int = 1
    wavelengths: Array | None = None
    units: str | None = None

    @classmethod
    def from_set(cls, data: CubeSet, *, multiple: int = 1) -> ChannelCodec:
        """Measure a set, in one pass over its cubes.

        Raises:
            HsevalError: no cubes, cubes of several shapes, or valid pixels that are all the same.
        """
        location, shape = data.info.location, get_common_shape(data)
        moments, fixed = Moments(shape[0]), {name: _get_mask(data[0], name) for name in data.structures}
        for cube in data:
            moments.add(cube.data[:, find_valid_pixels(cube.data, cube.masks.get(FOV))])
            fixed = {name: mask for name, mask in fixed.items() if np.array_equal(mask, _get_mask(cube, name))}
        std = moments.compute_std()
        if not std.any():
            count = format_count(len(data), "cube")
            raise HsevalError(f"{location}: the valid pixels of its {count} all have the same value; nothing to learn")
        return cls(
            mean=moments.mean,
            std=np.maximum(std, MIN_BAND_STD_RATIO * np.median(std[std > 0])),
            structures=tuple(name for name in data.structures if name not in fixed),
            fixed_masks=fixed,
            size=shape[1:],
            multiple=multiple,
            wavelengths=np.array(data.wavelengths, dtype=np.float64) if data.info.wavelengths_known else None,
            units=data.info.units,
        )

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.mean) + len(self.structures)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of :meth:`encode`'s result, padding included."""
        height, width = (-(-side // self.multiple) * self.multiple for side in self.size)
        return self.n_channels, height, width

    def encode(self, cube: Cube) -> NDArray[np.float32]:
        """Return a cube as channels, float32 ``(channel, y, x)``; the padding repeats the last row and column."""
        bands = (cube.data - self.mean[:, None, None]) / self.std[:, None, None]
        masks = [2.0 * _get_mask(cube, name) - 1.0 for name in self.structures]
        valid = find_valid_pixels(cube.data, cube.masks.get(FOV))
        channels = np.concatenate([np.where(valid, bands, 0.0), *(mask[None] for mask in masks)])
        down, right = (padded - side for padded, side in zip(self.shape[1:], self.size, strict=True))
        return np.pad(channels, ((0, 0), (0, down), (0, right)), mode="edge").astype(np.float32)

    def decode(self, channels: Array) -> tuple[NDArray[np.float32], dict[str, Array]]:
        """Return channels ``(channel, y, x)`` as a cube ``(band, y, x)``, 0 outside its own field, and its masks."""
        cropped = channels[:, : self.size[0], : self.size[1]]
        n_bands = len(self.mean)
        masks = {name: cropped[n_bands + number] > 0 for number, name in enumerate(self.structures)} | dict(
            self.fixed_masks
        )
        field = masks.get(FOV, np.ones(self.size, dtype=np.bool_))
        cube = cropped[:n_bands] * self.std[:, None, None] + self.mean[:, None, None]
        return np.where(field, cube, 0.0).astype(np.float32), {name: masks[name] & field for name in sorted(masks)}

    def as_record(self) -> dict[str, Any]:
        """Return all but the fixed masks, as values that JSON stores without loss."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "fixed_masks"]
        record = {_RECORD_KEYS.get(name, name): getattr(self, name) for name in names}
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in record.items()}

    def as_tensors(self) -> dict[str, Array]:
        """Return the fixed masks as safetensors stores them, under ``fixed.NAME``."""
        return {f"fixed.{name}": mask.astype(np.uint8) for name, mask in self.fixed_masks.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], tensors: Mapping[str, Array]) -> ChannelCodec:
        """Rebuild the codec from the results of :meth:`as_record` and :meth:`as_tensors`.

        Raises:
            HsevalError: the record lacks an entry.
        """
        fixed = {name.removeprefix("fixed."): mask.astype(bool) for name, mask in tensors.items() if "fixed." in name}
        subject = "the checkpoint's record of its channels"
        values = convert_record(record, _ChannelRecord, subject)
        bands, nm = len(values.mean), values.wavelengths
        is_consistent = (
            len(values.deviation) == bands > 0
            and min(values.deviation) > 0
            and (nm is None or len(nm) == bands)
            and min(*values.size, values.multiple) > 0
            and all(mask.shape == values.size for mask in fixed.values())
        )
        if not is_consistent:
            raise HsevalError(f"{subject} is damaged: its bands, sizes and masks do not agree; train again")
        return cls(
            mean=np.array(values.mean),
            std=np.array(values.deviation),
            structures=values.structures,
            fixed_masks=fixed,
            size=values.size,
            multiple=values.multiple,
            wavelengths=None if nm is None else np.array(nm),
            units=values.units,
        )


def _get_mask(cube: Cube, name: str) -> Array:
    return cube.masks.get(name, np.full(cube.data.shape[1:], name == FOV))
