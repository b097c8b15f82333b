"""Properties of all degradations: declarations, registry, field of view, determinism, monotone response."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hseval import HsevalError
from hseval.core.cubes import ArraySet, Cube
from hseval.degradations import find_degradation, list_degradation_names, list_degradations
from tests.helpers.degraded import COPY_NAMES, NM, copy_cube, degrade_cube, make_textured_cube

Array = NDArray[Any]
PAGE = Path(__file__).parents[2] / "docs" / "degradations.md"
CUBE_NAMES = [*list_degradation_names("spectral"), *list_degradation_names("spatial")]
SIZES = [(33, 47), (8, 8), (12, 12), (64, 16)]


def compute_change(cube: Cube, other: Cube) -> float:
    """Return the root mean square change over the field, relative to the values'."""
    inside = cube.masks["fov"]
    difference = (other.data.astype(np.float64) - cube.data)[:, inside]
    return float(np.sqrt(np.mean(difference**2) / np.mean(cube.data[:, inside].astype(np.float64) ** 2)))


@pytest.mark.parametrize("degradation", list_degradations(), ids=lambda degradation: degradation.name)
def test_name_summary_unit_and_eight_ascending_severities_are_declared(degradation: Any) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", degradation.name)
    assert degradation.summary and "\n" not in degradation.summary and degradation.unit
    assert len(degradation.severities) >= 8 and degradation.severities[0] > 0
    assert list(degradation.severities) == sorted(set(degradation.severities))
    method = {"spectral": "degrade", "spatial": "degrade", "set": "pick", "copies": "copy"}[degradation.kind]
    assert hasattr(degradation, method)
    assert degradation.kind not in ("spectral", "spatial") or isinstance(degradation.is_set_wide, bool)


def test_all_degradations_are_listed_in_the_order_of_reports() -> None:
    assert list_degradation_names("spectral") == (
        "shift",
        "broadening",
        "gain",
        "offset",
        "band-swap",
        "dead-band",
        "saturation",
    )
    assert list_degradation_names("set") == ("mode-dropped", "collapse", "duplicates")
    assert len(list_degradation_names("spatial")) == 7 and len(list_degradation_names("copies")) == 6
    assert len(set(list_degradation_names())) == len(list_degradation_names()) == 23


def test_an_unknown_name_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(HsevalError, match=r"no degradation 'misregistraton' \(did you mean 'misregistration'\?\)"):
        find_degradation("misregistraton")


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_a_tiny_severity_changes_next_to_nothing_and_every_stronger_one_more(name: str) -> None:
    cube, severities = make_textured_cube(64), find_degradation(name).severities
    assert compute_change(cube, degrade_cube(name, cube, 1e-4 * severities[0])) < 1e-3
    changes = [compute_change(cube, degrade_cube(name, cube, severity)) for severity in severities]
    assert all(later >= earlier * 0.999 for earlier, later in itertools.pairwise(changes)), changes
    assert changes[-1] > 3 * changes[0] and changes[-1] > 0.01, changes


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_masks_and_surround_are_unchanged_and_values_are_float32(name: str) -> None:
    cube = make_textured_cube()
    before = cube.data.copy()
    for severity in find_degradation(name).severities[::4]:
        degraded = degrade_cube(name, cube, severity)
        assert degraded.data.dtype == np.float32 and degraded.data.shape == cube.data.shape
        assert degraded.masks == cube.masks and (degraded.id, degraded.group) == (cube.id, cube.group)
        outside = ~cube.masks["fov"]
        np.testing.assert_array_equal(degraded.data[:, outside], cube.data[:, outside])
        np.testing.assert_array_equal(cube.data, before)


