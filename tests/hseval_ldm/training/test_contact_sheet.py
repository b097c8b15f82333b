"""Contact sheets: their bands, scales and layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hseval.utils.errors import HsevalError
from hseval_ldm.training.contact_sheet import STRUCTURE_COLORS, save_contact_sheet, select_bands, select_rgb_bands
from tests.helpers.sets import make_texture_set

NM = np.linspace(450, 905, 16)
SIZE = 20


def render_sheet(tmp_path: Path, cubes: NDArray[Any], **options: Any) -> NDArray[Any]:
    """Return the pixels of a sheet; tiles are located from the right and bottom."""
    options = {"wavelengths": NM[: cubes.shape[1]], "titles": [f"c{i}" for i in range(len(cubes))]} | options
    save_contact_sheet(cubes, out=tmp_path / "sheet.png", **options)
    with Image.open(tmp_path / "sheet.png") as image:
        return np.asarray(image)


def extract_tiles(pixels: NDArray[Any], rows: int, columns: int, side: int) -> NDArray[Any]:
    """Cut ``(row, column, side, side, 3)`` out of a sheet."""
    bottom, right = pixels.shape[0] - 10, pixels.shape[1] - 10
    extracted = [
        [
            pixels[bottom - (rows - r) * (side + 3) + 3 :, right - (columns - c) * (side + 3) + 3 :][:side, :side]
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    return np.array(extracted)


def test_the_nearest_bands_are_selected_without_repetition() -> None:
    assert [round(NM[band]) for band in select_bands(NM, 16)] == [905, 814, 723, 632, 541, 450]
    assert select_bands(np.array([500.0, 600.0, 700.0]), 3) == [2, 1, 0]
    assert select_bands(None, 11) == [10, 8, 6, 4, 2, 0]
    assert select_bands(None, 2) == [1, 0]
    assert select_bands(None, 1) == [0]
    assert [round(NM[band]) for band in select_rgb_bands(NM, 16)] == [632, 541, 450]
    assert select_rgb_bands(None, 9) == [7, 4, 1]
    assert select_rgb_bands(None, 1) == [0, 0, 0]


def test_each_row_has_one_scale_from_inside_the_field(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)
    cubes = np.stack([ramp, ramp + 1])[:, None] * np.array([1.0, 50.0])[None, :, None, None]
    field = np.ones((2, SIZE, SIZE), dtype=bool)
    field[:, :5] = False
    cubes[:, :, :5] = 1e6  # outside, so not part of any scale
    pixels = extract_tiles(render_sheet(tmp_path, cubes, field=field), 3, 2, 12 * SIZE)[:, :, ::12, ::12]
    for row, band in ((1, 1), (2, 0)):
        values = cubes[:, band]
        low, high = np.percentile(values[field], (2, 98))
        expected = np.rint(((values - low) / (high - low)).clip(0, 1) * 255)
        expected[~field] = 0
        np.testing.assert_array_equal(pixels[row], np.repeat(expected[..., None], 3, axis=-1))
    assert not pixels[:, :, :5].any()
    assert pixels[0, 1].mean() > pixels[0, 0].mean() > 0


def test_pixels_without_numbers_are_black(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).uniform(1, 2, (1, 3, SIZE, SIZE))
    cubes[0, 1, 4, 7] = np.nan
    pixels = extract_tiles(render_sheet(tmp_path, cubes, wavelengths=None), 4, 1, 12 * SIZE)[:, :, ::12, ::12]
    assert not pixels[:, 0, 4, 7].any()
    assert (pixels[:, 0].max(axis=-1) > 0).mean() > 0.9


@pytest.mark.parametrize("value", [0.0, -2.0, 3.0])
def test_a_flat_or_empty_cube_is_rendered(tmp_path: Path, value: float) -> None:
    empty = np.zeros((1, SIZE, SIZE), dtype=bool)
    for field in (None, empty):
        assert render_sheet(tmp_path, np.full((1, 2, SIZE, SIZE), value), field=field).shape[2] == 3


def test_masks_are_painted_in_their_colors(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).uniform(1, 2, (1, 1, SIZE, SIZE))
    masks = {name: np.zeros((1, SIZE, SIZE), dtype=bool) for name in ("artery", "vein", "onh", "lesion", "drusen")}
    for row, mask in enumerate(masks.values()):
        mask[0, row] = True
    masks["fov"] = np.ones((1, SIZE, SIZE), dtype=bool)
    masks["fov"][:, 10:] = False  # neither painted nor used as the field, which is the argument `field`
    pixels = extract_tiles(render_sheet(tmp_path, cubes, masks=masks), 3, 1, 12 * SIZE)[2, 0, ::12, ::12].astype(float)
    plain = extract_tiles(render_sheet(tmp_path, cubes), 2, 1, 12 * SIZE)[1, 0, ::12, ::12]
    for row, name in enumerate(("artery", "vein", "onh")):
        np.testing.assert_allclose(pixels[row].mean(axis=0), 0.8 * np.array(STRUCTURE_COLORS[name]) + 11, atol=4)
    assert np.ptp(pixels[3] - pixels[4], axis=0).max() < 40 and (pixels[3] - pixels[4]).mean() != 0  # two other colors
    np.testing.assert_allclose(pixels[5:], 0.45 * plain[5:], atol=1)


def test_a_smaller_mask_is_drawn_over_a_larger_one(tmp_path: Path) -> None:
    disc, vessel = np.ones((1, SIZE, SIZE), dtype=bool), np.zeros((1, SIZE, SIZE), dtype=bool)
    vessel[0, 3] = True
    cubes = np.random.default_rng(0).uniform(1, 2, (1, 1, SIZE, SIZE))
    pixels = extract_tiles(render_sheet(tmp_path, cubes, masks={"vein": vessel, "onh": disc}), 3, 1, 12 * SIZE)[
        2, 0, ::12, ::12
    ]
    assert (pixels[3, :, 2] > pixels[3, :, 0]).all() and (pixels[4, :, 0] > pixels[4, :, 2]).all()


@pytest.mark.parametrize(
    ("side", "count", "width"), [(64, 8, 128), (64, 1, 256), (224, 4, 224), (224, 8, 224), (672, 3, 224), (300, 2, 300)]
)
def test_tiles_are_enlarged_reduced_or_unchanged(tmp_path: Path, side: int, count: int, width: int) -> None:
    pixels = render_sheet(tmp_path, np.random.default_rng(0).uniform(size=(count, 1, side, side)))
    left = pixels.shape[1] - 10 - count * (width + 3) + 3
    assert 40 < left < 100  # the space for labels
    rendered = extract_tiles(pixels, 2, count, width)
    assert rendered[1].std(axis=(1, 2)).min() > 15  # no tile is missing or blank
    assert (pixels[:, :left] == 255).all(axis=-1).mean() > 0.9


def test_long_titles_are_truncated_to_their_column(tmp_path: Path) -> None:
    cubes = np.random.default_rng(0).uniform(size=(8, 1, 64, 64))
    short = render_sheet(tmp_path, cubes, titles=[""] * 8)
    long = render_sheet(tmp_path, cubes, titles=["w" * 500, *[""] * 7])
    changed = np.flatnonzero((short != long).any(axis=(0, 2)))
    left = short.shape[1] - 10 - 8 * 131 + 3
    assert changed.size and left <= changed[0] and changed[-1] < left + 128


def test_the_whole_field_of_textures_is_visible(tmp_path: Path) -> None:
    data = make_texture_set(3)
    field = data.masks["fov"]
    pixels = extract_tiles(render_sheet(tmp_path, data.cubes, wavelengths=data.wavelengths, field=field), 7, 3, 256)[
        :, :, 4::8, 4::8
    ]
    assert not pixels[:, ~field].any()
    gray = pixels[1:, field][..., 0].astype(float)
    assert ((gray == 0).mean(axis=1) < 0.03).all() and ((gray == 255).mean(axis=1) < 0.03).all()


def test_it_is_written_atomically(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"its folder .* does not exist"):
        save_contact_sheet(np.ones((1, 1, 4, 4)), None, out=tmp_path / "none" / "x.png", titles=["a"])
    with pytest.raises(ValueError, match="2 titles for 1 cube"):
        save_contact_sheet(np.ones((1, 1, 4, 4)), None, out=tmp_path / "x.png", titles=["a", "b"])
    assert not any(tmp_path.iterdir())


def test_it_imports_neither_torch_nor_matplotlib() -> None:
    code = "import sys, hseval_ldm.training.contact_sheet; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
