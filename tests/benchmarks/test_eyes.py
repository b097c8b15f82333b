"""The measures of eyes, on images whose values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.ldm import eye_measures as eyes
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions

CubesAndMasks = tuple[NDArray[Any], dict[str, NDArray[np.bool_]]]
SIDE = 64
NM = np.linspace(450.0, 905.0, 16)
GREEN = int(np.abs(NM - 555).argmin())
Y, X = np.mgrid[:SIDE, :SIDE]
ROUND = (Y - 31.5) ** 2 + (X - 31.5) ** 2 < 30**2


def make_masks(**structures: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of one eye with a round field; other structures are empty."""
    empty = np.zeros((1, SIDE, SIDE), dtype=bool)
    return {"artery": empty, "vein": empty, "onh": empty, "fov": ROUND[None]} | {
        name: mask[None] for name, mask in structures.items()
    }


def make_line(first: int, count: int) -> NDArray[np.bool_]:
    return np.isin(Y, range(first, first + count)) & np.isin(X, range(16, 48))


def make_disc(y: int, x: int, radius: float = 5.0) -> NDArray[np.bool_]:
    return (Y - y) ** 2 + (X - x) ** 2 <= radius**2


def make_flat_cube(value: float = 1.0) -> NDArray[np.float64]:
    """Return one cube, constant inside the round field."""
    return np.where(ROUND, value, 0.0) * np.ones((1, len(NM), 1, 1))


def make_cube_with_discs(*centers: tuple[int, int], pale: float = 1.3) -> NDArray[np.float64]:
    """Return a flat cube with discs that are brighter up to 700 nm."""
    cube = make_flat_cube()
    for y, x in centers:
        cube[:, NM <= 700] = np.where(make_disc(y, x) & ROUND, pale, cube[:, NM <= 700])
    return cube


# Contrast.


def test_contrast_is_that_of_the_green_band_alone() -> None:
    vessel, cube = make_line(20, 2), make_flat_cube(0.5)
    cube[:, GREEN, vessel] = 0.3
    assert eyes.compute_vessel_contrast(cube, make_masks(vein=vessel), NM) == pytest.approx([0.4])
    assert eyes.compute_vessel_contrast(cube, make_masks(vein=vessel), NM, at=800) == pytest.approx([0.0])


def test_the_ring_excludes_other_vessels_the_disc_the_outside_of_the_field_and_pixels_farther_than_3_px() -> None:
    vessel, other, pale = make_line(20, 2), make_line(23, 2), make_line(17, 2)
    cube = make_flat_cube(0.5)
    cube[:, :, ~ROUND], cube[:, :, make_line(25, 20)] = 9.0, 9.0
    cube[:, GREEN, vessel], cube[:, GREEN, other], cube[:, GREEN, pale] = 0.3, 0.1, 9.0
    masks = make_masks(vein=vessel, artery=other, onh=pale)
    assert eyes.compute_vessel_contrast(cube, masks, NM, of="vein") == pytest.approx([0.4])
    cube = make_flat_cube(0.5)
    cube[:, GREEN, vessel], cube[:, GREEN, Y == 24] = 0.3, 0.9
    around = 0.5 + 0.4 * 38 / (8 * 38 - 2 * 32)  # one of its eight rows of 38 px, two of which are vessel but for 3 px
    assert eyes.compute_vessel_contrast(cube, make_masks(vein=vessel), NM) == pytest.approx([1 - 0.3 / around])
    edge = (Y > 31) & ROUND & (np.roll(ROUND, -2, axis=0) ^ ROUND)  # along the field's lower rim
    cube = make_flat_cube(0.5)
    cube[:, :, ~ROUND], cube[:, GREEN, edge] = 9.0, 0.25
    assert eyes.compute_vessel_contrast(cube, make_masks(vein=edge), NM) == pytest.approx([0.5])


def test_arteries_and_veins_are_measured_separately() -> None:
    masks = make_masks(artery=make_line(15, 2), vein=make_line(40, 2))
    cube = make_flat_cube()
    cube[:, :, make_line(15, 2)], cube[:, :, make_line(40, 2)] = 0.8, 0.4
    contrasts = [float(eyes.compute_vessel_contrast(cube, masks, NM, of=of)[0]) for of in ("artery", "vein", "all")]
    assert contrasts == pytest.approx([0.2, 0.6, 0.4])


