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
    """Takes what is brighter than the middle between structure and rest."""

    name, version, summary = "bright", "1", "what is bright"

    def __init__(self):
        self.cuts = {}

    def fit(self, data):
        for name in set(data.structures) - {"fov"}:
            inside = np.concatenate([cube.data.mean(axis=0)[cube.masks[name]] for cube in data])
            rest = np.concatenate([cube.data.mean(axis=0)[cube.masks["fov"] & ~cube.masks[name]] for cube in data])
            self.cuts[name] = (inside.mean() + rest.mean()) / 2

    def segment(self, cubes, *, wavelengths):
        if not self.cuts:
            raise HsevalError("not fitted")
        return {name: cubes.mean(axis=1) > cut for name, cut in self.cuts.items()}


class NoVersion(Bright):
    version = None


class ByPosition(Bright):
    def segment(self, cubes, wavelengths):
        return super().segment(cubes, wavelengths=wavelengths)


class Unfitted(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: cubes.mean(axis=1) > cut for name, cut in self.cuts.items()} or {"disc": cubes[:, 0] > 0}


class Floats(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: mask.astype(float) for name, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class OnePicture(Bright):
    def segment(self, cubes, *, wavelengths):
        return {name: mask[0] for name, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class Forgets(Bright):
    def segment(self, cubes, *, wavelengths):
        super().segment(cubes, wavelengths=wavelengths)
        return {}


class Blind(Bright):
    def segment(self, cubes, *, wavelengths):
        return {n: np.zeros_like(mask) for n, mask in super().segment(cubes, wavelengths=wavelengths).items()}


class Dice(Bright):
    fits = itertools.count()

    def fit(self, data):
        super().fit(data)
        drawn = 0.03 * (next(self.fits) % 2)  # as from global random state: another number at every fit
        self.cuts = {name: cut + drawn for name, cut in self.cuts.items()}


class Wavers(Bright):
    def segment(self, cubes, *, wavelengths):
        found = super().segment(cubes, wavelengths=wavelengths)
        return {name: mask & (np.random.default_rng().random(mask.shape) < 0.9) for name, mask in found.items()}


class OfTheBatch(Bright):
    def segment(self, cubes, *, wavelengths):
        found = super().segment(cubes, wavelengths=wavelengths)
        return {name: mask & (len(mask) == 1) for name, mask in found.items()}


class WritesToCubes(Bright):
    def segment(self, cubes, *, wavelengths):
        np.nan_to_num(cubes, copy=False)
        return super().segment(cubes, wavelengths=wavelengths)


class FitWrites(Bright):
    def fit(self, data):
        for cube in data:
            np.nan_to_num(cube.data, copy=False)
        super().fit(data)


class Stays(Bright):
    def fit(self, data):
        super().fit(data)
        self.rule = lambda values: values


class Amnesia(Bright):
    def state(self):
        return {"cuts": np.array(list(self.cuts.values()))}

    def restore(self, state, structures):
        self.cuts = {name: cut + 0.05 for name, cut in zip(structures, state["cuts"], strict=True)}


class Texts(Amnesia):
    def state(self):
        return {"cuts": "a text"}


def test_a_sound_one_passes() -> None:
    check_segmenter(Bright)


def test_the_one_of_the_docs_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "segmenters.md").read_text(encoding="utf-8")
    code = re.search(r"```python[^\n]*\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (tmp_path / "documented_segmenter.py").write_text(code.group(1))
    monkeypatch.syspath_prepend(tmp_path)
    (documented,) = importlib.import_module("documented_segmenter").hseval_segmenters()
    check_segmenter(documented)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (NoVersion, "version is None"),
        (ByPosition, "takes 'wavelengths' by position"),
        (Unfitted, "before fit: nothing was raised"),
        (Floats, "is float64"),
        (OnePicture, "expected bool"),
        (Forgets, "every structure is expected"),
        (Blind, "held-out Dice of"),
        (Dice, "after a second fit"),
        (Wavers, "when asked again"),
        (OfTheBatch, "other cubes in its batch"),
        (WritesToCubes, "segment writes to the cubes"),
        (FitWrites, "fit writes to the cubes"),
        (Stays, "can't be pickled"),
        (Amnesia, "after restore"),
        (Texts, "more than numpy arrays"),
    ],
)
def test_a_broken_one_is_told_what_is_wrong(broken: type, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        check_segmenter(broken)
