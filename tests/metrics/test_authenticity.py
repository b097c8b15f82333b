from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate

from hseval.core.feature_table import FeatureTable
from hseval.extractors.maps import average_over_grid
from hseval.metrics.authenticity import Authenticity
from hseval.metrics.copy_search import (
    compute_common_details,
    compute_residual_details,
    compute_shift_step,
    erode_rim,
    extract_details,
    find_nearest,
    list_placements,
    orient_maps,
    shift_maps,
    to_unit_vectors,
)
from hseval.metrics.copying_tests import (
    compute_authentic_share,
    compute_copy_rank,
    compute_copy_share,
    compute_copy_threshold,
)
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors
from tests.helpers.drawn_eyes import FIELD, SIZE, WAVELENGTHS, eyes, maps_of

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def rows_of(maps: Array, name: str = "cube", pixels: int = SIZE) -> FeatureTable:
    ids = np.array([f"{name}-{i}" for i in range(len(maps))])
    columns = {"maps": maps, "maps/pixels": np.full((len(maps), 2), pixels)}
    return FeatureTable(columns, ids, ids, ids, WAVELENGTHS, structures=("fov",))


TRAIN, HELD, FRESH = eyes(40, 1), eyes(100, 2), eyes(60, 3)
TRAIN_MAPS, HELD_MAPS, FRESH_MAPS = maps_of(TRAIN), maps_of(HELD), maps_of(FRESH)
COMMON = compute_common_details(TRAIN_MAPS)
PLACES = list_placements((1.0, 1.0))  # a cell is larger than a pixel of 62


def particular(maps: Array) -> NDArray[np.float32]:
    return compute_residual_details(maps, COMMON)


BASE = NearestNeighbors(to_unit_vectors(particular(TRAIN_MAPS)))


def noisy(cube: Array) -> Array:
    return np.asarray(cube + 0.01 * cube.mean() * np.random.default_rng(4).normal(size=cube.shape), dtype=np.float32)


COPIES: dict[str, Callable[[Array], Array]] = {
    "exact": lambda cube: cube,
    "noise of 1 %": noisy,
    "gain of 5 %": lambda cube: 1.05 * cube,
    "flip": lambda cube: cube[:, :, ::-1],
    "upside down": lambda cube: cube[:, ::-1],
    "quarter turn": lambda cube: np.rot90(cube, axes=(1, 2)),
    "2 px shift": lambda cube: np.roll(cube, 2, axis=2),
    "2 px diagonal shift": lambda cube: np.roll(cube, (2, -2), axis=(1, 2)),
    "flip, gain and noise": lambda cube: noisy(1.05 * cube[:, :, ::-1]),
    "blur of 1 px": lambda cube: gaussian_filter(cube, (0, 1, 1)),
    "turn of 5 degrees": lambda cube: rotate(cube, 5, axes=(1, 2), reshape=False, order=1, mode="nearest"),
}


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_is_nearer_than_any_unseen_eye_and_traced_to_its_original(kind: str) -> None:
    copies = maps_of([np.ascontiguousarray(COPIES[kind](cube)) for cube in TRAIN])
    found = find_nearest(particular(copies), BASE, PLACES)
    unseen = find_nearest(particular(FRESH_MAPS), BASE, PLACES).distance
    assert found.distance.max() < unseen.min()
    assert found.row.tolist() == list(range(len(TRAIN)))


def test_a_copy_whose_field_moves_with_it_is_found() -> None:
    moved = [np.roll(cube, (2, 2), axis=(1, 2)) for cube in TRAIN]
    copies = maps_of(moved, [np.roll(FIELD, (2, 2), axis=(0, 1))] * len(moved))
    found = find_nearest(particular(copies), BASE, PLACES)
    assert found.distance.max() < find_nearest(particular(FRESH_MAPS), BASE, PLACES).distance.min()


