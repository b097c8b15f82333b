"""Between a cube with its masks and one array of channels, which is what a network draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.utils.errors import HsevalError

Array = NDArray[Any]
MIN_BAND_STD_RATIO = (
    1e-2  # least deviation of a band, relative to the median band's: a dead band is not blown up to noise
)


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelCodec:
    """How the cubes of a set become channels, and back.

    The first channels are the bands, with mean 0 and deviation 1 over the valid pixels; behind them stands each mask,
    -1 outside and 1 inside. Invalid pixels, and those outside the field of view, are 0 in every band. A mask that is
    the same in all cubes (an instrument's field of view) is no channel: it is kept, and given back with every cube. A
    cube without a mask has none of that structure.

    Attributes:
        mean, std: float64 ``(band,)``.
        structures: names of the masks that are channels.
        fixed_masks: bool ``(y, x)`` by name, the masks that never change.
        size: ``(y, x)`` of the cubes.
        multiple: channels are padded at the bottom and the right to a multiple of it, as networks that halve need.
        wavelengths: nm, float64 ``(band,)``; None where they are unknown.
        units: of the pixel values, where the set says so.
    """

    mean: Array
    deviation: Array
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
        where, shape = data.info.location, _find_common_shape(data)
        moments, fixed = _RunningMoments(shape[0]), {name: _get_mask(data[0], name) for name in data.structures}
        for cube in data:
            moments.add(cube.data[:, _compute_valid_mask(cube)])
            fixed = {name: mask for name, mask in fixed.items() if np.array_equal(mask, _get_mask(cube, name))}
        deviation = moments.compute_std()
        if not deviation.any():
            raise HsevalError(f"{where}: the valid pixels of its {len(data)} cubes are all the same; nothing to learn")
        return cls(
            mean=moments.mean,
            deviation=np.maximum(deviation, MIN_BAND_STD_RATIO * np.median(deviation[deviation > 0])),
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
        bands = (cube.data - self.mean[:, None, None]) / self.deviation[:, None, None]
        masks = [2.0 * _get_mask(cube, name) - 1.0 for name in self.structures]
        whole = np.concatenate([np.where(_compute_valid_mask(cube), bands, 0.0), *(mask[None] for mask in masks)])
        down, right = (padded - side for padded, side in zip(self.shape[1:], self.size, strict=True))
        return np.pad(whole, ((0, 0), (0, down), (0, right)), mode="edge").astype(np.float32)

    def decode(self, channels: Array) -> tuple[NDArray[np.float32], dict[str, Array]]:
        """Return channels ``(channel, y, x)`` as a cube ``(band, y, x)``, 0 outside its own field, and its masks."""
        cut = channels[:, : self.size[0], : self.size[1]]
        bands = len(self.mean)
        masks = {name: cut[bands + number] > 0 for number, name in enumerate(self.structures)} | dict(self.fixed_masks)
        field = masks.get(FOV, np.ones(self.size, dtype=np.bool_))
        cube = cut[:bands] * self.deviation[:, None, None] + self.mean[:, None, None]
        shown = {name: masks[name] & field for name in sorted(masks)}
        return np.where(field, cube, 0.0).astype(np.float32), shown

    def as_record(self) -> dict[str, Any]:
        """Return all but the fixed masks, as JSON holds it without loss."""
        record = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "fixed_masks"
        }
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in record.items()}

    def as_tensors(self) -> dict[str, Array]:
        """Return the fixed masks as safetensors holds them, under ``fixed.NAME``."""
        return {f"fixed.{name}": mask.astype(np.uint8) for name, mask in self.fixed_masks.items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], tensors: Mapping[str, Array]) -> ChannelCodec:
        """Return what :meth:`as_record` and :meth:`as_tensors` were called on.

        Raises:
            HsevalError: the record lacks an entry.
        """
        fixed = {name.removeprefix("fixed."): each.astype(bool) for name, each in tensors.items() if "fixed." in name}
        try:
            known = record["wavelengths"]
            return cls(
                mean=np.array(record["mean"]),
                deviation=np.array(record["deviation"]),
                structures=tuple(record["structures"]),
                fixed_masks=fixed,
                size=(int(record["size"][0]), int(record["size"][1])),
                multiple=int(record["multiple"]),
                wavelengths=None if known is None else np.array(known),
                units=record["units"],
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise HsevalError(f"the checkpoint's record of its channels is damaged ({error!r}); train again") from error

    def is_equal_to(self, other: ChannelCodec) -> bool:
        """Say whether another set's channels are these: what a run that goes on must find."""
        fixed = self.fixed_masks.keys() == other.fixed_masks.keys()
        return self.as_record() == other.as_record() and fixed and all(
            np.array_equal(mask, other.fixed_masks[name]) for name, mask in self.fixed_masks.items()
        )  # fmt: skip


class _RunningMoments:
    """Mean and deviation over all pixels of all cubes, added up without loss (Chan et al. 1983, equation 2.1)."""

    def __init__(self, n_bands: int) -> None:
        self.count, self.mean, self.sum_of_squares = 0, np.zeros(n_bands), np.zeros(n_bands)

    def add(self, values: Array) -> None:
        """Add pixels ``(band, pixel)``."""
        count = values.shape[1]
        if not count:
            return
        exact = values.astype(np.float64)
        mean = exact.mean(axis=1)
        apart, total = mean - self.mean, self.count + count
        self.sum_of_squares += ((exact - mean[:, None]) ** 2).sum(axis=1) + apart**2 * self.count * count / total
        self.mean = self.mean + apart * count / total
        self.count = total

    def compute_std(self) -> Array:
        """Return the deviation of all that was added, ``(band,)``."""
        return np.asarray(np.sqrt(self.sum_of_squares / max(self.count, 1)))


def _find_common_shape(data: CubeSet) -> tuple[int, int, int]:
    if not len(data):
        raise HsevalError(f"{data.info.location}: holds no cubes, and there is nothing to learn from")
    shape = data.shape(0)
    for index, name in enumerate(data.ids):
        if data.shape(index) != shape:
            found = f"cube {name!r} has shape {data.shape(index)}, cube {data.ids[0]!r} has {shape}"
            raise HsevalError(f"{data.info.location}: {found}; a network needs cubes of one shape")
    return shape


def _get_mask(cube: Cube, name: str) -> Array:
    return cube.masks.get(name, np.full(cube.data.shape[1:], name == FOV))


def _compute_valid_mask(cube: Cube) -> Array:
    """Return the pixels that count, bool ``(y, x)``: in the field and finite in all bands."""
    return _get_mask(cube, FOV) & np.isfinite(cube.data).all(axis=0)
