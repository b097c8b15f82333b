"""The contract checks of segmenters: each broken segmenter gets its own message."""

# ruff: noqa: ANN001, ANN201, ANN204 - plugins as third parties write them, most of them broken on purpose

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from hseval import HsevalError
from hseval.testing import ContractError, check_segmenter


class Bright:
    """Thresholds brightness half way between the structure and the rest."""

    name, version, summary = "bright", "1", "bright pixels"

    def __init__(self):
        self.levels = {}

    def fit(self, data):
        for name in set(data.structures) - {"fov"}:
            inside = np.concatenate([cube.data.mean(axis=0)[cube.masks[name]] for cube in data])
            rest = np.concatenate([cube.data.mean(axis=0)[cube.masks["fov"] & ~cube.masks[name]] for cube in data])
            self.levels[name] = (inside.mean() + rest.mean()) / 2

    def segment(self, cubes, *, wavelengths):
        if not self.levels:
            raise HsevalError("not fitted")
        return {name: cubes.mean(axis=1) > level for name, level in self.levels.items()}


class NoVersion(Bright):
    version = None


class ByPosition(Bright):
    def segment(self, cubes, wavelengths):
        return super().segment(cubes, wavelengths=wavelengths)


class Unfitted(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: cubes.mean(axis=1) > level for name, level in self.levels.items()} or {"disc": cubes[:, 0] > 0}


class Floats(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: mask.astype(float) for name, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class OneImage(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: mask[0] for name, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class NoMasks(Bright):
    def segment(self, cubes, *, wavelengths):
        super().segment(cubes, wavelengths=wavelengths)
        return {}


class EmptyMasks(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: np.zeros_like(mask) for name, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class RandomFit(Bright):
    fits = itertools.count()

    def fit(self, data):
        super().fit(data)
        shift = 0.03 * (next(self.fits) % 2)  # as from global random state: another number for every fit
        self.levels = {name: level + shift for name, level in self.levels.items()}


class RandomMasks(Bright):
    def segment(self, cubes, *, wavelengths):
        masks = super().segment(cubes, wavelengths=wavelengths)
        return {name: mask & (np.random.default_rng().random(mask.shape) < 0.9) for name, mask in masks.items()}


class DependsOnBatch(Bright):
    def segment(self, cubes, *, wavelengths):
        masks = super().segment(cubes, wavelengths=wavelengths)
        return {name: mask & (len(mask) == 1) for name, mask in masks.items()}


class WritesToCubes(Bright):
    def segment(self, cubes, *, wavelengths):
        np.nan_to_num(cubes, copy=False)
        return super().segment(cubes, wavelengths=wavelengths)


class FitWrites(Bright):
    def fit(self, data):
        for cube in data:
            np.nan_to_num(cube.data, copy=False)
        super().fit(data)


class NotPicklable(Bright):
    def fit(self, data):
        super().fit(data)
        self.rule = lambda values: values


class WrongRestore(Bright):
    def state(self):
        return {"levels": np.array(list(self.levels.values()))}

    def restore(self, state, structures):
        self.levels = {name: level + 0.05 for name, level in zip(structures, state["levels"], strict=True)}


class StateAlone(Bright):
    def state(self):
        return {}


class StateOfText(WrongRestore):
    def state(self):
        return {"levels": "a text"}


def test_a_correct_segmenter_passes() -> None:
    check_segmenter(Bright)


def test_the_segmenter_of_the_docs_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "segmenters.md").read_text(encoding="utf-8")
    code = re.search(r"```python[^\n]*\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "documented_segmenter.py").write_text(code.group(1))
    monkeypatch.syspath_prepend(tmp_path)
    (documented,) = importlib.import_module("documented_segmenter").hseval_segmenters()
    check_segmenter(documented)


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        (NoVersion, "version is None"),
        (ByPosition, "takes 'wavelengths' by position"),
        (Unfitted, "before fit: nothing was raised"),
        (Floats, "is float64"),
        (OneImage, "expected bool"),
        (NoMasks, "every structure is expected"),
        (EmptyMasks, "held-out Dice of"),
        (RandomFit, "after a second fit"),
        (RandomMasks, "when called again"),
        (DependsOnBatch, "other cubes in its batch"),
        (WritesToCubes, "segment writes to its input cubes"),
        (FitWrites, "fit raises ValueError: .* read-only on cubes with masks, which it must not write to"),
        (NotPicklable, "can't be pickled"),
        (WrongRestore, "after restore"),
        (StateAlone, r"has \['state'\] alone; state\(\) and restore\(state, structures\) go together"),
        (StateOfText, "more than numpy arrays"),
    ],
)
def test_the_error_for_a_broken_segmenter_names_the_fault(segmenter: type, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_segmenter(segmenter)
