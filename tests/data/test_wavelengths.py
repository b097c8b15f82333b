from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hseval.core.cubes import ArraySet
from hseval.data.wavelengths import (
    ResampledSet,
    has_same_wavelengths,
    interpolate_bands,
    order_bands,
    parse_wavelengths,
)
from hseval.utils.errors import HsevalError

NM = np.linspace(450, 905, 16)


def make_ramp_set(wavelengths: np.ndarray, *, size: int = 4) -> ArraySet:
    """Return a set whose values are linear in the wavelength, so that linear interpolation has no error."""
    slope = np.linspace(1, 2, 3 * size * size).reshape(3, 1, size, size)
    return ArraySet((slope * wavelengths[None, :, None, None]) / 500, wavelengths=wavelengths)


def test_a_range_includes_both_ends() -> None:
    np.testing.assert_allclose(parse_wavelengths("450:905:16"), NM)


def test_a_file_of_numbers_may_use_several_separators_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("# nm\n450, 500\n550;600 650 # red\n")
    np.testing.assert_array_equal(parse_wavelengths(str(path)), [450, 500, 550, 600, 650])


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_text("450\n500\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(parse_wavelengths(str(path)), [450, 500])


@pytest.mark.parametrize("text", ["a:b:c", "450:905:x", "450:905:0", "nan:905:3", "450:905:-2"])
def test_a_malformed_range_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(HsevalError, match="expected FIRST:LAST:COUNT such as 450:905:16"):
        parse_wavelengths(text)


def test_a_missing_or_unreadable_wavelength_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"none.txt: wavelengths can't be read: no such file.*450:905:16"):
        parse_wavelengths(str(tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_text("450\nred\n")
    with pytest.raises(HsevalError, match=r"bad.txt: line 2: 'red' is not a wavelength in nm"):
        parse_wavelengths(str(tmp_path / "bad.txt"))
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(HsevalError, match="holds no wavelengths"):
        parse_wavelengths(str(tmp_path / "empty.txt"))


def test_bands_are_sorted_stably_with_a_note() -> None:
    bands = order_bands(np.array([600.0, 500, 600, 450]), 4, location="x")
    assert bands.order is not None
    assert bands.order.tolist() == [3, 1, 0, 2]
    assert bands.wavelengths.tolist() == [450, 500, 600, 600]
    assert any("out of order" in note for note in bands.notes) and any(
        "occurring twice" in note for note in bands.notes
    )


def test_ascending_bands_are_unchanged_without_a_note() -> None:
    bands = order_bands(NM, 16, location="x")
    assert bands.order is None and bands.notes == () and bands.wavelengths_known


def test_without_wavelengths_band_indices_are_used_with_a_note() -> None:
    bands = order_bands(None, 3, location="x")
    assert (
        not bands.wavelengths_known
        and bands.wavelengths.tolist() == [0, 1, 2]
        and "using band indices" in bands.notes[0]
    )


def test_wavelengths_below_30_nm_get_a_note() -> None:
    assert "micrometers?" in order_bands(NM / 1000, 16, location="x").notes[0]


def test_nonfinite_wavelengths_and_a_wrong_count_are_refused() -> None:
    with pytest.raises(HsevalError, match="x: the wavelength of band 1 is nan"):
        order_bands(np.array([450, np.nan]), 2, location="x")
    with pytest.raises(HsevalError, match="x: 2 wavelengths, but 3 bands"):
        order_bands(np.array([450, 500]), 3, location="x")


def test_wavelengths_agree_within_a_tenth_of_a_nanometer() -> None:
    assert has_same_wavelengths(NM, NM + 0.1)
    assert not has_same_wavelengths(NM, NM + 0.11)
    assert not has_same_wavelengths(NM, NM[:-1])


def test_resampling_a_spectrum_linear_in_wavelength_is_exact() -> None:
    requested = np.array([450.0, 463.2, 700.1, 905.0])
    resampled = ResampledSet(make_ramp_set(NM), requested)
    np.testing.assert_allclose(resampled[2].data, make_ramp_set(requested)[2].data, rtol=1e-6)
    assert resampled.shape(0) == (4, 4, 4) and resampled.wavelengths.tolist() == requested.tolist()
    assert "resampled" in resampled.info.notes[-1]


def test_resampling_to_the_same_bands_changes_nothing_even_next_to_nan() -> None:
    cube = np.random.default_rng(0).random((5, 3, 3), dtype=np.float32)
    cube[2, 1, 1] = np.nan
    nm = np.arange(500.0, 550, 10)
    np.testing.assert_array_equal(interpolate_bands(cube, source=nm, target=nm), cube)


@given(st.lists(st.floats(400, 900), min_size=1, max_size=6, unique=True), st.floats(0, 1))
def test_interpolation_agrees_with_numpy(stored: list[float], position: float) -> None:
    nm = np.sort(stored)
    values = np.random.default_rng(1).random(len(nm)).astype(np.float32)
    requested = nm[0] + position * (nm[-1] - nm[0])
    interpolated = interpolate_bands(values[:, None, None], source=nm, target=np.array([requested]))
    np.testing.assert_allclose(interpolated.ravel(), np.interp([requested], nm, values), rtol=1e-5, atol=1e-6)


def test_resampling_never_extrapolates_and_names_both_ranges() -> None:
    with pytest.raises(HsevalError, match="450 to 905 nm, which does not cover 2 bands over 440 to 900 nm"):
        ResampledSet(make_ramp_set(NM), np.array([440.0, 900]))
    ResampledSet(make_ramp_set(NM), np.array([449.9, 905.1]))  # within the tolerance
    with pytest.raises(HsevalError, match="its wavelengths are unknown"):
        ResampledSet(ArraySet(np.zeros((1, 3, 2, 2))), np.array([450.0]))


def test_resampling_is_part_of_a_cubes_recipe() -> None:
    base = make_ramp_set(NM)
    recipes = {ResampledSet(base, requested).recipe(0) for requested in (NM, NM[1:], NM[1:] + 0.05)}
    assert len(recipes | {base.recipe(0)}) == 4