def test_thin_and_wide_separate_single_lines_from_squares_of_two() -> None:
    masks = make_masks(artery=make_line(15, 1) | make_line(25, 2), vein=make_line(40, 3))
    assert (eyes.find_vessels(masks, "thin")[0] == make_line(15, 1)).all()
    assert (eyes.find_vessels(masks, "wide")[0] == (make_line(25, 2) | make_line(40, 3))).all()


def test_eyes_without_vessels_have_no_contrast_and_are_ignored() -> None:
    vessel = make_line(20, 2)
    real = np.concatenate([make_flat_cube(), make_flat_cube()])
    real[0, :, vessel] = 0.6
    generated = real.copy()
    generated[0, :, vessel] = 0.9
    both = {name: np.concatenate([mask, empty]) for (name, mask), empty in zip(
        make_masks(vein=vessel).items(), make_masks().values(), strict=True)}  # fmt: skip
    assert np.isnan(eyes.compute_vessel_contrast(real, both, NM)[1])
    assert eyes.compute_contrast_retention(generated, real, both, NM) == pytest.approx(0.25)
    assert eyes.compute_contrast_retention(real * 3, real, both, NM) == pytest.approx(1.0)  # gain is no contrast
    assert np.isnan(eyes.compute_contrast_retention(real[1:], real[1:], make_masks(), NM))


# Area.


def test_vessel_share_is_relative_to_the_field() -> None:
    outside = make_line(20, 2) | (Y == 0)
    share = eyes.compute_vessel_share(make_masks(artery=make_line(20, 1), vein=outside))
    assert share == pytest.approx([2 * 32 / ROUND.sum()])


@pytest.mark.parametrize("depth", eyes.DEPTHS)
def test_dark_pixels_are_those_below_the_mean_of_their_window(depth: float) -> None:
    # A long line of depth d takes 9 of the 81 pixels of a window: it is found if 1 - d < (1 - depth) (1 - d / 9).
    threshold = depth / (1 - (1 - depth) / 9)
    line = (Y == 30) & ROUND
    for d, expected in ((threshold + 0.005, (line & (abs(X - 31.5) < 24)).sum()), (threshold - 0.005, 0)):
        cube = make_flat_cube()
        cube[:, GREEN, line] = 1 - d
        count = eyes.compute_dark_share(cube * 0.2, ROUND[None], NM, depth=depth) * ROUND.sum()
        assert expected <= count[0] <= (line.sum() if expected else 0)  # near the rim a window has more of the line


def test_neither_the_fields_edge_nor_a_discs_rim_is_dark() -> None:
    cube = make_cube_with_discs((31, 31), pale=1.5)
    assert eyes.compute_dark_share(cube, ROUND[None], NM, depth=0.05) == pytest.approx([0.0])
    line = make_line(10, 1) & ROUND
    cube[:, GREEN, line] = 0.7
    assert eyes.compute_dark_share(cube, ROUND[None], NM, depth=0.12) == pytest.approx([line.sum() / ROUND.sum()])


def test_shares_are_nan_without_a_field() -> None:
    nothing = np.zeros((1, SIDE, SIDE), dtype=bool)
    assert np.isnan(eyes.compute_dark_share(make_flat_cube(), nothing, NM, depth=0.1))
    assert np.isnan(eyes.compute_vessel_share(make_masks(vein=make_line(20, 2)) | {"fov": nothing}))


# Discs.


