"""The contract of segmenters."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, Cube, CubeSet
from hseval.scoring.segmentation.segmented_set import PreparedSet, count_agreement, dice
from hseval.testing.contract import Contract, ContractError
from hseval.testing.examples import make_example_set
from hseval.utils.errors import format_error

MIN_DICE = 0.3  # Dice that finding a plain bright disc takes: a third of the way from nothing
MAX_CHANGED_SHARE = 1e-3  # share of pixels that a batch may move across a threshold


def check_segmenter(segmenter: Any, *, data: CubeSet | None = None) -> None:
    """Check a segmenter's class, or an instance with options, on small cubes (or on those given, with masks).

    Checked: its name, version, summary and options; that it learns every structure but ``fov``, and finds it in cubes
    that it has not seen; what it returns; that the same cubes make the same segmenter; that a cube's masks depend on
    that cube alone; that cubes are left alone; that it survives the way to a worker process; and that before ``fit``
    it refuses.

    Args:
        segmenter: the class, or an instance; the class is built anew with the instance's ``options``.
        data: cubes of one shape with masks, half of which it is fitted on.

    Raises:
        ContractError: what was found, and what the contract asks.
    """
    contract = Contract("segmenter", segmenter)
    contract.check_attributes("version")
    contract.check_options()
    contract.check_keyword_only(contract.build(segmenter).segment, ("wavelengths",))
    whole = data or make_example_set(12)
    half = len(whole) // 2
    seen, other = (_prepare_set(whole.subset(part)) for part in (range(half), range(half, len(whole))))
    trial = _SegmenterTrial(contract, segmenter, seen, other)
    unfitted, first = trial.build_new_instance(), other[0].data[None]
    contract.check_refuses(lambda: unfitted.segment(first, wavelengths=whole.wavelengths), "segment before fit")
    fitted = trial.fit_new_instance()
    found = [trial.segment_cube(fitted, cube) for cube in other]
    trial.check_dice(found)
    trial.check_determinism(fitted, found[0])
    trial.check_batch_independence(fitted, found)
    trial.check_state(fitted, found[0])


def _prepare_set(data: CubeSet) -> CubeSet:
    return PreparedSet(data, data.structures, None)


class _ReadOnlySet(CubeSet):
    """Another set whose cubes can't be written to."""

    def __init__(self, base: CubeSet) -> None:
        self.base, self.info = base, base.info

    def read(self, index: int) -> Cube:
        """Read a cube that is locked."""
        cube = self.base.read(index)
        for array in (cube.data, *cube.masks.values()):
            array.flags.writeable = False
        return cube

    def shape(self, index: int) -> tuple[int, int, int]:
        """Return ``(band, y, x)``."""
        return self.base.shape(index)