@pytest.mark.parametrize("name", [*CUBE_NAMES, *COPY_NAMES])
def test_nothing_of_the_surround_leaks_into_the_field(name: str) -> None:
    cube = make_textured_cube()
    hole = np.zeros_like(cube.masks["fov"])
    hole[20, 20] = True

    def compute_inside(surround: float, broken: float) -> Array:
        data = np.where(cube.masks["fov"], cube.data, np.float32(surround))
        data[1:3, hole] = broken
        changed = dataclasses.replace(cube, data=data)
        degraded = (
            copy_cube(name, changed)
            if name in COPY_NAMES
            else degrade_cube(name, changed, find_degradation(name).severities[-2])
        )
        field = degraded.masks["fov"]
        lost = ~np.isfinite(degraded.data).all(axis=0) & field
        assert lost.sum() == 1
        return degraded.data[:, field & ~lost]

    black = compute_inside(0.0, np.nan)
    for surround, broken in ((1e6, np.inf), (np.nan, -np.inf), (-1e6, np.nan)):
        np.testing.assert_array_equal(compute_inside(surround, broken), black)


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_a_cube_repeats_to_the_last_digit_and_another_seed_is_another_pattern(name: str) -> None:
    cube, severity = make_textured_cube(), find_degradation(name).severities[-3]
    first = degrade_cube(name, cube, severity).data
    np.testing.assert_array_equal(degrade_cube(name, cube, severity).data, first)
    fixed = ("shift", "broadening", "saturation", "blur", "blocks", "small-vessels")
    # Several seeds, as two random orders of 6 bands may agree.
    others = [degrade_cube(name, cube, severity, seed=seed).data for seed in range(1, 6)]
    assert all(np.array_equal(other, first) for other in others) == (name in fixed)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", CUBE_NAMES)
def test_cubes_of_any_size_without_a_field_are_accepted(name: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    data = (1 + 0.2 * rng.standard_normal((6, *shape))).astype(np.float32)
    vein = np.zeros(shape, dtype=bool)
    vein[3:5] = True
    for masks in ({"vein": vein}, {}):
        degraded = degrade_cube(name, Cube(data, masks), find_degradation(name).severities[-1])
        assert np.isfinite(degraded.data).all()
        assert np.array_equal(degraded.data, data) == (name == "saturation" and not masks)


@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("name", CUBE_NAMES)
def test_few_bands_are_accepted_or_refused_with_the_reason(name: str, bands: int) -> None:
    rng = np.random.default_rng(1)
    data = (1 + 0.2 * rng.standard_normal((1, bands, 24, 24))).astype(np.float32)
    masks = {"vein": np.ones((1, 24, 24), dtype=bool)}
    cubes = ArraySet(data, wavelengths=NM[:bands], masks=masks)
    reason = find_degradation(name).explain_unmet_need(cubes)
    needs_two = name in ("shift", "broadening", "band-swap", "misregistration")
    assert (reason is not None) == (needs_two and bands == 1)
    if reason is None:
        degraded = degrade_cube(name, cubes[0], find_degradation(name).severities[-1], nm=NM[:bands])
        assert np.isfinite(degraded.data).all() and not np.array_equal(degraded.data, data[0])
    else:
        assert "2 bands" in reason


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_missing_wavelengths_are_refused_by_degradations_in_nm(name: str) -> None:
    masks = {"vein": np.ones((1, 24, 24), dtype=bool)}
    reason = find_degradation(name).explain_unmet_need(ArraySet(np.ones((1, 4, 24, 24)), masks=masks))
    assert (reason == "needs wavelengths in nm (--wavelengths)") == (name in ("shift", "broadening", "saturation"))


@pytest.mark.parametrize("name", [*CUBE_NAMES, *COPY_NAMES])
def test_a_cube_without_a_valid_pixel_is_unchanged(name: str) -> None:
    empty = Cube(np.full((6, 16, 16), np.nan, dtype=np.float32), {"vein": np.ones((16, 16), dtype=bool)})
    degraded = (
        copy_cube(name, empty)
        if name in COPY_NAMES
        else degrade_cube(name, empty, find_degradation(name).severities[-1])
    )
    assert np.isnan(degraded.data).all()


def test_the_page_lists_the_declared_degradations() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
    listed = {row[0].strip("`"): row[1:4] for row in rows}
    assert list(listed) == list(list_degradation_names())
    for degradation in list_degradations():
        severities = ", ".join(f"{severity:g}" for severity in degradation.severities)
        assert listed[degradation.name] == [degradation.summary, degradation.unit, severities], degradation.name
