"""``ms-ssim``: rows of blocks, the data range, the number of scales, and the score's response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hseval.core.feature_table import FeatureTable
from hseval.core.options import build_options
from hseval.core.protocols import Needs, ScoreParts
from hseval.extractors.value_range import compute_quantiles
from hseval.metrics.ms_ssim import MIN_RANGE_RATIO, MsSsim, compute_data_range, count_common_scales
from hseval.metrics.ssim.ssim import pairwise_ms_ssim
from hseval.testing import check_metric
from hseval.utils.errors import HsevalError, NotComputable

Array = NDArray[Any]

BANDS = 4


def make_cubes(n: int, size: int = 48, *, seed: int = 0, common: float = 0.5) -> Array:
    """Return textured cubes of which a share ``common`` is the same in all."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(n + 1, BANDS, size, size)), (0, 0, 2, 2))
    noise /= noise.std()
    return (common * noise[:1] + (1 - common) * noise[1:]).astype(np.float32)


def make_table(columns: dict[str, Array]) -> FeatureTable:
    names = np.array([f"block-{i}" for i in range(len(next(iter(columns.values()))))])
    return FeatureTable(columns, names, names, names, np.arange(float(BANDS)))


def make_reference(*sets: Array) -> FeatureTable:
    return make_table(
        {"values/quantiles": np.stack([compute_quantiles(cube.reshape(BANDS, -1)) for cubes in sets for cube in cubes])}
    )


REFERENCE = make_reference(make_cubes(6))