def test_planted_copies_make_up_the_share_that_is_reported() -> None:
    planted = [np.ascontiguousarray(copy(TRAIN[i])) for i, copy in enumerate(COPIES.values())]
    samples = np.concatenate([FRESH_MAPS[:49], maps_of(planted)])
    real, generated, train = (rows_of(maps) for maps in (HELD_MAPS, samples, TRAIN_MAPS))
    metric = Authenticity()
    full, full_generated, _ = metric.relate(real=real, generated=generated, train=train)
    below = full_generated["authenticity/distance"] < full["authenticity/distance"].min()
    parts = metric.compare(real=full, generated=full_generated, train=train, rng=RNG)
    assert below[49:].all()
    assert parts.value == below.mean() >= 11 / 60
    assert parts.details["nearest_pairs"][0]["distance"] < 1e-4


def test_copies_show_in_the_tests_of_copying_and_honest_samples_do_not() -> None:
    held, train = rows_of(HELD_MAPS), rows_of(TRAIN_MAPS)
    samples = {"honest": FRESH_MAPS, "a tenth copied": np.concatenate([FRESH_MAPS[:54], TRAIN_MAPS[:6]])}
    samples["memorised"] = TRAIN_MAPS
    found = {
        name: Authenticity().compare(real=held, generated=rows_of(maps), train=train, rng=RNG).details
        for name, maps in samples.items()
    }
    assert found["honest"]["copying"]["p"] > 0.05 < found["honest"]["calibrated"]["p"]
    assert found["a tenth copied"]["calibrated"]["below_all_held_out"] >= 6
    assert found["a tenth copied"]["calibrated"]["p"] < 0.01
    assert found["memorised"]["copying"]["p"] < 1e-9
    assert found["memorised"]["copying"]["c_t"] < -4
    assert found["memorised"]["calibrated"]["samples"] < 1e-4


def test_the_calibrated_distance_is_relative_to_the_training_cubes_around() -> None:
    real, generated, train = rows_of(HELD_MAPS[:2]), rows_of(FRESH_MAPS[:3]), rows_of(TRAIN_MAPS)
    _, generated, _ = Authenticity().relate(real=real, generated=generated, train=train)
    base = to_unit_vectors(particular(TRAIN_MAPS)).astype(np.float64)
    for i in range(3):
        place = PLACES[generated["authenticity/placement"][i]]
        turned = orient_maps(particular(FRESH_MAPS[i : i + 1])[0], place.turns, place.mirrored)
        # 40 training cubes are fewer than 50: all of them count.
        gaps = np.sqrt(((base - to_unit_vectors(shift_maps(turned, place.down, place.right))) ** 2).sum(axis=1))
        assert generated["authenticity/calibrated"][i] == pytest.approx(gaps.min() / gaps.mean(), rel=1e-6)


