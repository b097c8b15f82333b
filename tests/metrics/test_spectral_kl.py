from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy, norm

from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import ScoreParts
from hseval.extractors.spectra import StructureSpectra
from hseval.metrics.spectral_kl import HISTOGRAM, SpectralKL
from hseval.utils.errors import NotComputable

Array = NDArray[Any]
SIZE = 16
RNG = np.random.default_rng(0)


def extract_table(cubes: Array, masks: dict[str, Array] | None = None, levels: int = 256) -> FeatureTable:
    """Return the features of cubes ``(n, band, y, x)`` as the core extracts them; every pixel is valid."""
    cubes = np.asarray(cubes, dtype=np.float32)
    count, bands = cubes.shape[:2]
    fields = {"fov": np.ones((count, *cubes.shape[2:]), dtype=bool), **(masks or {})}
    wavelengths = np.linspace(450, 905, bands)
    columns = StructureSpectra(StructureSpectra.Options(levels))(cubes, wavelengths=wavelengths, masks=fields)
    ids = np.array([f"cube-{i}" for i in range(count)])
    return FeatureTable(
        {f"spectra/{name}": column for name, column in columns.items()},
        ids,
        ids,
        ids,
        wavelengths,
        structures=tuple(sorted(fields)),
    )


def sample_cubes(count: int, *, seed: int, bands: int = 2, shift: float = 0.0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(shift, scale, (count, bands, SIZE, SIZE))


def compare(real: FeatureTable, generated: FeatureTable, bins: int = 64) -> ScoreParts:
    return SpectralKL(SpectralKL.Options(bins)).compare(real=real, generated=generated, rng=RNG)


def compute_kl(real: FeatureTable, generated: FeatureTable, bins: int = 64) -> float:
    return compare(real, generated, bins).value


def make_masks(count: int, width: int, *, left: int = 0) -> Array:
    mask = np.zeros((count, SIZE, SIZE), dtype=bool)
    mask[:, :, left : left + width] = True
    return mask


def test_the_divergence_of_a_set_from_itself_is_0() -> None:
    table = extract_table(sample_cubes(4, seed=1))
    parts = compare(table, table)
    assert parts.value == 0
    scores = parts.details["structures"]["fov"]
    assert scores["reverse"] == scores["jensen_shannon"] == 0
    assert scores["gaussian"] == pytest.approx(0, abs=1e-12)


def test_the_value_is_that_of_plain_histograms_of_pooled_pixels() -> None:
    real, generated = sample_cubes(5, seed=2), sample_cubes(7, seed=3, shift=0.3, scale=1.2)
    counts = SIZE * SIZE
    expected = []
    for band in range(2):
        pooled = np.sort(real[:, band].astype(np.float32).ravel())
        edges = np.quantile(pooled, np.arange(1, 64) / 64, method="inverted_cdf")
        above = np.nextafter(edges, np.float32(np.inf))  # numpy's bins include their lower edge, ours their upper one
        p, q = (
            np.histogram(cubes[:, band].astype(np.float32), [-np.inf, *above, np.inf])[0] / len(cubes) / counts
            for cubes in (real, generated)
        )
        expected.append(entropy(p * 5 * counts + 0.5, q * 5 * counts + 0.5))  # scipy rescales to 1
    parts = compare(extract_table(real, levels=counts), extract_table(generated, levels=counts))
    assert parts.details["structures"]["fov"]["by_wavelength"] == pytest.approx(expected, rel=1e-6)
    assert parts.value == pytest.approx(np.mean(expected), rel=1e-6)


def test_two_gaussians_meet_the_closed_form() -> None:
    pixels = norm.ppf((np.arange(128**2) + 0.5) / 128**2).reshape(1, 1, 128, 128)
    real, generated = extract_table(pixels, levels=4096), extract_table(pixels + 0.5, levels=4096)
    binned = entropy(np.full(64, 1 / 64), np.diff(norm.cdf(norm.ppf(np.arange(1, 64) / 64) - 0.5), prepend=0, append=1))
    parts = compare(real, generated)
    assert parts.value == pytest.approx(binned, rel=0.02)
    assert parts.value == pytest.approx(0.5**2 / 2, rel=0.05)  # slightly less with 64 bins
    half = extract_table(pixels / 2, levels=4096)
    deviations = compare(half, real).details["structures"]["fov"]["deviations"]
    assert [*deviations["reference"], *deviations["samples"]] == pytest.approx([0.5, 1.0], rel=1e-3)
    # The ridge of 1e-3 of the variance is in both covariances.
    assert parts.details["structures"]["fov"]["gaussian"] == pytest.approx(0.125 / 1.001, rel=1e-3)


def test_a_shifted_uniform_distribution_meets_the_closed_form_with_half_counts() -> None:
    ramp = np.arange(SIZE * SIZE, dtype=np.float64).reshape(1, 1, SIZE, SIZE)
    real, generated = extract_table(ramp), extract_table(ramp + 64)  # a quarter of the range: 16 of 64 bins are empty
    counts = np.array([0] * 16 + [4] * 47 + [4 + 64])
    expected = entropy(np.full(64, 1 / 64), (counts + 0.5) / (256 + 32))
    assert compute_kl(real, generated) == pytest.approx(expected, rel=1e-6)


def test_the_divergence_grows_with_the_shift() -> None:
    real = extract_table(sample_cubes(6, seed=4))
    values = [compute_kl(real, extract_table(sample_cubes(6, seed=5, shift=shift))) for shift in (0, 0.2, 0.5, 1, 2, 4)]
    assert values == sorted(values)


def test_a_strictly_monotone_map_of_both_sides_changes_nothing() -> None:
    real, generated = (np.random.default_rng(seed).integers(0, 250, (3, 2, SIZE, SIZE)) for seed in (6, 7))
    generated = generated // 2
    assert (
        compute_kl(extract_table(real**3), extract_table(generated**3))
        == compute_kl(extract_table(real), extract_table(generated))
        > 0
    )


def test_the_order_of_cubes_changes_nothing() -> None:
    real, generated = sample_cubes(6, seed=8), sample_cubes(6, seed=9, shift=0.1)
    order = np.random.default_rng(10).permutation(6)
    assert compute_kl(extract_table(real[order]), extract_table(generated[order])) == pytest.approx(
        compute_kl(extract_table(real), extract_table(generated)), rel=1e-12
    )


def test_duplicated_samples_change_nothing() -> None:
    real, generated = sample_cubes(3, seed=11), sample_cubes(5, seed=12, shift=0.1)
    twice = np.concatenate([generated, generated])
    assert compute_kl(extract_table(real), extract_table(twice)) == pytest.approx(
        compute_kl(extract_table(real), extract_table(generated)), rel=1e-12
    )


def test_values_far_outside_the_real_range_count() -> None:
    real = sample_cubes(4, seed=13, bands=1)
    extreme = real.copy()
    extreme[:, :, ::2] = 1e6  # half of the pixels; a histogram that dropped them would hardly change
    divergence = compute_kl(extract_table(real), extract_table(extreme))
    q = np.full(64, 0.5 / 64)
    q[-1] += 0.5
    assert divergence == pytest.approx(entropy(np.full(64, 1 / 64), q), rel=0.05)
    assert divergence > compute_kl(extract_table(real), extract_table(sample_cubes(4, seed=14, bands=1, shift=0.3)))


def test_every_cube_has_equal_weight_whatever_its_number_of_pixels() -> None:
    cubes = np.concatenate([sample_cubes(1, seed=15, bands=1), sample_cubes(1, seed=16, bands=1, shift=3)])
    small, large = make_masks(1, 1), make_masks(1, 16)
    real = extract_table(cubes, {"corn": np.concatenate([large, large])})
    generated = extract_table(cubes, {"corn": np.concatenate([small, large])})
    parts = compare(real, generated)
    related = SpectralKL().relate(real=real, generated=generated, train=None)
    p, q = (table[HISTOGRAM][:, 0, 0].mean(axis=0) for table in related[:2])  # structure corn, band 0
    total = 16 + 256
    assert parts.value == pytest.approx(entropy(p * total + 0.5, q * total + 0.5), rel=1e-5)
    upper = related[1][HISTOGRAM][:, 0, 0, 32:].sum(axis=1)
    assert q[32:].sum() == pytest.approx(upper.mean(), rel=1e-6)
    assert parts.details["structures"]["corn"]["counts"] == total


@pytest.mark.parametrize("levels", [1, 3, 256])
def test_the_divergence_of_discrete_values_from_themselves_is_0(levels: int) -> None:
    values = np.random.default_rng(17).integers(0, levels, (4, 2, SIZE, SIZE))
    assert compute_kl(extract_table(values), extract_table(values)) == 0


def test_a_dead_band_of_another_value_is_detected() -> None:
    real, generated = np.zeros((2, 1, SIZE, SIZE)), np.ones((2, 1, SIZE, SIZE))
    # All of p in the first bin, all of q in the last: 512 counts, and half a count added to each bin.
    p = np.array([512.5] + [0.5] * 63)
    assert compute_kl(extract_table(real), extract_table(generated)) == pytest.approx(entropy(p, p[::-1]), rel=1e-6)


def test_splits_are_compared_on_the_edges_of_the_full_reference() -> None:
    real = extract_table(np.concatenate([sample_cubes(3, seed=18), sample_cubes(3, seed=19, shift=2)]))
    metric = SpectralKL()
    full, _, _ = metric.relate(real=real, generated=real, train=None)
    low, high = np.arange(3), np.arange(3, 6)
    on_full = metric.compare(real=full.select(low), generated=full.select(high), rng=RNG).value
    on_own = metric.compare(real=real.select(low), generated=real.select(high), rng=RNG).value
    p, q = (full[HISTOGRAM][half, 0].mean(axis=0, dtype=np.float64) for half in (low, high))
    total = 3 * SIZE * SIZE
    assert on_full == pytest.approx(entropy(p * total + 0.5, q * total + 0.5, axis=1).mean(), rel=1e-9)
    assert abs(on_full - on_own) > 0.01 * on_full


def test_structures_are_matched_by_name_with_equal_weight() -> None:
    real_cubes, generated_cubes = sample_cubes(4, seed=20), sample_cubes(4, seed=21, shift=0.2)
    vein, artery, onh = make_masks(4, 2), make_masks(4, 3, left=4), make_masks(4, 5, left=9)
    real = extract_table(real_cubes, {"artery": artery, "vein": vein})
    generated = extract_table(generated_cubes, {"vein": vein, "artery": artery, "aaa": onh})
    parts = compare(real, generated)
    single_values = {
        name: compute_kl(extract_table(real_cubes, {name: mask}), extract_table(generated_cubes, {name: mask}))
        for name, mask in (("artery", artery), ("vein", vein))
    }
    assert {name: scores["value"] for name, scores in parts.details["structures"].items()} == pytest.approx(
        single_values
    )
    assert parts.value == pytest.approx(np.mean(list(single_values.values())))
    assert parts.details["left_out"] == {"aaa": "no mask in the reference"}


def test_cubes_without_a_structure_do_not_count_for_it() -> None:
    cubes, generated = sample_cubes(4, seed=22), extract_table(sample_cubes(4, seed=23), {"vein": make_masks(4, 3)})
    mask = make_masks(4, 3)
    mask[2:] = False
    parts = compare(extract_table(cubes, {"vein": mask}), generated)
    assert parts.value == pytest.approx(compute_kl(extract_table(cubes[:2], {"vein": mask[:2]}), generated), rel=1e-12)
    assert parts.details["structures"]["vein"]["cubes"] == {"reference": 2, "samples": 4}


def test_a_structure_in_few_cubes_is_left_out_with_a_reason() -> None:
    real, generated = sample_cubes(40, seed=30), sample_cubes(40, seed=31)
    frequent, rare = make_masks(40, 2), make_masks(40, 2, left=5)
    rare[5:] = False
    details = compare(
        extract_table(real, {"vein": frequent, "onh": rare}),
        extract_table(generated, {"vein": frequent, "onh": make_masks(40, 2, left=5)}),
    ).details
    assert list(details["structures"]) == ["vein"]
    assert details["left_out"] == {"onh": "in too few cubes of the reference"}


def test_a_structure_that_no_sample_has_is_left_out_with_a_reason() -> None:
    real = extract_table(sample_cubes(2, seed=24), {"vein": make_masks(2, 2), "onh": make_masks(2, 2, left=5)})
    generated = extract_table(sample_cubes(2, seed=25), {"vein": make_masks(2, 2), "onh": make_masks(2, 0)})
    details = compare(real, generated).details
    assert list(details["structures"]) == ["vein"]
    assert details["left_out"] == {"onh": "no pixel in any cube of the samples"}


def test_the_field_of_view_is_scored_if_no_structure_is_shared() -> None:
    real, generated = sample_cubes(2, seed=26), sample_cubes(2, seed=27)
    parts = compare(extract_table(real, {"vein": make_masks(2, 2)}), extract_table(generated))
    assert list(parts.details["structures"]) == ["fov"]
    assert "whole field of view" in parts.details["caveat"]
    assert parts.value == compute_kl(extract_table(real), extract_table(generated))


def test_sets_without_a_common_structure_are_not_computable() -> None:
    table = extract_table(sample_cubes(2, seed=28))
    empty = table.add_columns({"spectra/pixels": np.zeros((2, 1))})
    with pytest.raises(NotComputable, match="share no structure"):
        compare(table, empty)


def test_the_gaussian_form_detects_a_change_of_correlation_that_histograms_do_not() -> None:
    pixels = np.random.default_rng(29).normal(size=(4, 1, SIZE, SIZE))
    other_pixels = np.random.default_rng(30).normal(size=(4, 1, SIZE, SIZE))
    correlated = extract_table(np.concatenate([pixels, 0.9 * pixels + np.sqrt(0.19) * other_pixels], axis=1))
    independent = extract_table(np.concatenate([pixels, other_pixels], axis=1))
    scores = compare(independent, correlated).details["structures"]["fov"]
    assert scores["gaussian"] > 1
    assert scores["value"] < 0.05


def test_the_two_directions_differ_and_jensen_shannon_is_bounded() -> None:
    scores = compare(
        extract_table(sample_cubes(3, seed=31)), extract_table(sample_cubes(3, seed=32, scale=0.3))
    ).details["structures"]["fov"]
    assert scores["value"] != pytest.approx(scores["reverse"], rel=0.1)
    assert 0 < scores["jensen_shannon"] < np.log(2)


def test_the_source_of_the_masks_is_in_the_details() -> None:
    table = extract_table(sample_cubes(2, seed=33))
    assert compare(table, table).details["masks_from"] == {"reference": "set", "samples": "set"}


@pytest.mark.parametrize("bins", [1, 1025])
def test_two_to_1024_bins_are_allowed(bins: int) -> None:
    for allowed in (2, 1024):
        SpectralKL(SpectralKL.Options(bins=allowed))
    with pytest.raises(ValueError, match="expected 2 to 1024"):
        SpectralKL(SpectralKL.Options(bins=bins))
