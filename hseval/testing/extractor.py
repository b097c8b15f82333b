"""The contract of extractors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.capabilities import reads_structures
from hseval.core.cubes import FOV, CubeSet
from hseval.data.preprocessing import preprocess_cube
from hseval.testing.contract import CheckRecord, Contract, is_close
from hseval.testing.examples import make_example_set
from hseval.utils.plural import format_count

FeatureColumns = Mapping[str, NDArray[Any]]
FILL_TOLERANCE = 1e-3  # relative change of a constant cube's features that the shape of the field may cause


def check_extractor(extractor: Any, *, data: CubeSet | None = None) -> CheckRecord:
    """Check an extractor's class, or an instance with options, on small cubes (or on ``data``, of one shape).

    Checked: its name, version, summary and options; features are floats whose first axis is the cube, NaN only
    where there is nothing to describe; they are the same for the same input; row i depends only on cube i, whatever the
    batch; the input is not changed; invalid pixels (NaN) are left out rather than counted as zeros; and if it declares
    that it reads no structures, masks other than ``fov`` change nothing.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("extractor", extractor)
    contract.check_attributes("version")
    contract.check_options()
    contract.check_flag("reads_structures", default=True)
    contract.check_flag("needs_nm", default=False)
    built = contract.build()
    call = contract.get_method(built, "__call__", "__call__(self, cubes, *, wavelengths, masks)")
    contract.check_keyword_only(call, ("wavelengths", "masks"))
    batch = _Batch.from_set(data or make_example_set(4))
    features = _check_features(contract, built, batch)
    _check_batch_independence(contract, built, batch, features)
    _check_full_field(contract, built, batch)
    _check_surround(contract, built, batch)
    if reads_structures(built):
        contract.skip("independence of masks other than 'fov'", "it reads structures")
    else:
        _check_other_masks(contract, built, batch, features)
    return contract.get_record()


class _Batch:
    """The arguments of an extractor."""

    def __init__(self, cubes: NDArray[Any], wavelengths: NDArray[Any], masks: Mapping[str, NDArray[Any]]) -> None:
        self.cubes, self.wavelengths, self.masks = cubes, wavelengths, masks

    @classmethod
    def from_set(cls, data: CubeSet) -> _Batch:
        names = tuple(sorted({FOV, *data.structures}))
        cubes = [ready for cube in data if (ready := preprocess_cube(cube, names)) is not None]
        masks = {name: np.stack([cube.masks[name] for cube in cubes]) for name in names}
        return cls(np.stack([cube.data for cube in cubes]), data.wavelengths, masks)

    def select(self, index: Any) -> _Batch:
        return _Batch(self.cubes[index], self.wavelengths, {name: mask[index] for name, mask in self.masks.items()})

    def extract_features(self, extractor: Any) -> FeatureColumns:
        masks = {name: mask.copy() for name, mask in self.masks.items()}
        features = extractor(self.cubes.copy(), wavelengths=self.wavelengths.copy(), masks=masks)
        return features if isinstance(features, Mapping) else {"": features}


def _check_features(contract: Contract, extractor: Any, batch: _Batch) -> FeatureColumns:
    original = batch.cubes.copy()
    message = (
        f"raises {{error}}; masks has {', '.join(batch.masks)}. Only 'fov' is in every set: loop over sorted(masks), "
        "or return NaN for a missing structure"
    )
    with contract.explain_errors(message, KeyError):
        features = extractor(batch.cubes, wavelengths=batch.wavelengths, masks=batch.masks)
    contract.require(
        np.array_equal(original, batch.cubes, equal_nan=True),
        "writes to its input cubes; other extractors get the same array, so copy first",
    )
    columns = features if isinstance(features, Mapping) else {"": features}
    contract.require(len(columns) > 0, "returns no features; expected an array (n, ...) or a mapping of such arrays")
    for name, column in columns.items():
        label = _format_column_name(name)
        contract.require(
            isinstance(column, np.ndarray) and np.issubdtype(column.dtype, np.floating),
            f"{label} is {_describe_type(column)}, not a float array of numpy; its first axis has to be the cube",
        )
        contract.require(
            column.shape[:1] == (len(batch.cubes),),
            f"{label} has shape {column.shape} for {format_count(len(batch.cubes), 'cube')}; "
            "the first axis has to be the cube",
        )
        contract.require(
            not np.isinf(column).any() and np.isfinite(column.reshape(len(column), -1)).any(axis=1).all(),
            f"{label} holds Inf, or only NaN; pixels outside the field of view are NaN and have to be left out",
        )
    again = batch.extract_features(extractor)
    contract.require(
        all(np.array_equal(column, again[name], equal_nan=True) for name, column in columns.items()),
        "returns different features for the same cubes; it has to be deterministic, since features are cached",
    )
    return columns


