"""What benchmarks measure on eyes, on drawn pictures whose figures are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.ldm import eye_measures as eyes
from hseval.generators.phantom import Phantom
from hseval.generators.phantom.plugin import PhantomOptions

Drawn = tuple[NDArray[Any], dict[str, NDArray[np.bool_]]]
SIDE = 64
NM = np.linspace(450.0, 905.0, 16)
GREEN = int(np.abs(NM - 555).argmin())
Y, X = np.mgrid[:SIDE, :SIDE]
ROUND = (Y - 31.5) ** 2 + (X - 31.5) ** 2 < 30**2


def masks(**structures: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of one eye with a round field; what is not given is empty."""
    empty = np.zeros((1, SIDE, SIDE), dtype=bool)
    given = {name: mask[None] for name, mask in structures.items()}
    return {"artery": empty, "vein": empty, "onh": empty, "fov": ROUND[None]} | given


def rows(first: int, count: int) -> NDArray[np.bool_]:
    return np.isin(Y, range(first, first + count)) & np.isin(X, range(16, 48))


def disc(y: int, x: int, radius: float = 5.0) -> NDArray[np.bool_]:
    return (Y - y) ** 2 + (X - x) ** 2 <= radius**2


def flat(value: float = 1.0) -> NDArray[np.float64]:
    """Return one cube of one value inside the round field."""
    return np.where(ROUND, value, 0.0) * np.ones((1, len(NM), 1, 1))


def with_discs(*places: tuple[int, int], pale: float = 1.3) -> NDArray[np.float64]:
    """Return a flat cube with discs that are brighter up to 700 nm."""
    cube = flat()
    for y, x in places:
        cube[:, NM <= 700] = np.where(disc(y, x) & ROUND, pale, cube[:, NM <= 700])
    return cube


# Contrast.


def test_contrast_is_what_was_painted_in_the_green_band_alone() -> None:
    vessel, cube = rows(20, 2), flat(0.5)
    cube[:, GREEN, vessel] = 0.3
    assert eyes.vessel_contrast(cube, masks(vein=vessel), NM) == pytest.approx([0.4])
    assert eyes.vessel_contrast(cube, masks(vein=vessel), NM, at=800) == pytest.approx([0.0])


def test_the_ring_holds_no_other_vessel_no_disc_nothing_outside_the_field_and_nothing_farther_than_3_px() -> None:
    vessel, other, pale = rows(20, 2), rows(23, 2), rows(17, 2)
    cube = flat(0.5)
    cube[:, :, ~ROUND], cube[:, :, rows(25, 20)] = 9.0, 9.0
    cube[:, GREEN, vessel], cube[:, GREEN, other], cube[:, GREEN, pale] = 0.3, 0.1, 9.0
    found = masks(vein=vessel, artery=other, onh=pale)
    assert eyes.vessel_contrast(cube, found, NM, of="vein") == pytest.approx([0.4])
    cube = flat(0.5)
    cube[:, GREEN, vessel], cube[:, GREEN, Y == 24] = 0.3, 0.9
    around = 0.5 + 0.4 * 38 / (8 * 38 - 2 * 32)  # one of its eight rows of 38 px, two of which are vessel but for 3 px
    assert eyes.vessel_contrast(cube, masks(vein=vessel), NM) == pytest.approx([1 - 0.3 / around])
    edge = (Y > 31) & ROUND & (np.roll(ROUND, -2, axis=0) ^ ROUND)  # along the field's lower rim
    cube = flat(0.5)
    cube[:, :, ~ROUND], cube[:, GREEN, edge] = 9.0, 0.25
    assert eyes.vessel_contrast(cube, masks(vein=edge), NM) == pytest.approx([0.5])


def test_arteries_and_veins_apart() -> None:
    found = masks(artery=rows(15, 2), vein=rows(40, 2))
    cube = flat()
    cube[:, :, rows(15, 2)], cube[:, :, rows(40, 2)] = 0.8, 0.4
    measured = [float(eyes.vessel_contrast(cube, found, NM, of=of)[0]) for of in ("artery", "vein", "all")]
    assert measured == pytest.approx([0.2, 0.6, 0.4])


def test_width_tells_single_lines_from_squares_of_two() -> None:
    found = masks(artery=rows(15, 1) | rows(25, 2), vein=rows(40, 3))
    assert (eyes.vessels(found, "thin")[0] == rows(15, 1)).all()
    assert (eyes.vessels(found, "wide")[0] == (rows(25, 2) | rows(40, 3))).all()


def test_eyes_without_vessels_have_no_contrast_and_count_on_neither_side() -> None:
    vessel = rows(20, 2)
    real = np.concatenate([flat(), flat()])
    real[0, :, vessel] = 0.6
    made = real.copy()
    made[0, :, vessel] = 0.9
    both = {name: np.concatenate([one, none]) for (name, one), none in zip(
        masks(vein=vessel).items(), masks().values(), strict=True)}  # fmt: skip
    assert np.isnan(eyes.vessel_contrast(real, both, NM)[1])
    assert eyes.contrast_kept(made, real, both, NM) == pytest.approx(0.25)
    assert eyes.contrast_kept(real * 3, real, both, NM) == pytest.approx(1.0)  # gain is no contrast
    assert np.isnan(eyes.contrast_kept(real[1:], real[1:], masks(), NM))


# Area.


def test_vessel_share_of_the_field() -> None:
    outside = rows(20, 2) | (Y == 0)
    share = eyes.vessel_share(masks(artery=rows(20, 1), vein=outside))
    assert share == pytest.approx([2 * 32 / ROUND.sum()])


