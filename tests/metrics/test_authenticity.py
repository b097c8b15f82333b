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
from tests.helpers.drawn_eyes import FIELD, SIZE, WAVELENGTHS, compute_maps, make_eyes

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def make_table(maps: Array, name: str = "cube", pixels: int = SIZE) -> FeatureTable:
    ids = np.array([f"{name}-{i}" for i in range(len(maps))])
    columns = {"maps": maps, "maps/pixels": np.full((len(maps), 2), pixels)}
    return FeatureTable(columns, ids, ids, ids, WAVELENGTHS, structures=("fov",))


TRAIN, HOLDOUT, FRESH = make_eyes(40, 1), make_eyes(100, 2), make_eyes(60, 3)
TRAIN_MAPS, HOLDOUT_MAPS, FRESH_MAPS = compute_maps(TRAIN), compute_maps(HOLDOUT), compute_maps(FRESH)
COMMON = compute_common_details(TRAIN_MAPS)
PLACEMENTS = list_placements((1.0, 1.0))  # a cell is larger than a pixel of 62


def compute_details(maps: Array) -> NDArray[np.float32]:
    return compute_residual_details(maps, COMMON)


BASE = NearestNeighbors(to_unit_vectors(compute_details(TRAIN_MAPS)))


def add_noise(cube: Array) -> Array:
    return np.asarray(cube + 0.01 * cube.mean() * np.random.default_rng(4).normal(size=cube.shape), dtype=np.float32)


COPIES: dict[str, Callable[[Array], Array]] = {
    "exact": lambda cube: cube,
    "noise of 1 %": add_noise,
    "gain of 5 %": lambda cube: 1.05 * cube,
    "flip": lambda cube: cube[:, :, ::-1],
    "upside down": lambda cube: cube[:, ::-1],
    "quarter turn": lambda cube: np.rot90(cube, axes=(1, 2)),
    "2 px shift": lambda cube: np.roll(cube, 2, axis=2),
    "2 px diagonal shift": lambda cube: np.roll(cube, (2, -2), axis=(1, 2)),
    "flip, gain and noise": lambda cube: add_noise(1.05 * cube[:, :, ::-1]),
    "blur of 1 px": lambda cube: gaussian_filter(cube, (0, 1, 1)),
    "turn of 5 degrees": lambda cube: rotate(cube, 5, axes=(1, 2), reshape=False, order=1, mode="nearest"),
}


@pytest.mark.parametrize("kind", COPIES)
def test_every_copy_is_nearer_than_any_unseen_eye_and_matched_to_its_original(kind: str) -> None:
    copies = compute_maps([np.ascontiguousarray(COPIES[kind](cube)) for cube in TRAIN])
    matches = find_nearest(compute_details(copies), BASE, PLACEMENTS)
    unseen = find_nearest(compute_details(FRESH_MAPS), BASE, PLACEMENTS).distance
    assert matches.distance.max() < unseen.min()
    assert matches.row.tolist() == list(range(len(TRAIN)))


def test_a_copy_whose_field_moves_with_it_is_found() -> None:
    shifted = [np.roll(cube, (2, 2), axis=(1, 2)) for cube in TRAIN]
    copies = compute_maps(shifted, [np.roll(FIELD, (2, 2), axis=(0, 1))] * len(shifted))
    matches = find_nearest(compute_details(copies), BASE, PLACEMENTS)
    assert matches.distance.max() < find_nearest(compute_details(FRESH_MAPS), BASE, PLACEMENTS).distance.min()


def test_the_score_is_the_share_of_planted_copies() -> None:
    planted = [np.ascontiguousarray(copy(TRAIN[i])) for i, copy in enumerate(COPIES.values())]
    samples = np.concatenate([FRESH_MAPS[:49], compute_maps(planted)])
    real, generated, train = (make_table(maps) for maps in (HOLDOUT_MAPS, samples, TRAIN_MAPS))
    metric = Authenticity()
    full, full_generated, _ = metric.relate(real=real, generated=generated, train=train)
    below = full_generated["authenticity/distance"] < full["authenticity/distance"].min()
    parts = metric.compare(real=full, generated=full_generated, train=train, rng=RNG)
    assert below[49:].all()
    assert parts.value == below.mean() >= 11 / 60
    assert parts.details["nearest_pairs"][0]["distance"] < 1e-4


