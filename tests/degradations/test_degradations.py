"""What holds for every degradation: declarations, registry, field of view, determinism, more change with more severity."""

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
from tests.helpers.degraded import COPY_NAMES, NM, copied, degraded, textured

Array = NDArray[Any]
PAGE = Path(__file__).parents[2] / "docs" / "degradations.md"
CUBE_NAMES = [*list_degradation_names("spectral"), *list_degradation_names("spatial")]
SIZES = [(33, 47), (8, 8), (12, 12), (64, 16)]


def change(cube: Cube, other: Cube) -> float:
    """Return the root mean square change over the field, as a share of the values'."""
    inside = cube.masks["fov"]
    change = (other.data.astype(np.float64) - cube.data)[:, inside]
    return float(np.sqrt(np.mean(change**2) / np.mean(cube.data[:, inside].astype(np.float64) ** 2)))


@pytest.mark.parametrize("each", list_degradations(), ids=lambda each: each.name)
def test_declares_a_name_a_summary_a_unit_and_eight_ascending_severities(each: Any) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", each.name)
    assert each.summary and "\n" not in each.summary and each.unit
    assert len(each.severities) >= 8 and each.severities[0] > 0
    assert list(each.severities) == sorted(set(each.severities))
    assert {"spectral": "degrade", "spatial": "degrade", "set": "pick", "copies": "copy"}[each.kind] in dir(each)
    assert each.kind not in ("spectral", "spatial") or isinstance(each.is_set_wide, bool)


def test_all_degradations_are_there_in_the_order_of_reports() -> None:
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


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(HsevalError, match=r"no degradation 'misregistraton' \(did you mean 'misregistration'\?\)"):
        find_degradation("misregistraton")


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_a_tiny_severity_changes_next_to_nothing_and_every_stronger_one_more(name: str) -> None:
    cube, severities = textured(64), find_degradation(name).severities
    assert change(cube, degraded(name, cube, 1e-4 * severities[0])) < 1e-3
    changes = [change(cube, degraded(name, cube, severity)) for severity in severities]
    assert all(later >= earlier * 0.999 for earlier, later in itertools.pairwise(changes)), changes
    assert changes[-1] > 3 * changes[0] and changes[-1] > 0.01, changes


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_masks_and_the_surround_stay_and_values_are_float32(name: str) -> None:
    cube = textured()
    before = cube.data.copy()
    for severity in find_degradation(name).severities[::4]:
        spoiled = degraded(name, cube, severity)
        assert spoiled.data.dtype == np.float32 and spoiled.data.shape == cube.data.shape
        assert spoiled.masks == cube.masks and (spoiled.id, spoiled.group) == (cube.id, cube.group)
        outside = ~cube.masks["fov"]
        np.testing.assert_array_equal(spoiled.data[:, outside], cube.data[:, outside])
        np.testing.assert_array_equal(cube.data, before)


@pytest.mark.parametrize("name", [*CUBE_NAMES, *COPY_NAMES])
def test_nothing_of_the_surround_leaks_into_the_field(name: str) -> None:
    cube = textured()
    hole = np.zeros_like(cube.masks["fov"])
    hole[20, 20] = True

    def inside(surround: float, broken: float) -> Array:
        data = np.where(cube.masks["fov"], cube.data, np.float32(surround))
        data[1:3, hole] = broken
        given = dataclasses.replace(cube, data=data)
        spoiled = (
            copied(name, given) if name in COPY_NAMES else degraded(name, given, find_degradation(name).severities[-2])
        )
        field = spoiled.masks["fov"]
        lost = ~np.isfinite(spoiled.data).all(axis=0) & field
        assert lost.sum() == 1
        return spoiled.data[:, field & ~lost]

    black = inside(0.0, np.nan)
    for surround, broken in ((1e6, np.inf), (np.nan, -np.inf), (-1e6, np.nan)):
        np.testing.assert_array_equal(inside(surround, broken), black)


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_a_cube_repeats_to_the_last_digit_and_another_seed_is_another_pattern(name: str) -> None:
    cube, severity = textured(), find_degradation(name).severities[-3]
    first = degraded(name, cube, severity).data
    np.testing.assert_array_equal(degraded(name, cube, severity).data, first)
    fixed = ("shift", "broadening", "saturation", "blur", "blocks", "small-vessels")
    others = [degraded(name, cube, severity, seed=seed).data for seed in range(1, 6)]  # 6 bands: two orders may agree
    assert all(np.array_equal(other, first) for other in others) == (name in fixed)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("name", CUBE_NAMES)
def test_cubes_of_any_size_without_a_field_are_taken(name: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    data = (1 + 0.2 * rng.standard_normal((6, *shape))).astype(np.float32)
    vein = np.zeros(shape, dtype=bool)
    vein[3:5] = True
    for masks in ({"vein": vein}, {}):
        spoiled = degraded(name, Cube(data, masks), find_degradation(name).severities[-1])
        assert np.isfinite(spoiled.data).all()
        assert np.array_equal(spoiled.data, data) == (name == "saturation" and not masks)


@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("name", CUBE_NAMES)
def test_few_bands_are_taken_or_refused_with_the_reason(name: str, bands: int) -> None:
    rng = np.random.default_rng(1)
    data = (1 + 0.2 * rng.standard_normal((1, bands, 24, 24))).astype(np.float32)
    masks = {"vein": np.ones((1, 24, 24), dtype=bool)}
    given = ArraySet(data, wavelengths=NM[:bands], masks=masks)
    reason = find_degradation(name).explain_unmet_need(given)
    needs_two = name in ("shift", "broadening", "band-swap", "misregistration")
    assert (reason is not None) == (needs_two and bands == 1)
    if reason is None:
        spoiled = degraded(name, given[0], find_degradation(name).severities[-1], nm=NM[:bands])
        assert np.isfinite(spoiled.data).all() and not np.array_equal(spoiled.data, data[0])
    else:
        assert "2 bands" in reason


@pytest.mark.parametrize("name", CUBE_NAMES)
def test_without_wavelengths_what_needs_nm_says_so(name: str) -> None:
    masks = {"vein": np.ones((1, 24, 24), dtype=bool)}
    reason = find_degradation(name).explain_unmet_need(ArraySet(np.ones((1, 4, 24, 24)), masks=masks))
    assert (reason == "needs wavelengths in nm (--wavelengths)") == (name in ("shift", "broadening", "saturation"))


@pytest.mark.parametrize("name", [*CUBE_NAMES, *COPY_NAMES])
def test_a_cube_without_a_valid_pixel_stays_what_it_is(name: str) -> None:
    empty = Cube(np.full((6, 16, 16), np.nan, dtype=np.float32), {"vein": np.ones((16, 16), dtype=bool)})
    spoiled = (
        copied(name, empty) if name in COPY_NAMES else degraded(name, empty, find_degradation(name).severities[-1])
    )
    assert np.isnan(spoiled.data).all()


def test_the_page_lists_what_is_declared() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "| `" in line]
    listed = {row[0].strip("`"): row[1:4] for row in rows}
    assert list(listed) == list(list_degradation_names())
    for each in list_degradations():
        severities = ", ".join(f"{severity:g}" for severity in each.severities)
        assert listed[each.name] == [each.summary, each.unit, severities], each.name
