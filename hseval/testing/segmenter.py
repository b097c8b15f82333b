"""The contract of segmenters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, Cube, CubeSet, DerivedSet
from hseval.scoring.segmentation.segmented_set import PreparedSet, count_agreement, dice
from hseval.testing.contract import CheckRecord, Contract
from hseval.testing.examples import make_example_set

MIN_DICE = 0.3  # that a segmenter has to reach on a clearly visible bright disc
MAX_CHANGED_SHARE = 1e-3  # share of pixels whose mask may change with the batch, as they lie at a threshold


def check_segmenter(segmenter: Any, *, data: CubeSet | None = None) -> CheckRecord:
    """Check a segmenter's class, or an instance with options, on small cubes (or on ``data``, with masks).

    Checked: its name, version, summary and options; that it learns every structure but ``fov`` and finds it in held-out
    cubes; its return value; that fitting is deterministic; that a cube's masks depend only on that cube; that cubes are
    not changed; that it can be sent to a worker process; and that it refuses to segment before ``fit``.

    Args:
        segmenter: the class, or an instance; new ones with the same ``options`` are built.
        data: cubes of one shape with masks; it is fitted on half of them.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("segmenter", segmenter)
    contract.check_attributes("version")
    contract.check_options()
    contract.check_keyword_only(contract.build().segment, ("wavelengths",))
    cubes = data or make_example_set(12)
    half = len(cubes) // 2
    parts = (cubes.subset(part) for part in (range(half), range(half, len(cubes))))
    training_set, holdout = (PreparedSet(part, part.structures, None) for part in parts)
    trial = _SegmenterTrial(contract, training_set, holdout)
    unfitted, first = contract.build_new(), holdout[0].data[None]
    contract.check_refuses(lambda: unfitted.segment(first, wavelengths=cubes.wavelengths), "segment before fit")
    fitted = trial.fit_new_instance()
    predictions = [trial.segment_cube(fitted, cube) for cube in holdout]
    trial.check_dice(predictions)
    trial.check_determinism(fitted, predictions[0])
    trial.check_batch_independence(fitted, predictions)
    trial.check_pickling(fitted, predictions[0])
    trial.check_state(fitted, predictions[0])
    return contract.get_record()


class _ReadOnlySet(DerivedSet):
    """A set whose cubes can't be written to."""

    def __init__(self, base: CubeSet) -> None:
        self.base, self.info = base, base.info

    def read(self, index: int) -> Cube:
        """Read a cube with read-only arrays."""
        cube = self.base.read(index)
        for array in (cube.data, *cube.masks.values()):
            array.flags.writeable = False
        return cube


class _SegmenterTrial:
    """A segmenter, its training set and the held-out cubes."""

    def __init__(self, contract: Contract, training_set: CubeSet, holdout: CubeSet) -> None:
        self.contract, self.training_set, self.holdout = contract, training_set, holdout
        self.structures = tuple(sorted(set(training_set.structures) - {FOV}))

    def fit_new_instance(self) -> Any:
        instance = self.contract.build_new()
        with self.contract.explain_errors("fit raises {error} on cubes with masks, which it must not write to"):
            instance.fit(_ReadOnlySet(self.training_set))
        return instance

    def segment_cube(self, segmenter: Any, cube: Cube) -> NDArray[np.bool_]:
        """Return bool ``(structure, y, x)`` for one cube, checked."""
        require, shape = self.contract.require, (1, *cube.data.shape[1:])
        cubes = cube.data[None].copy()
        masks = segmenter.segment(cubes, wavelengths=self.holdout.wavelengths.copy())
        unchanged = np.array_equal(cubes, cube.data[None], equal_nan=True)
        require(unchanged, "segment writes to its input cubes; copy first")
        require(isinstance(masks, Mapping), f"segment returns {type(masks).__name__}; expected masks by structure")
        require(
            set(self.structures) <= set(masks),
            f"segment returns {sorted(masks)}, fitted on {list(self.structures)}; every structure is expected, with an "
            "empty mask if it is not found",
        )
        for name in self.structures:
            self.contract.check_mask(name, np.asarray(masks[name]), shape)
        return np.stack([np.asarray(masks[name])[0] for name in self.structures])

    def check_dice(self, predictions: list[NDArray[np.bool_]]) -> None:
        counts = np.zeros((len(self.structures), 3), dtype=np.int64)
        for masks, cube in zip(predictions, self.holdout, strict=True):
            counts += count_agreement(masks & cube.masks[FOV], np.stack([cube.masks[name] for name in self.structures]))
        scores = dict(zip(self.structures, np.nan_to_num(dice(counts)).tolist(), strict=True))
        poor = {name: round(value, 2) for name, value in scores.items() if value < MIN_DICE}
        self.contract.require(
            not poor,
            f"held-out Dice of {poor} on cubes in which the structure is clearly visible; invalid pixels are NaN, and "
            "structures are small: balance the training pixels",
        )

    def check_determinism(self, segmenter: Any, prediction: NDArray[np.bool_]) -> None:
        self.contract.require(
            np.array_equal(prediction, self.segment_cube(segmenter, self.holdout[0])),
            "finds other masks in the same cube when called again; segment has to be deterministic",
        )
        self.contract.require(
            np.array_equal(prediction, self.segment_cube(self.fit_new_instance(), self.holdout[0])),
            "finds other masks after a second fit on the same cubes; masks are cached, so seed all random draws "
            "(hseval.plugin.create_rng) and do not use global random state",
        )

    def check_batch_independence(self, segmenter: Any, predictions: list[NDArray[np.bool_]]) -> None:
        cubes = list(self.holdout)
        batch = [i for i, cube in enumerate(cubes) if cube.data.shape == cubes[0].data.shape]
        batch_masks = segmenter.segment(np.stack([cubes[i].data for i in batch]), wavelengths=self.holdout.wavelengths)
        for position, i in enumerate(batch):
            masks = np.stack([np.asarray(batch_masks[name])[position] for name in self.structures])
            self.contract.require(
                (masks != predictions[i]).mean() <= MAX_CHANGED_SHARE,
                "a cube's masks change with the other cubes in its batch; masks i may depend only on cube i",
            )

    def check_pickling(self, segmenter: Any, prediction: NDArray[np.bool_]) -> None:
        copy = self.contract.copy_by_pickling(segmenter, "once fitted it")
        same = np.array_equal(prediction, self.segment_cube(copy, self.holdout[0]))
        self.contract.require(same, "finds other masks in a worker process (after pickling); store all results of fit")

    def check_state(self, segmenter: Any, prediction: NDArray[np.bool_]) -> None:
        members = [name for name in ("state", "restore") if callable(self.contract.get_member(name))]
        self.contract.require(
            len(members) != 1, f"has {members} alone; state() and restore(state, structures) go together"
        )
        if not members:
            self.contract.skip("state and restore", "it has none")
            return
        state, restored = segmenter.state(), self.contract.build_new()
        self.contract.require(
            all(isinstance(array, np.ndarray) and array.dtype != object for array in state.values()),
            "its state holds more than numpy arrays; it is stored as safetensors",
        )
        restored.restore(state, self.structures)
        same = np.array_equal(prediction, self.segment_cube(restored, self.holdout[0]))
        self.contract.require(same, "finds other masks after restore; state has to hold all results of fit")