@pytest.mark.parametrize("depth", eyes.DEPTHS)
def test_dark_pixels_are_those_below_the_mean_of_their_window(depth: float) -> None:
    # A long line of depth d takes 9 of the 81 pixels of a window: it is found when 1 - d < (1 - depth) (1 - d / 9).
    bar = depth / (1 - (1 - depth) / 9)
    line = (Y == 30) & ROUND
    for d, expected in ((bar + 0.005, (line & (abs(X - 31.5) < 24)).sum()), (bar - 0.005, 0)):
        cube = flat()
        cube[:, GREEN, line] = 1 - d
        found = eyes.dark_share(cube * 0.2, ROUND[None], NM, depth=depth) * ROUND.sum()
        assert expected <= found[0] <= (line.sum() if expected else 0)  # near the rim a window holds more of the line


def test_neither_the_fields_edge_nor_a_discs_rim_is_dark() -> None:
    cube = with_discs((31, 31), pale=1.5)
    assert eyes.dark_share(cube, ROUND[None], NM, depth=0.05) == pytest.approx([0.0])
    line = rows(10, 1) & ROUND
    cube[:, GREEN, line] = 0.7
    assert eyes.dark_share(cube, ROUND[None], NM, depth=0.12) == pytest.approx([line.sum() / ROUND.sum()])


def test_shares_are_nan_without_a_field() -> None:
    nothing = np.zeros((1, SIDE, SIDE), dtype=bool)
    assert np.isnan(eyes.dark_share(flat(), nothing, NM, depth=0.1))
    assert np.isnan(eyes.vessel_share(masks(vein=rows(20, 2)) | {"fov": nothing}))


# Discs.


def test_discs_are_connected_parts_of_8_px_or_more() -> None:
    square = (Y // 2 == 5) & (X // 4 == 5)  # 2 x 4
    corner = (Y // 2 == 6) & (X // 4 == 6)  # touches it by a corner
    seven = square & ~((Y == 10) & (X == 20))
    pictures = np.stack([square, seven, square | corner, square | disc(40, 40), disc(40, 40) | seven, square & ~square])
    assert eyes.disc_count(pictures).tolist() == [1, 0, 1, 2, 1, 0]
    assert eyes.one_disc(pictures) == pytest.approx(0.5)


def test_a_discs_least_area_grows_with_the_picture() -> None:
    eight = np.pad(disc(31, 31, 1.5)[None], ((0, 0), (0, SIDE), (0, SIDE)))  # 9 px of a picture of 128
    assert eyes.disc_count(eight).tolist() == [0]
    assert eyes.disc_count(np.pad(disc(31, 31, 3.3)[None], ((0, 0), (0, SIDE), (0, SIDE)))).tolist() == [1]


@pytest.mark.parametrize("places", [(), ((30, 20),), ((30, 20), (30, 46))])
def test_bright_discs_are_found_whatever_the_illumination(places: tuple[tuple[int, int], ...]) -> None:
    shading = np.exp(-((X - 20) ** 2 + (Y - 20) ** 2) / 2500.0)  # falls to a third
    found = eyes.bright_discs(with_discs(*places) * shading * 0.3, ROUND[None], NM)
    assert eyes.disc_count(found).tolist() == [len(places)]
    for y, x in places:
        assert found[0][disc(y, x, 3)].all()


def test_what_is_bright_in_all_bands_is_no_disc() -> None:
    cube = flat()
    cube[:, :, disc(30, 20)] = 2.0
    assert eyes.disc_count(eyes.bright_discs(cube, ROUND[None], NM)).tolist() == [0]


# Real eyes.


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    phantom = Phantom(PhantomOptions(size=SIDE, oversampling=2))
    found = [phantom.draw_sample(7, index) for index in range(3)]
    return np.stack([s.cube for s in found]), {n: np.stack([s.masks[n] for s in found]) for n in found[0].masks}


def test_phantom_eyes_have_vessels_and_one_disc_both_ways(drawn: Drawn) -> None:
    cubes, structures = drawn
    found = eyes.bright_discs(cubes, structures["fov"], NM)
    assert eyes.disc_count(structures["onh"]).tolist() == eyes.disc_count(found).tolist() == [1, 1, 1]
    assert eyes.dice(found, structures["onh"]) > 0.8
    assert (eyes.vessel_contrast(cubes, structures, NM) > 0.2).all()
    ratio = eyes.dark_share(cubes, structures["fov"], NM, depth=0.2).mean() / eyes.vessel_share(structures).mean()
    assert 0.7 < ratio < 1.4


def test_an_eye_whose_disc_was_taken_out_or_doubled_is_told(drawn: Drawn) -> None:
    cubes, structures = drawn
    fov = structures["fov"]
    near = eyes.bright_discs(cubes, fov, NM) | structures["onh"]
    near = np.stack([np.maximum.reduce([np.roll(each, s, (0, 1)) for s in np.ndindex(7, 7)]) for each in near])
    near = np.roll(near, (-3, -3), (1, 2)) & fov
    mirrored, beside = cubes[..., ::-1], near[..., ::-1]
    without = np.where(near[:, None], mirrored, cubes)
    doubled = np.where(beside[:, None], mirrored, cubes)
    assert not (near & beside).any()  # the discs lie off the middle, so that a mirror image has none where they are
    assert eyes.disc_count(eyes.bright_discs(without, fov, NM)).tolist() == [0, 0, 0]
    assert eyes.disc_count(eyes.bright_discs(doubled, fov, NM)).tolist() == [2, 2, 2]


def test_dice() -> None:
    one, two = rows(10, 4)[None], rows(12, 4)[None]
    nothing = one & ~one
    assert eyes.dice(one, two) == pytest.approx(0.5)
    assert eyes.dice(np.concatenate([one, nothing]), np.concatenate([one, nothing])) == 1.0
    assert eyes.dice(one, nothing) == 0.0
    assert np.isnan(eyes.dice(nothing, nothing))