def test_the_copying_tests_are_significant_for_copies_and_not_for_honest_samples() -> None:
    holdout, train = make_table(HOLDOUT_MAPS), make_table(TRAIN_MAPS)
    samples = {"honest": FRESH_MAPS, "a tenth copied": np.concatenate([FRESH_MAPS[:54], TRAIN_MAPS[:6]])}
    samples["memorized"] = TRAIN_MAPS
    details = {
        name: Authenticity().compare(real=holdout, generated=make_table(maps), train=train, rng=RNG).details
        for name, maps in samples.items()
    }
    assert details["honest"]["copying"]["p"] > 0.05 < details["honest"]["calibrated"]["p"]
    assert details["a tenth copied"]["calibrated"]["below_all_held_out"] >= 6
    assert details["a tenth copied"]["calibrated"]["p"] < 0.01
    assert details["memorized"]["copying"]["p"] < 1e-9
    assert details["memorized"]["copying"]["c_t"] < -4
    assert details["memorized"]["calibrated"]["samples"] < 1e-4


def test_the_calibrated_distance_is_relative_to_the_nearest_training_cubes() -> None:
    real, generated, train = make_table(HOLDOUT_MAPS[:2]), make_table(FRESH_MAPS[:3]), make_table(TRAIN_MAPS)
    _, generated, _ = Authenticity().relate(real=real, generated=generated, train=train)
    base = to_unit_vectors(compute_details(TRAIN_MAPS)).astype(np.float64)
    for i in range(3):
        placement = PLACEMENTS[generated["authenticity/placement"][i]]
        oriented = orient_maps(compute_details(FRESH_MAPS[i : i + 1])[0], placement.turns, placement.mirrored)
        # 40 training cubes are fewer than 50: all of them count.
        distances = np.sqrt(
            ((base - to_unit_vectors(shift_maps(oriented, placement.down, placement.right))) ** 2).sum(axis=1)
        )
        assert generated["authenticity/calibrated"][i] == pytest.approx(distances.min() / distances.mean(), rel=1e-6)