def test_discs_are_connected_components_of_8_px_or_more() -> None:
    square = (Y // 2 == 5) & (X // 4 == 5)  # 2 x 4
    corner = (Y // 2 == 6) & (X // 4 == 6)  # touches it by a corner
    seven = square & ~((Y == 10) & (X == 20))
    images = np.stack(
        [square, seven, square | corner, square | make_disc(40, 40), make_disc(40, 40) | seven, square & ~square]
    )
    assert eyes.count_discs(images).tolist() == [1, 0, 1, 2, 1, 0]
    assert eyes.compute_one_disc_share(images) == pytest.approx(0.5)


def test_the_minimum_area_of_a_disc_scales_with_the_image() -> None:
    small = np.pad(make_disc(31, 31, 1.5)[None], ((0, 0), (0, SIDE), (0, SIDE)))  # 9 px in an image of 128 px
    assert eyes.count_discs(small).tolist() == [0]
    assert eyes.count_discs(np.pad(make_disc(31, 31, 3.3)[None], ((0, 0), (0, SIDE), (0, SIDE)))).tolist() == [1]


@pytest.mark.parametrize("centers", [(), ((30, 20),), ((30, 20), (30, 46))])
def test_bright_discs_are_found_under_any_illumination(centers: tuple[tuple[int, int], ...]) -> None:
    shading = np.exp(-((X - 20) ** 2 + (Y - 20) ** 2) / 2500.0)  # falls to a third
    discs = eyes.find_bright_discs(make_cube_with_discs(*centers) * shading * 0.3, ROUND[None], NM)
    assert eyes.count_discs(discs).tolist() == [len(centers)]
    for y, x in centers:
        assert discs[0][make_disc(y, x, 3)].all()


def test_a_spot_that_is_bright_in_all_bands_is_no_disc() -> None:
    cube = make_flat_cube()
    cube[:, :, make_disc(30, 20)] = 2.0
    assert eyes.count_discs(eyes.find_bright_discs(cube, ROUND[None], NM)).tolist() == [0]


# Real eyes.


@pytest.fixture(scope="module")
def phantom_eyes() -> CubesAndMasks:
    phantom = Phantom(PhantomOptions(size=SIDE, oversampling=2))
    samples = [phantom.draw_sample(7, index) for index in range(3)]
    masks = {name: np.stack([sample.masks[name] for sample in samples]) for name in samples[0].masks}
    return np.stack([sample.cube for sample in samples]), masks


def test_phantom_eyes_have_vessels_and_one_disc_by_masks_and_by_cubes(phantom_eyes: CubesAndMasks) -> None:
    cubes, structures = phantom_eyes
    discs = eyes.find_bright_discs(cubes, structures["fov"], NM)
    assert eyes.count_discs(structures["onh"]).tolist() == eyes.count_discs(discs).tolist() == [1, 1, 1]
    assert eyes.compute_dice(discs, structures["onh"]) > 0.8
    assert (eyes.compute_vessel_contrast(cubes, structures, NM) > 0.2).all()
    ratio = (
        eyes.compute_dark_share(cubes, structures["fov"], NM, depth=0.2).mean()
        / eyes.compute_vessel_share(structures).mean()
    )
    assert 0.7 < ratio < 1.4


def test_an_eye_whose_disc_was_removed_or_doubled_is_recognized(phantom_eyes: CubesAndMasks) -> None:
    cubes, structures = phantom_eyes
    fov = structures["fov"]
    near = eyes.find_bright_discs(cubes, fov, NM) | structures["onh"]
    near = np.stack([np.maximum.reduce([np.roll(mask, s, (0, 1)) for s in np.ndindex(7, 7)]) for mask in near])
    near = np.roll(near, (-3, -3), (1, 2)) & fov
    mirrored, near_mirrored = cubes[..., ::-1], near[..., ::-1]
    removed = np.where(near[:, None], mirrored, cubes)
    doubled = np.where(near_mirrored[:, None], mirrored, cubes)
    assert not (near & near_mirrored).any()  # the discs are off the middle, so the mirror image has none there
    assert eyes.count_discs(eyes.find_bright_discs(removed, fov, NM)).tolist() == [0, 0, 0]
    assert eyes.count_discs(eyes.find_bright_discs(doubled, fov, NM)).tolist() == [2, 2, 2]


def test_dice_is_the_mean_over_eyes_that_have_the_structure() -> None:
    a, b = make_line(10, 4)[None], make_line(12, 4)[None]
    empty = a & ~a
    assert eyes.compute_dice(a, b) == pytest.approx(0.5)
    assert eyes.compute_dice(np.concatenate([a, empty]), np.concatenate([a, empty])) == 1.0
    assert eyes.compute_dice(a, empty) == 0.0
    assert np.isnan(eyes.compute_dice(empty, empty))
