"""``hseval preview``: contact sheets and films, as typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hseval.core.cubes import ArraySet
from hseval.reporting.preview.preview import build_preview, draw_indices
from hseval.reporting.preview.render import CubeRenderer, choose_bands_and_factor, downsample, mask_invalid
from hseval.utils.feature_cache import FeatureCache
from tests.helpers.sets import make_texture_set, save_set


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    return save_set(tmp_path / "set.h5", make_texture_set(8, size=24, bands=6))


def test_a_sheet_has_a_row_for_color_and_each_wavelength(hseval: Callable[..., Any], cubes: Path) -> None:
    out = cubes.parent / "sheet.png"
    done = hseval("preview", cubes, "--out", out, "-n", 3, "--wavelengths-shown", "541,900", "--size", 48)
    assert done.status == 0, done.err
    assert "3 of 8 cubes" in done.out
    assert "of Z" in done.out  # the part of the color that the bands do not measure
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width >= 3 * 48
        assert sheet.height >= 3 * 48


def test_a_film_has_a_frame_per_band(hseval: Callable[..., Any], cubes: Path) -> None:
    out = cubes.parent / "film.gif"
    assert hseval("preview", cubes, "--out", out, "-n", 2, "--size", 48).status == 0
    with Image.open(out) as film:
        assert film.n_frames == 6
        frames = []
        for frame in range(film.n_frames):
            film.seek(frame)
            frames.append(np.asarray(film.convert("L")))
    assert len({frame.tobytes() for frame in frames}) == 6


def test_neither_order_nor_names_decide_which_cubes_are_drawn() -> None:
    base = make_texture_set(12, size=16)
    order = np.random.default_rng(1).permutation(12)
    shuffled = ArraySet(
        base.cubes[order],
        wavelengths=base.wavelengths,
        masks={name: mask[order] for name, mask in base.masks.items()},
        ids=list("abcdefghijkl"),
    )
    with FeatureCache(None) as cache:
        first = [base.cubes[i] for i in draw_indices(base, 4, seed=3, cache=cache)]
        second = [shuffled.cubes[i] for i in draw_indices(shuffled, 4, seed=3, cache=cache)]
        other = draw_indices(base, 4, seed=4, cache=cache)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, [base.cubes[i] for i in other])


def test_ids_are_shown_in_the_order_given(hseval: Callable[..., Any], cubes: Path) -> None:
    done = hseval("preview", cubes, "--out", cubes.parent / "a.png", "--ids", "cube-0-005,cube-0-002")
    assert "cube-0-005, cube-0-002" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "a.jpg"), "ends in .png"),
        (("--out", "a.png", "--ids", "cube-0-00X"), "did you mean 'cube-0-00"),
        (("--out", "a.png", "--wavelengths-shown", "2000"), "450 to 905 nm"),
        (("--out", "a.png", "--wavelengths-shown", "red"), "expected numbers"),
        (("--out", "nowhere/a.png"), "does not exist"),
        (("--out", "set.png"), "is an input"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    hseval: Callable[..., Any], cubes: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(cubes.parent)
    source = cubes.rename(cubes.with_suffix(".png")) if "set.png" in arguments else cubes
    before = sorted(cubes.parent.iterdir())
    done = hseval("preview", source, *arguments)
    assert done.status == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert sorted(cubes.parent.iterdir()) == before


def test_a_full_disk_leaves_the_existing_file_unchanged(
    hseval: Callable[..., Any], cubes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = cubes.parent / "sheet.png"
    out.write_bytes(b"before")

    def raise_no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", raise_no_space)
    done = hseval("preview", cubes, "--out", out)
    assert done.status == 2
    assert "No space left" in done.err
    assert out.read_bytes() == b"before"


def test_a_sheet_beyond_the_visible_is_false_color_and_states_it(hseval: Callable[..., Any], tmp_path: Path) -> None:
    base = make_texture_set(4, size=16)
    source = save_set(tmp_path / "infrared.h5", base, wavelengths=np.linspace(900, 1700, 6))
    done = hseval("preview", source, "--out", tmp_path / "a.png")
    assert "No true color" in done.out
    assert "false color: red is 15" in done.out
    preview = build_preview(ArraySet(base.cubes, wavelengths=np.linspace(900, 1700, 6)), [0, 1])
    assert preview.rows[0].name == "false color"


def test_every_visible_band_contributes_to_the_color() -> None:
    nm = np.linspace(400, 700, 31)
    cube = np.full((31, 4, 4), 0.2, dtype=np.float32)
    reference = cube.copy()
    reference[:, 0, 0] = 0.9
    changed = cube.copy()
    changed[14] = 0.9  # 540 nm alone
    renderer = CubeRenderer.from_reference([reference], nm)
    plain, green = renderer.render_color(cube), renderer.render_color(changed)
    assert plain is not None
    assert green is not None
    difference = green[0, 0].astype(int) - plain[0, 0]
    assert int(np.argmax(difference)) == 1
    for band in range(3, 28):
        changed = cube.copy()
        changed[band] = 0.9
        assert not np.array_equal(renderer.render_color(changed), plain), band


def test_invalid_pixels_are_transparent_and_do_not_affect_the_scale() -> None:
    base = make_texture_set(3, size=20)
    preview = build_preview(base, [0, 1, 2])
    np.testing.assert_array_equal(preview.valid[0], base.masks["fov"][0])
    corrupted = base.cubes.copy()
    corrupted[:, :, ~base.masks["fov"][0]] = 1e6
    again = build_preview(ArraySet(corrupted, wavelengths=base.wavelengths, masks=base.masks), [0, 1, 2])
    for row, row_again in zip(preview.rows, again.rows, strict=True):
        np.testing.assert_array_equal(row.images[0][preview.valid[0]], row_again.images[0][preview.valid[0]])


def test_downsampling_averages_only_valid_pixels() -> None:
    data = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    valid = np.ones((4, 4), dtype=bool)
    valid[0, 0] = False
    valid[2:, 2:] = False
    small = downsample(mask_invalid(data, valid), 2)
    np.testing.assert_allclose(small[0, 0], [(1 + 4 + 5) / 3, (2 + 3 + 6 + 7) / 4])
    assert np.isnan(small[:, 1, 1]).all()
    assert np.isfinite(small[:, 1, 0]).all()


@pytest.mark.parametrize(("bands", "side"), [(16, 224), (220, 145), (16, 672), (300, 12), (4, 20), (1000, 1000)])
def test_the_images_of_a_cube_fit_a_page(bands: int, side: int) -> None:
    visible_bands, factor = choose_bands_and_factor(bands, side, side)
    small = -(-side // factor)
    assert small <= 256
    assert len(visible_bands) * small**2 <= 820_000
    assert (visible_bands[0], visible_bands[-1]) == (0, bands - 1)


def test_cubes_without_a_valid_pixel_are_refused(hseval: Callable[..., Any], tmp_path: Path) -> None:
    base = make_texture_set(2, size=16)
    base.cubes[1] = np.nan
    source = save_set(tmp_path / "set.h5", base)
    done = hseval("preview", source, "--out", tmp_path / "a.png", "--ids", base.ids[1])
    assert done.status == 2 and "set.h5: none of the selected cubes has a valid pixel" in done.err
    assert not (tmp_path / "a.png").exists()