def test_p_values_use_one_cube_per_group() -> None:
    holdout, train = make_table(HOLDOUT_MAPS), make_table(TRAIN_MAPS)
    grouped = dataclasses.replace(holdout, groups=np.array([str(i // 50) for i in range(100)]))
    copies = make_table(TRAIN_MAPS)
    ungrouped_score, grouped_score = (
        Authenticity().compare(real=real, generated=copies, train=train, rng=RNG) for real in (holdout, grouped)
    )
    assert ungrouped_score.value == grouped_score.value == 1
    assert ungrouped_score.details["calibrated"]["p"] < 1e-6
    # All 40 samples are nearer than the 2 held-out cubes.
    assert grouped_score.details["calibrated"]["p"] == pytest.approx(2 / (42 * 41))


def test_the_nearest_pairs_name_both_cubes_and_how_they_fit() -> None:
    generated = make_table(compute_maps([np.ascontiguousarray(TRAIN[7][:, :, ::-1])]), "sample")
    train = make_table(TRAIN_MAPS, "training")
    pair = (
        Authenticity()
        .compare(real=make_table(HOLDOUT_MAPS), generated=generated, train=train, rng=RNG)
        .details["nearest_pairs"][0]
    )
    assert (pair["sample"], pair["training"], pair["placement"]) == ("sample-0", "training-7", "mirrored")


def test_a_generator_that_memorized_scores_1_and_unseen_eyes_score_near_0() -> None:
    holdout, train = make_table(HOLDOUT_MAPS), make_table(TRAIN_MAPS)
    metric = Authenticity()
    memorized = metric.compare(real=holdout, generated=train, train=train, rng=RNG)
    honest = metric.compare(real=holdout, generated=make_table(FRESH_MAPS), train=train, rng=RNG)
    assert memorized.value == 1
    assert memorized.details["auth_pct"] == 0
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


def make_patches(seed: int, count: int = 24, size: int = 12) -> tuple[Array, Array]:
    """Return the maps of patches cropped from larger images, and of the same patches shifted by 2 px."""
    images = gaussian_filter(np.random.default_rng(seed).normal(size=(count, 5, 24, 24)), (0, 1, 1, 1))
    cubes = np.asarray(5 + 10 * images, dtype=np.float32)
    whole = np.ones((size, size), dtype=bool)
    patches = [np.ascontiguousarray(cubes[:, :, 6 : 6 + size, x : x + size]) for x in (6, 8)]
    return tuple(compute_maps(list(crops), [whole] * count) for crops in patches)  # type: ignore[return-value]


def test_copies_shifted_by_two_pixels_are_found_in_patches_of_twelve() -> None:
    (train, shifted), (holdout, _) = make_patches(1), make_patches(2)
    real, generated, _ = Authenticity().relate(
        real=make_table(holdout, pixels=12),
        generated=make_table(shifted, pixels=12),
        train=make_table(train, pixels=12),
    )
    assert generated["authenticity/distance"].max() < real["authenticity/distance"].min()
    assert generated["authenticity/nearest"].tolist() == [f"cube-{i}" for i in range(24)]
    placements = list_placements(tuple(generated["authenticity/step"][0]))
    assert {placements[i][2:] for i in generated["authenticity/placement"]} <= {(0, 5), (0, 3)}
    # Shifts up to 2 cells, three quarters of a pixel, do not find them: the search range must follow the cubes' size.
    assert (
        find_nearest(
            compute_details(shifted), NearestNeighbors(to_unit_vectors(compute_details(train))), PLACEMENTS
        ).distance.max()
        > 0.8
    )


def test_a_step_is_a_pixel_or_a_cell_whichever_is_larger() -> None:
    assert compute_shift_step(np.full((3, 2), 64), 32) == (1, 1)
    assert compute_shift_step(np.array([[12, 16], [12, 16], [50, 200]]), 32) == pytest.approx((32 / 12, 2))
    assert compute_shift_step(np.array([[4, 8]]), 32) == (4, 4)  # 2 steps are a quarter of the map, and no more
    assert compute_shift_step(np.array([[2, 2]]), 8) == (1, 1)


def test_shifts_cover_two_pixels_at_any_size_with_as_many_placements() -> None:
    for pixels in (8, 9, 12, 15, 18, 24, 31, 32, 33, 48, 64, 65, 224):
        placements = list_placements(compute_shift_step(np.full((1, 2), pixels), 32))
        assert len(set(placements)) == 104
        for axis in (2, 3):
            shifts = {
                placement[axis] for placement in placements if placement[:2] == (0, False) and placement[5 - axis] == 0
            }
            for pixel_shift in (-2, -1, 1, 2):  # each whole pixel is within half a cell
                assert min(abs(pixel_shift * 32 / pixels - shift) for shift in shifts) <= 0.5


def test_only_strictly_nearer_samples_count() -> None:
    assert compute_copy_share(np.array([0.4, 0.5, 0.5, 0.6]), 0.5) == 0.25
    assert compute_copy_share(np.array([1e-4, 1.01e-4]), 0.0) == 0.5  # up to 1e-4 is rounding


def test_an_identical_sample_is_a_copy_even_where_held_out_cubes_are_copies_too() -> None:
    assert compute_copy_share(np.array([0.0, 0.5]), 0.0) == 0.5
    train = make_table(TRAIN_MAPS)
    parts = Authenticity().compare(real=train, generated=train, train=train, rng=RNG)
    assert parts.value == 1
    assert "held-out cubes are copies" in parts.details["caveat"]


def test_authpct_is_the_share_farther_from_the_training_cube_than_that_is_from_others() -> None:
    assert compute_authentic_share(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 5.0])) == 0.25


def test_distances_agree_with_a_search_placement_by_placement() -> None:
    queries, base = compute_details(FRESH_MAPS[:3]), to_unit_vectors(compute_details(TRAIN_MAPS)).astype(np.float64)
    expected = np.full((3, len(base)), np.inf)
    for placement in PLACEMENTS:
        placed = shift_maps(orient_maps(queries, placement.turns, placement.mirrored), placement.down, placement.right)
        differences = to_unit_vectors(placed)[:, None].astype(np.float64) - base
        expected = np.minimum(expected, np.sqrt((differences**2).sum(axis=-1)))
    matches = find_nearest(queries, BASE, PLACEMENTS)
    assert np.array_equal(matches.row, expected.argmin(axis=1))
    assert matches.distance == pytest.approx(expected.min(axis=1), rel=1e-12)


def test_training_cubes_are_neighbors_of_each_other_but_not_of_themselves() -> None:
    maps = np.concatenate([TRAIN_MAPS[:5], TRAIN_MAPS[2:3]])
    _, _, train = Authenticity().relate(
        real=make_table(HOLDOUT_MAPS[:2]), generated=make_table(FRESH_MAPS[:2]), train=make_table(maps)
    )
    assert train is not None
    nn_distances = train["authenticity/distance"]
    assert nn_distances[2] == nn_distances[5] == 0
    assert (nn_distances[[0, 1, 3, 4]] > 0.5).all()


def test_a_training_set_of_one_cube_works() -> None:
    train = make_table(TRAIN_MAPS[:1])
    generated = make_table(np.concatenate([TRAIN_MAPS[:1], FRESH_MAPS[:3]]))
    parts = Authenticity().compare(real=make_table(HOLDOUT_MAPS[:5]), generated=generated, train=train, rng=RNG)
    assert parts.value >= 0.25
    assert np.isnan(parts.details["auth_pct"])
    assert parts.details["resolution"] == pytest.approx(1 / 6)
    assert "minimum of 5 held-out distances" in parts.details["caveat"]
    _, _, related = Authenticity().relate(real=make_table(HOLDOUT_MAPS[:5]), generated=generated, train=train)
    assert np.isnan(related["authenticity/distance"]).tolist() == [True]  # there is no other training cube


def test_without_a_training_set_there_is_no_value() -> None:
    with pytest.raises(NotComputable, match="--train"):
        Authenticity().compare(real=make_table(HOLDOUT_MAPS), generated=make_table(FRESH_MAPS), rng=RNG)


def test_a_cubes_placement_does_not_depend_on_the_other_cubes() -> None:
    together = find_nearest(compute_details(FRESH_MAPS), BASE, PLACEMENTS)
    alone = find_nearest(compute_details(FRESH_MAPS[35:36]), BASE, PLACEMENTS)
    assert together.distance[35] == pytest.approx(alone.distance[0], rel=1e-6)
    assert (together.row[35], together.placement[35]) == (alone.row[0], alone.placement[0])


def test_constant_cubes_do_not_break_the_search() -> None:
    flat = compute_maps([np.ones((5, SIZE, SIZE), dtype=np.float32)] * 2)
    parts = Authenticity().compare(
        real=make_table(HOLDOUT_MAPS), generated=make_table(flat), train=make_table(TRAIN_MAPS), rng=RNG
    )
    assert parts.value == 0


def test_details_depend_on_neither_a_constant_nor_the_surround() -> None:
    field = FIELD[::2, ::2]
    detail, inside = extract_details(np.where(field, 7.0, np.nan)[None, None])
    assert np.abs(detail).max() < 1e-6
    assert (inside[0, 0] <= field).all()
    assert 0 < inside.sum() < field.sum()


def test_an_offset_changes_no_detail() -> None:
    maps = TRAIN_MAPS[:2].astype(np.float64)
    assert extract_details(maps + 1)[0] == pytest.approx(extract_details(maps)[0], abs=1e-10)


def test_the_rim_of_a_field_does_not_count_unless_little_else_remains() -> None:
    wide, narrow = np.zeros((2, 32, 32), dtype=bool)
    wide[4:28, 4:28] = narrow[:, 10:14] = True
    expected = np.zeros_like(wide)
    expected[7:25, 7:25] = True
    assert np.array_equal(erode_rim(np.stack([wide, narrow])), np.stack([expected, narrow]))


def test_a_copy_shifted_with_its_black_surround_is_found() -> None:
    shifted = compute_maps([np.roll(cube * FIELD, (2, 2), axis=(1, 2)) for cube in TRAIN])
    matches = find_nearest(compute_details(shifted), BASE, PLACEMENTS)
    assert matches.distance.max() < find_nearest(compute_details(FRESH_MAPS), BASE, PLACEMENTS).distance.min()


def test_the_eight_orientations_and_the_shifts_are_all_different() -> None:
    image = np.random.default_rng(5).normal(size=(1, 6, 6))
    placed = {shift_maps(orient_maps(image, p.turns, p.mirrored), p.down, p.right).tobytes() for p in PLACEMENTS}
    assert len(placed) == len(PLACEMENTS) == 8 * 13
    assert str(PLACEMENTS[0]) == "as it is"


def test_a_shift_brings_in_zeros() -> None:
    image = np.arange(1.0, 10.0).reshape(3, 3)
    assert shift_maps(image, 1, -1).tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]


def test_maps_do_not_depend_on_the_size_in_pixels() -> None:
    cube = TRAIN[0]
    finer, finer_field = (np.repeat(np.repeat(image, 3, axis=-2), 3, axis=-1) for image in (cube, FIELD))
    assert np.allclose(compute_maps([finer], [finer_field]), TRAIN_MAPS[:1], atol=1e-5, equal_nan=True)


def test_maps_do_not_depend_on_the_gain() -> None:
    assert np.allclose(compute_maps([37 * TRAIN[0]]), TRAIN_MAPS[:1], atol=1e-5, equal_nan=True)


def test_maps_of_a_rotated_cube_are_rotated_maps() -> None:
    rotated = compute_maps([np.ascontiguousarray(np.rot90(TRAIN[0], axes=(1, 2)))], [np.rot90(FIELD)])
    assert np.allclose(rotated, np.rot90(TRAIN_MAPS[:1], axes=(2, 3)), atol=1e-6, equal_nan=True)


def test_cells_outside_the_field_are_nan() -> None:
    assert np.isnan(TRAIN_MAPS[0, :, 0, 0]).all()
    assert np.isfinite(TRAIN_MAPS[0, :, 16, 16]).all()


def test_area_averages_preserve_the_mean_when_cells_split_pixels() -> None:
    image = np.random.default_rng(6).normal(size=(1, 7, 10))
    cells = average_over_grid(image, np.ones((7, 10), dtype=bool), 4)
    assert cells.mean() == pytest.approx(image.mean(), rel=1e-12)


def test_fewer_bands_than_windows_give_one_map_per_band() -> None:
    assert compute_maps([TRAIN[0][:2]]).shape == (1, 2, 32, 32)