def test_p_values_are_of_one_cube_a_group() -> None:
    held, train = rows_of(HELD_MAPS), rows_of(TRAIN_MAPS)
    grouped = dataclasses.replace(held, groups=np.array([str(i // 50) for i in range(100)]))
    copies = rows_of(TRAIN_MAPS)
    one, other = (Authenticity().compare(real=real, generated=copies, train=train, rng=RNG) for real in (held, grouped))
    assert one.value == other.value == 1
    assert one.details["calibrated"]["p"] < 1e-6
    assert other.details["calibrated"]["p"] == pytest.approx(2 / (42 * 41))  # all 40 samples before 2 held-out cubes


def test_the_nearest_pairs_name_both_cubes_and_how_they_fit() -> None:
    generated = rows_of(maps_of([np.ascontiguousarray(TRAIN[7][:, :, ::-1])]), "sample")
    train = rows_of(TRAIN_MAPS, "training")
    pair = (
        Authenticity()
        .compare(real=rows_of(HELD_MAPS), generated=generated, train=train, rng=RNG)
        .details["nearest_pairs"][0]
    )
    assert (pair["sample"], pair["training"], pair["placement"]) == ("sample-0", "training-7", "mirrored")


def test_a_generator_that_memorised_scores_1_and_unseen_eyes_score_near_0() -> None:
    held, train = rows_of(HELD_MAPS), rows_of(TRAIN_MAPS)
    metric = Authenticity()
    memorised = metric.compare(real=held, generated=train, train=train, rng=RNG)
    honest = metric.compare(real=held, generated=rows_of(FRESH_MAPS), train=train, rng=RNG)
    assert memorised.value == 1
    assert memorised.details["auth_pct"] == 0
    assert honest.value <= 0.05
    assert honest.details["median_ratio"] == pytest.approx(1, abs=0.05)


def test_the_threshold_is_the_first_percentile_or_the_minimum_of_fewer_than_100() -> None:
    assert compute_copy_threshold(np.arange(1000.0)) == 9
    assert compute_copy_threshold(np.arange(1.0, 100.0)) == 1
    assert compute_copy_threshold(np.random.default_rng(0).permutation(500.0 + np.arange(400.0))) == 503


def test_at_most_one_percent_of_honest_samples_is_expected_below_the_threshold() -> None:
    assert [compute_copy_rank(count) for count in (1, 98, 99, 100, 198, 199, 299, 1000)] == [1, 1, 1, 1, 1, 2, 3, 10]
    for count in range(99, 2000):
        rank = compute_copy_rank(count)
        assert rank / (count + 1) <= 0.01 + 1e-12 < (rank + 1) / (count + 1)
    rng = np.random.default_rng(0)
    shares = [
        compute_copy_share(rng.uniform(size=500), compute_copy_threshold(rng.uniform(size=150))) for _ in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(1 / 151, abs=4 * np.std(shares) / 2000**0.5)


def patches(seed: int, count: int = 24, size: int = 12) -> tuple[Array, Array]:
    """Return the maps of patches cut from larger images, and of what lies 2 px beside them."""
    images = gaussian_filter(np.random.default_rng(seed).normal(size=(count, 5, 24, 24)), (0, 1, 1, 1))
    cubes = np.asarray(5 + 10 * images, dtype=np.float32)
    whole = np.ones((size, size), dtype=bool)
    cut = [np.ascontiguousarray(cubes[:, :, 6 : 6 + size, x : x + size]) for x in (6, 8)]
    return tuple(maps_of(list(part), [whole] * count) for part in cut)  # type: ignore[return-value]


def test_copies_shifted_by_two_pixels_are_found_in_patches_of_twelve() -> None:
    (train, moved), (held, _) = patches(1), patches(2)
    real, generated, _ = Authenticity().relate(
        real=rows_of(held, pixels=12), generated=rows_of(moved, pixels=12), train=rows_of(train, pixels=12)
    )
    assert generated["authenticity/distance"].max() < real["authenticity/distance"].min()
    assert generated["authenticity/nearest"].tolist() == [f"cube-{i}" for i in range(24)]
    steps = list_placements(tuple(generated["authenticity/step"][0]))
    assert {steps[i][2:] for i in generated["authenticity/placement"]} <= {(0, 5), (0, 3)}
    # By 2 cells, three quarters of a pixel, they are not: the reach has to follow the cubes' size.
    assert (
        find_nearest(particular(moved), NearestNeighbors(to_unit_vectors(particular(train))), PLACES).distance.max()
        > 0.8
    )


def test_a_step_is_a_pixel_or_a_cell_whichever_is_larger() -> None:
    assert compute_shift_step(np.full((3, 2), 64), 32) == (1, 1)
    assert compute_shift_step(np.array([[12, 16], [12, 16], [50, 200]]), 32) == pytest.approx((32 / 12, 2))
    assert compute_shift_step(np.array([[4, 8]]), 32) == (4, 4)  # 2 steps are a quarter of the map, and no more
    assert compute_shift_step(np.array([[2, 2]]), 8) == (1, 1)


def test_shifts_reach_two_pixels_at_any_size_and_cost_the_same() -> None:
    for pixels in (8, 9, 12, 15, 18, 24, 31, 32, 33, 48, 64, 65, 224):
        places = list_placements(compute_shift_step(np.full((1, 2), pixels), 32))
        assert len(set(places)) == 104
        for axis in (2, 3):
            reached = {place[axis] for place in places if place[:2] == (0, False) and place[5 - axis] == 0}
            for moved in (-2, -1, 1, 2):  # each whole pixel is within half a cell
                assert min(abs(moved * 32 / pixels - each) for each in reached) <= 0.5


def test_only_what_is_strictly_nearer_counts() -> None:
    assert compute_copy_share(np.array([0.4, 0.5, 0.5, 0.6]), 0.5) == 0.25


def test_an_identical_sample_is_a_copy_even_where_held_out_cubes_are_copies_too() -> None:
    assert compute_copy_share(np.array([0.0, 0.5]), 0.0) == 0.5
    train = rows_of(TRAIN_MAPS)
    parts = Authenticity().compare(real=train, generated=train, train=train, rng=RNG)
    assert parts.value == 1
    assert "held-out cubes are copies" in parts.details["caveat"]


def test_authpct_is_the_share_that_is_farther_than_the_training_cube_is_from_the_others() -> None:
    assert compute_authentic_share(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 5.0])) == 0.25


def test_the_distances_are_those_of_a_search_placement_by_placement() -> None:
    queries, base = particular(FRESH_MAPS[:3]), to_unit_vectors(particular(TRAIN_MAPS)).astype(np.float64)
    expected = np.full((3, len(base)), np.inf)
    for place in PLACES:
        laid = shift_maps(orient_maps(queries, place.turns, place.mirrored), place.down, place.right)
        gaps = to_unit_vectors(laid)[:, None].astype(np.float64) - base
        expected = np.minimum(expected, np.sqrt((gaps**2).sum(axis=-1)))
    found = find_nearest(queries, BASE, PLACES)
    assert np.array_equal(found.row, expected.argmin(axis=1))
    assert found.distance == pytest.approx(expected.min(axis=1), rel=1e-12)


def test_training_cubes_are_each_others_neighbours_and_not_their_own() -> None:
    maps = np.concatenate([TRAIN_MAPS[:5], TRAIN_MAPS[2:3]])
    _, _, train = Authenticity().relate(
        real=rows_of(HELD_MAPS[:2]), generated=rows_of(FRESH_MAPS[:2]), train=rows_of(maps)
    )
    assert train is not None
    spacing = train["authenticity/distance"]
    assert spacing[2] == spacing[5] == 0
    assert (spacing[[0, 1, 3, 4]] > 0.5).all()


def test_a_training_set_of_one_cube_works() -> None:
    train = rows_of(TRAIN_MAPS[:1])
    generated = rows_of(np.concatenate([TRAIN_MAPS[:1], FRESH_MAPS[:3]]))
    parts = Authenticity().compare(real=rows_of(HELD_MAPS[:5]), generated=generated, train=train, rng=RNG)
    assert parts.value >= 0.25
    assert np.isnan(parts.details["auth_pct"])
    assert "minimum of 5 held-out distances" in parts.details["caveat"]


def test_without_a_training_set_there_is_no_value() -> None:
    with pytest.raises(NotComputable, match="--train"):
        Authenticity().compare(real=rows_of(HELD_MAPS), generated=rows_of(FRESH_MAPS), rng=RNG)


def test_a_cube_is_placed_alike_whatever_stands_beside_it() -> None:
    together = find_nearest(particular(FRESH_MAPS), BASE, PLACES)
    alone = find_nearest(particular(FRESH_MAPS[35:36]), BASE, PLACES)
    assert together.distance[35] == pytest.approx(alone.distance[0], rel=1e-6)
    assert (together.row[35], together.placement[35]) == (alone.row[0], alone.placement[0])


def test_constant_cubes_do_not_break_the_search() -> None:
    flat = maps_of([np.ones((5, SIZE, SIZE), dtype=np.float32)] * 2)
    parts = Authenticity().compare(real=rows_of(HELD_MAPS), generated=rows_of(flat), train=rows_of(TRAIN_MAPS), rng=RNG)
    assert parts.value == 0


def test_details_know_nothing_of_an_offset_and_nothing_of_the_surround() -> None:
    field = FIELD[::2, ::2]
    detail, inside = extract_details(np.where(field, 7.0, np.nan)[None, None])
    assert np.abs(detail).max() < 1e-6
    assert (inside[0, 0] <= field).all()
    assert 0 < inside.sum() < field.sum()


def test_an_offset_changes_no_detail() -> None:
    maps = TRAIN_MAPS[:2].astype(np.float64)
    assert extract_details(maps + 1)[0] == pytest.approx(extract_details(maps)[0], abs=1e-10)


def test_the_rim_of_a_field_does_not_count_unless_little_else_is_left() -> None:
    wide, narrow = np.zeros((2, 32, 32), dtype=bool)
    wide[4:28, 4:28] = narrow[:, 10:14] = True
    expected = np.zeros_like(wide)
    expected[7:25, 7:25] = True
    assert np.array_equal(erode_rim(np.stack([wide, narrow])), np.stack([expected, narrow]))


def test_a_copy_that_drags_the_black_surround_into_the_field_is_found() -> None:
    dragged = maps_of([np.roll(cube * FIELD, (2, 2), axis=(1, 2)) for cube in TRAIN])
    found = find_nearest(particular(dragged), BASE, PLACES)
    assert found.distance.max() < find_nearest(particular(FRESH_MAPS), BASE, PLACES).distance.min()


def test_the_eight_orientations_and_the_shifts_are_all_different() -> None:
    image = np.random.default_rng(5).normal(size=(1, 6, 6))
    laid = {shift_maps(orient_maps(image, p.turns, p.mirrored), p.down, p.right).tobytes() for p in PLACES}
    assert len(laid) == len(PLACES) == 8 * 13
    assert str(PLACES[0]) == "as it is"


def test_a_shift_brings_in_zeros() -> None:
    image = np.arange(1.0, 10.0).reshape(3, 3)
    assert shift_maps(image, 1, -1).tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]


def test_maps_do_not_depend_on_the_size_in_pixels() -> None:
    cube = TRAIN[0]
    finer, finer_field = (np.repeat(np.repeat(image, 3, axis=-2), 3, axis=-1) for image in (cube, FIELD))
    assert np.allclose(maps_of([finer], [finer_field]), TRAIN_MAPS[:1], atol=1e-5, equal_nan=True)


def test_maps_do_not_depend_on_the_gain() -> None:
    assert np.allclose(maps_of([37 * TRAIN[0]]), TRAIN_MAPS[:1], atol=1e-5, equal_nan=True)


def test_maps_of_a_turned_cube_are_turned_maps() -> None:
    turned = maps_of([np.ascontiguousarray(np.rot90(TRAIN[0], axes=(1, 2)))], [np.rot90(FIELD)])
    assert np.allclose(turned, np.rot90(TRAIN_MAPS[:1], axes=(2, 3)), atol=1e-6, equal_nan=True)


def test_cells_outside_the_field_are_not_a_number() -> None:
    assert np.isnan(TRAIN_MAPS[0, :, 0, 0]).all()
    assert np.isfinite(TRAIN_MAPS[0, :, 16, 16]).all()


def test_area_averages_keep_the_mean_when_cells_cut_pixels() -> None:
    image = np.random.default_rng(6).normal(size=(1, 7, 10))
    cells = average_over_grid(image, np.ones((7, 10), dtype=bool), 4)
    assert cells.mean() == pytest.approx(image.mean(), rel=1e-12)


def test_fewer_bands_than_windows_give_one_map_a_band() -> None:
    assert maps_of([TRAIN[0][:2]]).shape == (1, 2, 32, 32)