class _SegmenterTrial:
    """A segmenter, what it is fitted on, and what it has not seen."""

    def __init__(self, contract: Contract, segmenter: Any, training_set: CubeSet, holdout: CubeSet) -> None:
        self.contract, self.segmenter, self.training_set, self.holdout = contract, segmenter, training_set, holdout
        self.structures = tuple(sorted(set(training_set.structures) - {FOV}))

    def build_new_instance(self) -> Any:
        """Return a new instance with the same options, so that nothing comes along in memory."""
        options = getattr(self.segmenter, "options", None)
        if isinstance(self.segmenter, type) or options is None:
            return self.contract.build(self.contract.factory)
        return type(self.segmenter)(options)

    def fit_new_instance(self) -> Any:
        fresh, who = self.build_new_instance(), self.contract.subject
        try:
            fresh.fit(_ReadOnlySet(self.training_set))
        except Exception as error:
            if "read-only" in str(error):
                raise ContractError(f"{who}: fit writes to the cubes it is given; copy first") from error
            raise ContractError(f"{who}: fit raises {format_error(error)} on cubes with masks") from error
        return fresh

    def segment_cube(self, segmenter: Any, cube: Cube) -> NDArray[np.bool_]:
        """Return bool ``(structure, y, x)`` for one cube, checked."""
        require, shape = self.contract.require, (1, *cube.data.shape[1:])
        given = cube.data[None].copy()
        found = segmenter.segment(given, wavelengths=self.holdout.wavelengths.copy())
        untouched = np.array_equal(given, cube.data[None], equal_nan=True)
        require(untouched, "segment writes to the cubes it is given; copy first")
        require(isinstance(found, Mapping), f"segment returns {type(found).__name__}; expected masks by structure")
        require(
            set(self.structures) <= set(found),
            f"segment returns {sorted(found)}, fitted on {list(self.structures)}; every structure is expected, empty "
            "if need be",
        )
        for name in self.structures:
            mask = np.asarray(found[name])
            require(
                mask.dtype == np.bool_ and mask.shape == shape,
                f"mask {name!r} is {mask.dtype} {mask.shape}; expected bool {shape}, as (n, y, x)",
            )
        return np.stack([np.asarray(found[name])[0] for name in self.structures])

    def check_dice(self, predictions: list[NDArray[np.bool_]]) -> None:
        counts = np.zeros((len(self.structures), 3), dtype=np.int64)
        for masks, cube in zip(predictions, self.holdout, strict=True):
            counts += count_agreement(masks & cube.masks[FOV], np.stack([cube.masks[name] for name in self.structures]))
        reached = dict(zip(self.structures, np.nan_to_num(dice(counts)).tolist(), strict=True))
        poor = {name: round(value, 2) for name, value in reached.items() if value < MIN_DICE}
        self.contract.require(
            not poor,
            f"held-out Dice of {poor} on cubes in which the structure is plain to see; invalid pixels come as NaN, and "
            "structures are small: balance what is learned from",
        )

    def check_determinism(self, segmenter: Any, prediction: NDArray[np.bool_]) -> None:
        self.contract.require(
            np.array_equal(prediction, self.segment_cube(segmenter, self.holdout[0])),
            "finds other masks in the same cube when asked again; segment has to be deterministic",
        )
        self.contract.require(
            np.array_equal(prediction, self.segment_cube(self.fit_new_instance(), self.holdout[0])),
            "finds other masks after a second fit on the same cubes; masks are cached, so seed whatever it draws "
            "(hseval.utils.random_streams.create_rng) and take nothing from global random state",
        )

    def check_batch_independence(self, segmenter: Any, predictions: list[NDArray[np.bool_]]) -> None:
        cubes = list(self.holdout)
        same = [i for i, cube in enumerate(cubes) if cube.data.shape == cubes[0].data.shape]
        together = segmenter.segment(np.stack([cubes[i].data for i in same]), wavelengths=self.holdout.wavelengths)
        for place, i in enumerate(same):
            masks = np.stack([np.asarray(together[name])[place] for name in self.structures])
            self.contract.require(
                (masks != predictions[i]).mean() <= MAX_CHANGED_SHARE,
                "a cube's masks change with the other cubes in its batch; masks i may depend on cube i alone",
            )

    def check_state(self, segmenter: Any, prediction: NDArray[np.bool_]) -> None:
        who, require = self.contract.subject, self.contract.require
        try:
            travelled = pickle.loads(pickle.dumps(segmenter))
        except Exception as error:
            raise ContractError(
                f"{who}: can't be pickled once fitted ({format_error(error)}), so it can't travel to workers; keep "
                "arrays rather than open handles or local functions"
            ) from error
        same = np.array_equal(prediction, self.segment_cube(travelled, self.holdout[0]))
        require(same, "finds other masks after the way to a worker process (pickling); keep all that fit found")
        if not hasattr(segmenter, "state"):
            return
        require(hasattr(segmenter, "restore"), "has state but no restore(state, structures) that takes it up")
        state, other = segmenter.state(), self.build_new_instance()
        require(
            all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values()),
            "its state holds more than numpy arrays; it is kept as safetensors",
        )
        other.restore(state, self.structures)
        same = np.array_equal(prediction, self.segment_cube(other, self.holdout[0]))
        require(same, "finds other masks after restore; state has to hold all that fit found")