def _check_batch_independence(contract: Contract, extractor: Any, batch: _Batch, features: FeatureColumns) -> None:
    if len(batch.cubes) < 2:
        contract.skip("independence of the batch", "there is one cube")
        return
    for index in (np.array([1]), np.arange(len(batch.cubes))[::-1]):
        selected = batch.select(index).extract_features(extractor)
        for name, column in features.items():
            contract.require(
                is_close(selected[name], column[index]),
                f"{_format_column_name(name)}: a cube's features change with the other cubes in its batch; row i may "
                "depend only on cube i (no batch statistics)",
            )


def _check_other_masks(contract: Contract, extractor: Any, batch: _Batch, features: FeatureColumns) -> None:
    """Compare features with those of the same cubes without other masks, and with inverted other masks."""
    field = batch.masks[FOV]
    inverted = {name: field & ~mask for name, mask in batch.masks.items() if name != FOV}
    for others in ({}, {**inverted, "another": field & (np.arange(field.shape[-1]) % 2 == 0)}):
        again = _Batch(batch.cubes, batch.wavelengths, {FOV: field, **others}).extract_features(extractor)
        contract.require(
            again.keys() == features.keys() and all(is_close(again[name], column) for name, column in features.items()),
            "declares reads_structures = False, but its features change with masks other than 'fov'; the cache would "
            "return features of other masks, so leave reads_structures out",
        )


def _check_full_field(contract: Contract, extractor: Any, batch: _Batch) -> None:
    # NaN may mean that there is nothing to describe; in a frame without invalid pixels there always is.
    full_field = np.ones_like(batch.masks[FOV])
    full = _Batch(np.nan_to_num(batch.cubes, nan=0.3), batch.wavelengths, {**batch.masks, FOV: full_field})
    for name, column in full.extract_features(extractor).items():
        contract.require(np.isfinite(column).all(), f"column {name!r} holds NaN although every pixel is valid")


def _check_surround(contract: Contract, extractor: Any, batch: _Batch) -> None:
    """Compare the features of constant cubes in a round and in a full field.

    A feature that changes with the cube's value is a statistic of pixels, and must not depend on the number of NaN
    around them. Features that do not change with it (pixel counts, normalized maps) may depend on it.
    """
    for name, (round_, full, brighter) in _extract_constant_cubes(extractor, batch).items():
        is_statistic = np.abs(brighter - full) > FILL_TOLERANCE * np.abs(full).max(initial=0)
        is_statistic &= np.isfinite(round_)
        if not is_statistic.any():
            contract.skip(f"{_format_column_name(name)} of constant cubes", "no feature changes with their value")
            continue
        scale = np.abs(full[is_statistic]).max(initial=0)
        contract.require(
            bool(np.all(np.abs(round_ - full)[is_statistic] <= FILL_TOLERANCE * scale)),
            f"{_format_column_name(name)}: a constant cube has different features if its field of view is round and if "
            "it fills the frame; NaN pixels are counted, perhaps as zeros. Leave them out, and fill smoothly before "
            "any filter",
        )


def _extract_constant_cubes(extractor: Any, batch: _Batch) -> Mapping[str, tuple[NDArray[Any], ...]]:
    """Return each column for a constant cube in a round field, in a full field, and in a full field twice as bright."""
    _, bands, height, width = batch.cubes.shape
    y, x = np.ogrid[:height, :width]
    disc = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) < 0.5
    full = np.ones_like(disc)
    features = []
    for field, value in ((disc, 0.4), (full, 0.4), (full, 0.8)):
        cube = np.where(field, np.float32(value), np.float32(np.nan))
        cubes = np.ascontiguousarray(np.broadcast_to(cube, (1, bands, height, width)))
        masks = dict.fromkeys(batch.masks, field[None])
        features.append(_Batch(cubes, batch.wavelengths, masks).extract_features(extractor))
    return {name: tuple(np.asarray(columns[name], dtype=np.float64) for columns in features) for name in features[0]}


def _format_column_name(name: str) -> str:
    """Return the name of a column for a message; the column of an extractor that returns an array has no name."""
    return f"column {name!r}" if name else "its feature array"


def _describe_type(column: Any) -> str:
    return f"an array of {column.dtype}" if isinstance(column, np.ndarray) else f"a {type(column).__name__}"
