"""hseval info: its summary of a set, and the problems that it reports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval.core.cubes import ArraySet
from hseval.data.writer import write_set
from hseval.inspection.inspect import inspect_set

NM = np.array([450.0, 500, 550, 600, 650])


def make_cubes(n: int = 6) -> np.ndarray:
    """Return positive random cubes."""
    return np.random.default_rng(3).random((n, 5, 12, 10), dtype=np.float32) + np.float32(0.1)


def find_problems(data: np.ndarray, **options: Any) -> tuple[str, ...]:
    """Return the problems of a set."""
    return inspect_set(ArraySet(data, wavelengths=NM, **options)).problems


def test_nothing_is_suspicious_in_a_clean_set() -> None:
    assert find_problems(make_cubes(), masks={"artery": make_cubes()[:, 0] > 0.5}) == ()


def test_the_numbers_agree_with_numpy() -> None:
    data, field = make_cubes(), np.zeros((6, 12, 10), bool)
    field[:, 2:9, 3:8] = True
    data[0, 2, 4, 4] = np.nan
    data[1, 0, 0, 0] = np.inf  # outside the field: ignored
    inspection = inspect_set(ArraySet(data, wavelengths=NM, masks={"fov": field, "artery": data[:, 0] > 0.7}))
    valid = field & np.isfinite(data).all(axis=1)
    values = data.transpose(0, 2, 3, 1)[valid]
    expected = [values.min(), *np.quantile(values, [0.01, 0.5, 0.99]), values.max()]
    np.testing.assert_allclose(list(inspection.values.values()), expected, rtol=1e-6)
    assert inspection.invalid == pytest.approx(1 / field.sum())
    assert inspection.outside == pytest.approx(1 - field.mean())
    assert inspection.structures["artery"].area == pytest.approx((data[:, 0] > 0.7).mean())
    assert inspection.count == 6 and inspection.shapes == {"5 x 12 x 10": 6} and inspection.wavelengths == tuple(NM)


def test_quantiles_of_a_large_set_come_from_a_repeatable_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hseval.inspection.inspect.MAX_SAMPLED_VALUES", 1000)
    data = make_cubes(20)
    first, second = (inspect_set(ArraySet(data, wavelengths=NM)).values for _ in range(2))
    assert first == second and first["min"] == data.min() and first["max"] == data.max()
    assert first["median"] == pytest.approx(np.median(data), abs=0.05)


def test_invalid_pixels_and_cubes_without_a_valid_one_are_named() -> None:
    data = make_cubes()
    data[1, 3, 2, 2] = np.inf
    data[4] = np.nan
    problems = find_problems(data)
    assert "no valid pixel in 1 of 6 cubes (000004)" in problems
    assert "NaN or Inf inside the field of view in 1 of 6 cubes (000001)" in problems


def test_dead_and_constant_bands_are_named_with_their_wavelength() -> None:
    data = make_cubes()
    data[:, 2] = 0
    data[1:3, 4] = 0.25
    data[3:5, 0] = np.nan
    problems = find_problems(data)
    assert "band 2 (550 nm) is dead (0) in all 6 cubes" not in problems  # in two cubes band 0 leaves no valid pixel
    assert "band 2 (550 nm) is dead (0) in 4 of 6 cubes (000000, 000001, 000002, ...)" in problems
    assert "band 4 (650 nm) is constant (0.25) in 2 of 6 cubes (000001, 000002)" in problems
    assert "band 0 (450 nm) has no finite value in 2 of 6 cubes (000003, 000004)" in problems


def make_bands(count: int) -> np.ndarray:
    return np.random.default_rng(3).random((4, count, 6, 5), dtype=np.float32) + np.float32(0.1)


def test_many_dead_or_constant_bands_are_one_line() -> None:
    data, nm = make_bands(300), np.linspace(450, 1048, 300)
    data[:, :16] = np.arange(1, 17)[:, None, None]
    problems = inspect_set(ArraySet(data, wavelengths=nm)).problems
    assert problems == ("16 constant bands: 450 to 480 nm, in all 4 cubes",)
    data[1:3, 40:50] = data[1:3, 60] = data[1:3, 299] = 0
    problems = inspect_set(ArraySet(data, wavelengths=nm)).problems
    assert problems == (
        "12 dead bands: 530 to 548, 570, 1048 nm, in 2 of 4 cubes (000001, 000002)",
        "16 constant bands: 450 to 480 nm, in all 4 cubes",
    )
    data[:] = 1
    assert inspect_set(ArraySet(data, wavelengths=nm)).problems[0] == (
        "300 constant bands (1): 450 to 1048 nm, in all 4 cubes"
    )


def test_up_to_six_bands_are_listed_and_many_runs_are_counted() -> None:
    data = make_bands(20)
    data[:, 3:9] = np.arange(1, 7)[:, None, None]
    nm = np.arange(20) * 10 + 500.0
    assert inspect_set(ArraySet(data, wavelengths=nm)).problems == (
        "6 constant bands: 530, 540, 550, 560, 570, 580 nm, in all 4 cubes",
    )
    data = make_bands(20)
    data[0, ::2] = data[2, 0] = 0
    assert inspect_set(ArraySet(data)).problems == (
        "10 dead bands: indices 0, 2, 4, 6, 8, 10 and 4 more runs, not the same ones in each of 2 of 4 cubes"
        " (000000, 000002)",
    )


def test_bands_without_a_finite_value_are_one_line_too() -> None:
    data = make_cubes()
    data[1, 1:4] = np.nan
    assert "3 bands without a finite value: 500, 550, 600 nm, in 1 of 6 cubes (000001)" in find_problems(data)


def test_exact_duplicates_are_counted_and_named() -> None:
    data = make_cubes()
    data[3] = data[5] = data[0]
    assert find_problems(data) == ("2 exact duplicates, for example 000000 = 000003 = 000005",)


def test_a_black_surround_without_a_field_of_view_is_suspicious() -> None:
    data, field = make_cubes(), np.zeros((6, 12, 10), bool)
    field[:, 2:10, 2:8] = True
    data *= field[:, None]
    assert find_problems(data) == ("a surround of zeros, and no 'fov' mask that excludes it, in all 6 cubes",)
    assert find_problems(data, masks={"fov": field}) == ()


def test_empty_masks_and_negative_values_are_suspicious() -> None:
    data = make_cubes()
    data[2, 0, 0, :6] = -1
    problems = find_problems(data, masks={"vein": np.zeros((6, 12, 10), bool)})
    assert problems == ("mask 'vein' is empty in every cube", "negative values (0.17% of all) in 1 of 6 cubes (000002)")


@pytest.fixture
def hdf5_set(tmp_path: Path) -> Path:
    path = tmp_path / "real.h5"
    write_set(
        path, make_cubes(), wavelengths=NM[::-1], masks={"artery": make_cubes()[:, 0] > 0.5}, groups=list("ppqqrr"),
        labels={"side": ["left", "right"] * 3}, units="reflectance", provenance={"generator": "test"},
    )  # fmt: skip
    return path


def test_the_command_prints_plain_lines_into_a_pipe(hseval: Callable[..., Any], hdf5_set: Path) -> None:
    done = hseval("info", hdf5_set)
    assert done.status == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[:4] == [
        f"set          {hdf5_set}",
        "cubes        6",
        "shape        5 x 12 x 10 (band, y, x)",
        "wavelengths  5 bands, 450 to 650 nm",
    ]
    for line in (
        "groups       3", "label        side: left (3), right (3)", "provenance   generator: test",
        "suspicious   wavelengths out of order: bands sorted by wavelength",
    ):  # fmt: skip
        assert line in lines
    assert "(reflectance)" in done.out and "\x1b" not in done.out


def test_the_command_prints_json(hseval: Callable[..., Any], hdf5_set: Path) -> None:
    output = json.loads(hseval("info", hdf5_set, "--json").out)
    assert output["format"] == "hseval-info" and output["count"] == 6 and output["groups"] == 3
    assert output["labels"] == {"side": {"left": 3, "right": 3}} and output["structures"]["artery"]["cubes"] == 6
    assert output["problems"] == ["wavelengths out of order: bands sorted by wavelength"]


def test_mixed_shapes_of_a_folder_are_reported_and_layout_and_wavelengths_are_used(
    hseval: Callable[..., Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", make_cubes()[0].transpose(1, 2, 0))
    np.save(tmp_path / "b.npy", make_cubes()[1].transpose(1, 2, 0)[:8])
    done = hseval("info", tmp_path, "--layout", "yxb", "--wavelengths", "450:650:5")
    assert "suspicious   mixed shapes: 1 of 5 x 12 x 10, 1 of 5 x 8 x 10" in done.out.splitlines()
    assert "wavelengths  5 bands, 450 to 650 nm" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.h5",), "hseval: none.h5: no such file or folder\n"),
        (("{real}", "--layout", "bxy"), "hseval: Invalid value for '--layout': 'bxy' is not one of"),
        (("{real}", "--wavelengths", "450:905:16"), "hseval: {real}: 16 wavelengths, but 5 bands"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    hseval: Callable[..., Any], hdf5_set: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = hseval("info", *(argument.format(real=hdf5_set) for argument in arguments))
    assert done.status == 2 and done.out == ""
    assert done.err.startswith(message.format(real=hdf5_set)) and done.err.count("\n") == 1


def test_a_damaged_cube_is_one_line_and_status_2(hseval: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", make_cubes()[0])
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    done = hseval("info", tmp_path)
    assert done.status == 2 and "a.npy: truncated" in done.err and "Traceback" not in done.err
