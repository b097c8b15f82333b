"""``authenticity`` detects all near-copies of phantom eyes (a short form of ``benchmarks/evidence/copies.py``)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval.core.cubes import Cube
from hseval.core.feature_table import FeatureTable
from hseval.data.preprocessing import preprocess_cube
from hseval.extractors.maps import LowresMaps
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions
from hseval.metrics.authenticity import DISTANCE, MAP_EXTENTS, NEAREST_ID, Authenticity
from tests.helpers.degraded import COPY_NAMES, copy_cube

EYES = 16
PHANTOM = Phantom(PhantomOptions(size=64, oversampling=2))


@cache
def draw_eyes(seed: int) -> tuple[Cube, ...]:
    samples = (PHANTOM.draw_sample(seed, index) for index in range(EYES))
    return tuple(Cube(sample.cube, {name: mask > 0 for name, mask in sample.masks.items()}) for sample in samples)


def make_feature_table(cubes: tuple[Cube, ...]) -> FeatureTable:
    ids = np.array([str(i) for i in range(len(cubes))])
    maps = [compute_maps(cube) for cube in cubes]
    columns = {
        name: np.concatenate([cube_maps[key] for cube_maps in maps])
        for name, key in (("maps", ""), (MAP_EXTENTS, "pixels"))
    }
    return FeatureTable(columns, ids, ids, ids, np.asarray(PHANTOM.wavelengths))


def compute_maps(cube: Cube) -> dict[str, NDArray[Any]]:
    preprocessed = preprocess_cube(cube, ("fov",))
    assert preprocessed is not None
    return LowresMaps()(
        preprocessed.data[None], wavelengths=PHANTOM.wavelengths, masks={"fov": preprocessed.masks["fov"][None]}
    )


@pytest.mark.parametrize("name", COPY_NAMES)
def test_every_near_copy_is_nearer_than_any_unseen_eye_and_traced(name: str) -> None:
    train, unseen = draw_eyes(1), draw_eyes(2)
    copies = tuple(copy_cube(name, cube, seed=index) for index, cube in enumerate(train))
    real, generated, _ = Authenticity().relate(
        real=make_feature_table(unseen), generated=make_feature_table(copies), train=make_feature_table(train)
    )
    assert generated[DISTANCE].max() < real[DISTANCE].min()
    assert generated[NEAREST_ID].tolist() == [str(index) for index in range(EYES)]
