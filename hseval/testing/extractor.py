"""The contract of extractors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, CubeSet
from hseval.data.preprocessing import preprocess_cube
from hseval.testing.contract import Contract, ContractError, is_close
from hseval.testing.examples import make_example_set

FeatureColumns = Mapping[str, NDArray[Any]]
FILL_TOLERANCE = 1e-3  # how far the shape of the field may move the rows of a constant cube


def check_extractor(extractor: Any, *, data: CubeSet | None = None) -> None:
    """Check an extractor's class, or an instance with options, on small cubes (or on those given, of one shape).

    Checked: its name, version, summary and options; rows are floats whose first axis is the cube, NaN only
    where there is nothing to describe; the same for the same input; row i depends on cube i alone, whatever the
    batch; the input is left alone; invalid pixels (NaN) are left out rather than counted as zeros; and where it says
    that it reads no structures, masks other than ``fov`` change nothing.

    Raises:
        ContractError: what was found, and what the contract asks.
    """
    contract = Contract("extractor", extractor)
    contract.check_attributes("version")
    contract.check_options()
    reads_structures = contract.check_flag("reads_structures", default=True)
    contract.check_flag("needs_nm", default=False)
    built = contract.build(extractor)
    call = contract.get_method(built, "__call__", "__call__(self, cubes, *, wavelengths, masks)")
    contract.check_keyword_only(call, ("wavelengths", "masks"))
    batch = _Batch.from_set(data or make_example_set(4))
    rows = _check_features(contract, built, batch)
    _check_batch_independence(contract, built, batch, rows)
    _check_full_field(contract, built, batch)
    _check_surround(contract, built, batch)
    if not reads_structures:
        _check_other_masks(contract, built, batch, rows)


class _Batch:
    """What an extractor is called with."""

    def __init__(self, cubes: NDArray[Any], wavelengths: NDArray[Any], masks: Mapping[str, NDArray[Any]]) -> None:
        self.cubes, self.wavelengths, self.masks = cubes, wavelengths, masks

    @classmethod
    def from_set(cls, data: CubeSet) -> _Batch:
        names = tuple(sorted({FOV, *data.structures}))
        prepared = [found for cube in data if (found := preprocess_cube(cube, names)) is not None]
        masks = {name: np.stack([each.masks[name] for each in prepared]) for name in names}
        return cls(np.stack([each.data for each in prepared]), data.wavelengths, masks)

    def select(self, index: Any) -> _Batch:
        return _Batch(self.cubes[index], self.wavelengths, {name: mask[index] for name, mask in self.masks.items()})

    def extract_features(self, extractor: Any) -> FeatureColumns:
        masks = {name: mask.copy() for name, mask in self.masks.items()}
        rows = extractor(self.cubes.copy(), wavelengths=self.wavelengths.copy(), masks=masks)
        return rows if isinstance(rows, Mapping) else {"": rows}


def _check_features(contract: Contract, extractor: Any, batch: _Batch) -> FeatureColumns:
    untouched = batch.cubes.copy()
    try:
        rows = extractor(batch.cubes, wavelengths=batch.wavelengths, masks=batch.masks)
    except KeyError as error:
        raise ContractError(
            f"{contract.subject}: raises KeyError ({error}); here masks has {', '.join(batch.masks)}. Only 'fov' is in "
            "every set: go through sorted(masks), or leave NaN for a structure that is not there"
        ) from error
    contract.require(
        np.array_equal(untouched, batch.cubes, equal_nan=True),
        "writes to the cubes it is given; other extractors get the same array, so copy first",
    )
    columns = rows if isinstance(rows, Mapping) else {"": rows}
    contract.require(len(columns) > 0, "returns no rows; expected an array (n, ...) or a mapping of such arrays")
    for name, column in columns.items():
        what = _format_column_name(name)
        contract.require(
            isinstance(column, np.ndarray) and np.issubdtype(column.dtype, np.floating),
            f"{what} is {_describe_type(column)}, no float array of numpy; its first axis has to be the cube",
        )
        contract.require(
            column.shape[:1] == (len(batch.cubes),),
            f"{what} has shape {column.shape} for {len(batch.cubes)} cubes; the first axis has to be the cube",
        )
        contract.require(
            not np.isinf(column).any() and np.isfinite(column.reshape(len(column), -1)).any(axis=1).all(),
            f"{what} holds Inf, or NaN alone; pixels outside the field of view come as NaN and have to be left out",
        )
    again = batch.extract_features(extractor)
    contract.require(
        all(np.array_equal(column, again[name], equal_nan=True) for name, column in columns.items()),
        "gives other rows for the same cubes; it has to be deterministic, since rows are cached",
    )
    return columns


def _check_batch_independence(contract: Contract, extractor: Any, batch: _Batch, features: FeatureColumns) -> None:
    backwards = np.arange(len(batch.cubes))[::-1]
    for index in (np.array([1]), backwards):
        part = batch.select(index).extract_features(extractor)
        for name, column in features.items():
            contract.require(
                is_close(part[name], column[index]),
                f"{_format_column_name(name)}: a cube's row changes with the other cubes in its batch; row i may depend on cube i "
                "alone (no batch statistics)",
            )


def _check_other_masks(contract: Contract, extractor: Any, batch: _Batch, features: FeatureColumns) -> None:
    """Compare rows with those of the same cubes without other masks, and with other masks turned inside out."""
    field = batch.masks[FOV]
    turned = {name: field & ~mask for name, mask in batch.masks.items() if name != FOV}
    for others in ({}, {**turned, "another": field & (np.arange(field.shape[-1]) % 2 == 0)}):
        again = _Batch(batch.cubes, batch.wavelengths, {FOV: field, **others}).extract_features(extractor)
        contract.require(
            again.keys() == features.keys() and all(is_close(again[name], column) for name, column in features.items()),
            "says reads_structures = False and gives other rows where masks other than 'fov' change; the cache would "
            "serve rows of other masks, so leave reads_structures out",
        )


def _check_full_field(contract: Contract, extractor: Any, batch: _Batch) -> None:
    # NaN may say that there is nothing to describe; in a frame that is valid throughout there always is something.
    whole = np.ones_like(batch.masks[FOV])
    full = _Batch(np.nan_to_num(batch.cubes, nan=0.3), batch.wavelengths, {**batch.masks, FOV: whole})
    for name, column in full.extract_features(extractor).items():
        contract.require(np.isfinite(column).all(), f"column {name!r} holds NaN though every pixel is valid")


def _check_surround(contract: Contract, extractor: Any, batch: _Batch) -> None:
    """Compare constant cubes in a round and in a full field.

    Where a number follows the cube's value it is a statistic of pixels, and then must not depend on how many NaN
    surround them. Numbers that do not follow it (pixel counts, normalised maps) are free to.
    """
    for name, (round_, full, brighter) in _extract_constant_cubes(extractor, batch).items():
        follows = np.abs(brighter - full) > FILL_TOLERANCE * np.abs(full).max(initial=0)
        follows &= np.isfinite(round_)
        scale = np.abs(full[follows]).max(initial=0)
        contract.require(
            bool(np.all(np.abs(round_ - full)[follows] <= FILL_TOLERANCE * scale)),
            f"{_format_column_name(name)}: a constant cube gets other rows when its field of view is round than when it fills the "
            "frame; NaN pixels are counted, as zeros perhaps. Leave them out, and fill smoothly before any filter",
        )


def _extract_constant_cubes(extractor: Any, batch: _Batch) -> Mapping[str, tuple[NDArray[Any], ...]]:
    """Return each column's row of a constant cube: in a round field, in a full field, and twice as bright in that."""
    _, bands, height, width = batch.cubes.shape
    y, x = np.ogrid[:height, :width]
    disc = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) < 0.5
    whole = np.ones_like(disc)
    described = []
    for field, value in ((disc, 0.4), (whole, 0.4), (whole, 0.8)):
        cube = np.where(field, np.float32(value), np.float32(np.nan))
        cubes = np.ascontiguousarray(np.broadcast_to(cube, (1, bands, height, width)))
        masks = dict.fromkeys(batch.masks, field[None])
        described.append(_Batch(cubes, batch.wavelengths, masks).extract_features(extractor))
    return {name: tuple(np.asarray(rows[name], dtype=np.float64) for rows in described) for name in described[0]}


def _format_column_name(name: str) -> str:
    """Return what a message calls a column; an extractor that returns a bare array has one without a name."""
    return f"column {name!r}" if name else "its array of rows"


def _describe_type(column: Any) -> str:
    """Return what was given in place of an array of floats."""
    return f"an array of {column.dtype}" if isinstance(column, np.ndarray) else f"a {type(column).__name__}"
