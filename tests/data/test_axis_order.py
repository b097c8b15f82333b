import pytest

from hseval.data.axis_order import check_layout, choose_layout, to_byx_shape
from hseval.utils.errors import HsevalError


def test_a_stated_layout_has_priority() -> None:
    layout, note = choose_layout((64, 64, 16), location="x", declared="byx", requested="yxb")
    assert layout == "byx"
    assert note == "layout yxb not applied: the file itself states byx"


def test_a_requested_layout_resolves_an_ambiguous_shape() -> None:
    assert choose_layout((64, 64, 16), location="x", requested="yxb") == ("yxb", None)
    assert choose_layout((64, 64, 16), location="x", requested="byx") == ("byx", None)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((16, 64, 64), "byx"), ((64, 64, 16), "yxb"), ((16, 16, 64), "byx"), ((64, 16, 16), "yxb"), ((16, 8, 8), "byx")],
)
def test_the_wavelength_count_determines_the_band_axis(shape: tuple[int, ...], layout: str) -> None:
    assert choose_layout(shape, location="x", bands=16) == (layout, None)


def test_a_strictly_smallest_first_axis_is_read_as_bands_with_a_note() -> None:
    layout, note = choose_layout((16, 64, 60), location="x")
    assert layout == "byx"
    assert note is not None and "(16, 64, 60) read as (band, y, x)" in note


@pytest.mark.parametrize("shape", [(64, 64, 16), (64, 16, 64), (16, 16, 64), (32, 32, 32), (64, 60, 16)])
def test_any_other_shape_needs_a_layout_and_the_error_names_both_readings(shape: tuple[int, ...]) -> None:
    with pytest.raises(HsevalError) as refusal:
        choose_layout(shape, location="a.npy")
    message = str(refusal.value)
    assert message.startswith("a.npy: ") and "\n" not in message
    assert f"(band, y, x) with {shape[0]} bands of {shape[1]} x {shape[2]} pixels" in message
    assert f"(y, x, band) with {shape[2]} bands of {shape[0]} x {shape[1]} pixels" in message
    assert "--layout byx|yxb" in message


def test_wavelengths_that_fit_first_and_last_axis_are_ambiguous() -> None:
    with pytest.raises(HsevalError, match=r"16 wavelengths fit both; give --layout byx\|yxb"):
        choose_layout((16, 64, 16), location="a.npy", bands=16)


@pytest.mark.parametrize("shape", [(64, 16, 64), (8, 64, 64)])
def test_wavelengths_that_fit_no_outer_axis_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(HsevalError, match=r"a.npy: 16 wavelengths, but axes .*first or last"):
        choose_layout(shape, location="a.npy", bands=16)


def test_a_layout_that_contradicts_the_wavelength_count_is_refused() -> None:
    with pytest.raises(HsevalError, match=r"16 wavelengths, but 64 bands \(axes \(16, 64, 64\) read as yxb\)"):
        choose_layout((16, 64, 64), location="a.npy", requested="yxb", bands=16)


def test_two_axes_are_not_a_cube() -> None:
    with pytest.raises(HsevalError, match=r"a.npy: \(64, 64\) are not a cube"):
        choose_layout((64, 64), location="a.npy")


def test_an_unknown_layout_gets_a_suggestion() -> None:
    with pytest.raises(HsevalError, match=r"layout: 'bxy' is not an axis order \(did you mean 'byx'\?\)"):
        check_layout("bxy")


def test_shapes_are_converted_to_bands_first() -> None:
    assert to_byx_shape((5, 6, 7), "byx") == (5, 6, 7)
    assert to_byx_shape((6, 7, 5), "yxb") == (5, 6, 7)
