"""Contact sheets of a whole set, as a training saves them: rows, masks, and cubes that have nothing to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hseval import ArraySet, HsevalError
from hseval.reporting.preview import contact_sheet
from hseval.reporting.preview.preview import MASK_BACKGROUND_LEVEL, STRUCTURE_COLORS, Preview, build_preview

NM = np.linspace(450, 905, 16)
SIZE = 20


def make_set(count: int = 2, side: int = SIZE, **options: Any) -> ArraySet:
    cubes = np.random.default_rng(0).uniform(1, 2, (count, len(NM), side, side))
    return ArraySet(cubes, **{"wavelengths": NM} | options)


def paint(masks: dict[str, NDArray[np.bool_]], side: int = SIZE, size: int = 160) -> NDArray[Any]:
    """Return the masks' row for one cube whose green band is black, so that only colors are left."""
    data = make_set(1, side, masks=masks)
    data.cubes[:] = 0
    rows = build_preview(data, [0], size=size, show_masks=True).rows
    assert rows[-1].name == "masks"
    return rows[-1].images[0].astype(float)


def make_masks(*names: str) -> dict[str, NDArray[np.bool_]]:
    """Return masks of one row each: the first structure is the top row."""
    masks = {name: np.zeros((1, SIZE, SIZE), dtype=bool) for name in names}
    for row, mask in enumerate(masks.values()):
        mask[0, row] = True
    return masks


def list_rows(data: ArraySet, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the rows of a saved sheet."""
    sheets: list[Preview] = []
    monkeypatch.setattr(contact_sheet, "save_sheet", lambda preview, *_, **__: sheets.append(preview))
    contact_sheet.save_contact_sheet(data, path)
    assert sheets[0].ids == data.ids and sheets[0].title == "array: 3 of 3 cubes"
    return [row.name for row in sheets[0].rows]


@pytest.mark.parametrize(
    ("wavelengths", "bands", "names"),
    [
        (NM, 16, ["true color", "450 nm", "541 nm", "632 nm", "723 nm", "814 nm", "905 nm"]),
        (None, 16, ["false color", "band 0", "band 3", "band 6", "band 9", "band 12", "band 15"]),
        (NM[:3], 3, ["false color", "450 nm", "480 nm", "511 nm"]),
        (None, 1, ["false color", "band 0"]),
    ],
)
def test_a_sheet_shows_color_six_bands_and_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wavelengths: Any, bands: int, names: list[str]
) -> None:
    cubes, vein = np.ones((3, bands, 4, 4)), np.ones((3, 4, 4), dtype=bool)
    for masks, last in (({}, []), ({"fov": vein}, []), ({"fov": vein, "vein": vein}, ["masks"])):
        data = ArraySet(cubes, wavelengths=wavelengths, masks=masks)
        assert list_rows(data, tmp_path / "sheet.png", monkeypatch) == names + last


def test_a_sheet_has_a_column_per_cube_and_the_masks_at_the_bottom(tmp_path: Path) -> None:
    data = make_set(3, masks={"vein": np.ones((3, SIZE, SIZE), dtype=bool)}, ids=["real 0", "decoded 0", "sample 0"])
    contact_sheet.save_contact_sheet(data, tmp_path / "sheet.png", size=40)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image).astype(int)
    is_vein = pixels[..., 2] - pixels[..., 0] > 100
    is_vein[: pixels.shape[0] // 2] = False  # the colors of random spectra
    rows, columns = np.flatnonzero(is_vein.any(axis=1)), np.flatnonzero(is_vein.any(axis=0))
    assert len(rows) == np.ptp(rows) + 1 == 40 and len(columns) == 3 * 40


def test_masks_are_painted_in_their_colors() -> None:
    masks = make_masks("artery", "vein", "onh", "lesion", "drusen") | {"fov": np.ones((1, SIZE, SIZE), dtype=bool)}
    pixels = paint(masks)
    for row, name in enumerate(("artery", "vein", "onh")):
        np.testing.assert_allclose(pixels[row].mean(axis=0), 0.8 * np.array(STRUCTURE_COLORS[name]), atol=1)
    assert (pixels[3:5].max(axis=-1) > 100).all() and (pixels[3] != pixels[4]).any()  # two other colors
    assert not pixels[5:].any()


def test_a_smaller_mask_is_drawn_over_a_larger_one() -> None:
    pixels = paint(make_masks("artery", "vein") | {"onh": np.ones((1, SIZE, SIZE), dtype=bool)})
    assert (pixels[1, :, 2] > pixels[1, :, 0]).all() and (pixels[4, :, 0] > pixels[4, :, 2]).all()


def test_below_the_masks_is_a_dimmed_band_near_555_nm() -> None:
    data = make_set(1, masks=make_masks("vein"))
    preview = build_preview(data, [0], wavelengths=[555], show_masks=True)
    gray, painted = preview.rows[1].images[0][1:], preview.rows[-1].images[0][1:]
    np.testing.assert_allclose(painted, np.repeat(MASK_BACKGROUND_LEVEL * gray[..., None], 3, axis=-1), atol=1)


def test_masks_are_painted_inside_the_field_and_shrink_with_the_cubes() -> None:
    field = np.zeros((1, SIZE, SIZE), dtype=bool)
    field[:, :10] = True
    vein = np.ones((1, SIZE, SIZE), dtype=bool)
    full, half = paint({"vein": vein, "fov": field}), paint({"vein": vein, "fov": field}, size=8)
    assert full.shape == (SIZE, SIZE, 3) and half.shape == (10, 10, 3)
    assert full[:10].all(axis=(0, 1))[2] and not full[10:].any()
    np.testing.assert_allclose(half[:5], full[0, 0] + 0 * half[:5], atol=1)


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0, np.nan])
def test_cubes_with_nothing_to_show_are_no_error(tmp_path: Path, value: float) -> None:
    empty = np.zeros((1, SIZE, SIZE), dtype=bool)
    for masks in ({}, {"fov": empty}, {"fov": empty, "vein": ~empty}):
        contact_sheet.save_contact_sheet(
            ArraySet(np.full((1, 2, SIZE, SIZE), value), masks=masks), tmp_path / "sheet.png"
        )


def test_it_is_written_atomically(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"its folder .* does not exist"):
        contact_sheet.save_contact_sheet(make_set(), tmp_path / "none" / "x.png")
    assert not any(tmp_path.iterdir())