def describe_blocks(blocks: Sequence[Array], fields: Sequence[Array] | None = None) -> FeatureTable:
    """Return the rows of blocks of cubes."""
    fields = fields or [np.ones((len(block), *block.shape[2:]), dtype=bool) for block in blocks]
    rows = [
        MsSsim().describe_block(block, field=field, reference=REFERENCE)
        for block, field in zip(blocks, fields, strict=True)
    ]
    return make_table({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


def compare(real: FeatureTable, generated: FeatureTable) -> ScoreParts:
    return MsSsim().compare(real=real, generated=generated, rng=np.random.default_rng(0))


def test_ms_ssim_fulfills_the_contract_of_metrics() -> None:
    check_metric(MsSsim)


def test_a_row_has_the_means_over_all_pairs_at_every_number_of_scales() -> None:
    block = make_cubes(4)
    row = MsSsim().describe_block(block, field=np.ones((4, 48, 48), dtype=bool), reference=REFERENCE)
    upper_triangle = np.triu_indices(4, 1)
    span = compute_data_range(REFERENCE["values/quantiles"])
    for scales in (1, 2, 3):
        for column, volume in (("ms-ssim/2d", False), ("ms-ssim/3d", True)):
            expected = pairwise_ms_ssim(block, data_range=span, volume=volume, scales=scales)[upper_triangle].mean()
            assert row[column][0, scales - 1] == pytest.approx(expected, abs=1e-6)
    assert row["ms-ssim/2d-by-band"].shape == (1, 5, BANDS)
    np.testing.assert_allclose(row["ms-ssim/2d-by-band"].mean(axis=2), row["ms-ssim/2d"])
    assert np.isnan(row["ms-ssim/2d"][0, 3:]).all()
    np.testing.assert_array_equal(row["ms-ssim/pairs"], [[6, 6, 6, 0, 0]])


def test_the_headline_is_the_difference_of_the_means_over_all_pairs() -> None:
    real, generated = (
        describe_blocks([make_cubes(4), make_cubes(3, seed=1)]),
        describe_blocks([make_cubes(2, seed=2), make_cubes(4, seed=3)]),
    )
    parts = compare(real, generated)
    means = [
        np.average(table["ms-ssim/2d"][:, 2], weights=pairs) for table, pairs in ((real, (6, 3)), (generated, (1, 6)))
    ]
    assert parts.value == pytest.approx(abs(means[0] - means[1]), rel=1e-12)
    assert parts.signed == pytest.approx(means[1] - means[0], rel=1e-12)  # samples minus real
    assert parts.details["reference_2d"] == pytest.approx(means[0])
    assert parts.details["samples_2d"] == pytest.approx(means[1])
    assert parts.details["samples_pairs"] == 7
    assert parts.details["scales"] == 3
    gap = parts.details["samples_3d"] - parts.details["reference_3d"]
    assert parts.details["difference_3d"] == pytest.approx(abs(gap))
    assert len(parts.details["samples_2d_by_band"]) == BANDS


def test_the_signed_difference_is_positive_for_samples_that_are_too_alike() -> None:
    real, alike, scattered = (describe_blocks([make_cubes(5, seed=5, common=common)]) for common in (0.5, 0.9, 0.1))
    signs = [np.sign(compare(real, generated).signed_value) for generated in (alike, real, scattered)]
    assert signs == [1, 0, -1]


def test_the_score_grows_with_collapse_and_with_scatter() -> None:
    real = describe_blocks([make_cubes(5, seed=seed) for seed in range(3)])

    def compute_values(shares: list[float]) -> list[float]:
        return [
            compare(real, describe_blocks([make_cubes(5, seed=s, common=c) for s in (7, 8, 9)])).value for c in shares
        ]

    assert np.all(np.diff(compute_values([0.5, 0.6, 0.75, 0.9])) > 0)
    assert np.all(np.diff(compute_values([0.5, 0.4, 0.25, 0.0])) > 0)


def test_equal_rows_score_zero_and_sides_can_be_swapped() -> None:
    real, generated = describe_blocks([make_cubes(4)]), describe_blocks([make_cubes(4, seed=1, common=0.8)])
    assert compare(real, real).value == 0
    assert compare(real, generated).value == compare(generated, real).value


def test_blocks_of_different_size_are_compared_at_their_common_scales() -> None:
    real, generated = (
        describe_blocks([make_cubes(3, 96), make_cubes(3, 96, seed=1)]),
        describe_blocks([make_cubes(3, 24, seed=2)]),
    )
    related = MsSsim().relate(real=real, generated=generated, train=None)
    assert [int(table["ms-ssim/scales"][0]) for table in related[:2]] == [2, 2]
    parts = compare(real, generated)
    assert parts.details["scales"] == 2
    assert parts.details["reference_2d"] == pytest.approx(real["ms-ssim/2d"][:, 1].mean())


def test_splits_use_the_scales_of_the_full_sets() -> None:
    real, generated = (
        describe_blocks([make_cubes(2, 48)] * 3 + [make_cubes(2, 24)]),
        describe_blocks([make_cubes(2, 48, seed=1)] * 4),
    )
    real, generated, _ = MsSsim().relate(real=real, generated=generated, train=None)
    first = np.array([0, 1])
    assert compare(real.select(first), generated.select(first)).details["scales"] == 2


def test_a_block_without_a_common_window_counts_no_pair_and_does_not_set_the_scales() -> None:
    field = np.zeros((2, 48, 48), dtype=bool)
    field[0, :20, :20] = field[1, 25:, 25:] = True
    blocks = [make_cubes(5, seed=seed) for seed in range(4)]
    full = [np.ones((5, 48, 48), dtype=bool)] * 4
    real = describe_blocks([*blocks, make_cubes(2, seed=9)], [*full, field])
    assert real["ms-ssim/pairs"][-1].sum() == 0
    assert np.isnan(real["ms-ssim/2d"][-1]).all()
    assert count_common_scales(real, describe_blocks(blocks)) == 3
    assert compare(real, describe_blocks(blocks)).value == 0
    with pytest.raises(NotComputable, match="no window of 11 px"):
        compare(describe_blocks([make_cubes(2)], [field]), describe_blocks(blocks))


def test_invalid_pixels_and_a_black_surround_change_no_row() -> None:
    y, x = np.mgrid[:48, :48] - 23.5
    field = np.broadcast_to(y**2 + x**2 < 22**2, (3, 48, 48))
    block = np.where(field[:, None], make_cubes(3), np.nan)
    edges = ((0, 0), (5, 12), (3, 0))
    wide = np.pad(block, ((0, 0), *edges), constant_values=np.nan)
    bare = MsSsim().describe_block(block, field=field, reference=REFERENCE)
    surrounded = MsSsim().describe_block(wide, field=np.pad(field, edges), reference=REFERENCE)
    for name, column in bare.items():
        np.testing.assert_allclose(surrounded[name], column, atol=1e-6)


def test_the_data_range_does_not_depend_on_a_single_reference_cube() -> None:
    quantiles = np.tile([0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0], (20, BANDS, 1))
    np.testing.assert_allclose(compute_data_range(quantiles), 0.8)
    with_outlier = quantiles.copy()
    with_outlier[0] *= 1000
    np.testing.assert_allclose(compute_data_range(with_outlier), 0.8)
    with_empty_cube = quantiles.copy()
    with_empty_cube[3] = np.nan
    np.testing.assert_allclose(compute_data_range(with_empty_cube), 0.8)


def test_a_dead_band_gets_a_share_of_the_widest_range() -> None:
    quantiles_by_cube = np.tile([0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0], (5, BANDS, 1))
    quantiles_by_cube[:, 2] = 0.4
    np.testing.assert_allclose(compute_data_range(quantiles_by_cube), [0.8, 0.8, MIN_RANGE_RATIO * 0.8, 0.8])


def test_a_reference_without_values_or_range_is_not_computable() -> None:
    with pytest.raises(NotComputable, match="all the same"):
        compute_data_range(np.full((3, BANDS, 7), 0.5))
    with pytest.raises(NotComputable, match="valid pixels"):
        compute_data_range(np.full((3, BANDS, 7), np.nan))


def test_cubes_smaller_than_a_window_are_not_computable() -> None:
    with pytest.raises(NotComputable, match="at least 11 x 11 px, found 8 x 48"):
        MsSsim().describe_block(make_cubes(2)[:, :, :8], field=np.ones((2, 8, 48), dtype=bool), reference=REFERENCE)


def test_the_number_of_pairs_is_an_option() -> None:
    assert MsSsim().needs == Needs(features=("values",), pairs=960)
    assert MsSsim(MsSsim.Options(pairs=28)).needs.pairs == 28
    with pytest.raises(HsevalError, match="pairs = 0"):
        build_options(MsSsim, {"pairs": "0"}, owner="ms-ssim")
