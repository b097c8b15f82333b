"""Near-copies of phantom eyes are found by ``authenticity``, all of them (``benchmarks/evidence/copies.py`` in short)."""

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
from tests.helpers.degraded import COPY_NAMES, copied

EYES = 16
PHANTOM = Phantom(PhantomOptions(size=64, oversampling=2))


@cache
def eyes(seed: int) -> tuple[Cube, ...]:
    drawn = (PHANTOM.draw_sample(seed, index) for index in range(EYES))
    return tuple(Cube(each.cube, {name: mask > 0 for name, mask in each.masks.items()}) for each in drawn)


def rows_of(cubes: tuple[Cube, ...]) -> FeatureTable:
    ids = np.array([str(i) for i in range(len(cubes))])
    described = [maps_of(cube) for cube in cubes]
    columns = {
        name: np.concatenate([each[key] for each in described]) for name, key in (("maps", ""), (MAP_EXTENTS, "pixels"))
    }
    return FeatureTable(columns, ids, ids, ids, np.asarray(PHANTOM.wavelengths))


def maps_of(cube: Cube) -> dict[str, NDArray[Any]]:
    ready = preprocess_cube(cube, ("fov",))
    assert ready is not None
    return LowresMaps()(ready.data[None], wavelengths=PHANTOM.wavelengths, masks={"fov": ready.masks["fov"][None]})


@pytest.mark.parametrize("name", COPY_NAMES)
def test_every_near_copy_is_nearer_than_any_unseen_eye_and_traced(name: str) -> None:
    train, unseen = eyes(1), eyes(2)
    copies = tuple(copied(name, cube, seed=index) for index, cube in enumerate(train))
    real, generated, _ = Authenticity().relate(real=rows_of(unseen), generated=rows_of(copies), train=rows_of(train))
    assert generated[DISTANCE].max() < real[DISTANCE].min()
    assert generated[NEAREST_ID].tolist() == [str(index) for index in range(EYES)]
