from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy, norm

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import ScoreParts
from hseval.extractors.spectra import StructureSpectra
from hseval.metrics.spectral_kl import HISTOGRAM, SpectralKL
from hseval.utils.errors import NotComputable

Array = NDArray[Any]
SIZE = 16
RNG = np.random.default_rng(0)


def rows_of(cubes: Array, masks: dict[str, Array] | None = None, levels: int = 256) -> FeatureTable:
    """Describe cubes ``(n, band, y, x)`` as the core does; without masks the field is everything."""
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


def normal(count: int, *, seed: int, bands: int = 2, shift: float = 0.0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(shift, scale, (count, bands, SIZE, SIZE))


def compared(real: FeatureTable, generated: FeatureTable, bins: int = 64) -> ScoreParts:
    return SpectralKL(SpectralKL.Options(bins)).compare(real=real, generated=generated, rng=RNG)


def kl(real: FeatureTable, generated: FeatureTable, bins: int = 64) -> float:
    return compared(real, generated, bins).value


def boxes(count: int, width: int, *, left: int = 0) -> Array:
    mask = np.zeros((count, SIZE, SIZE), dtype=bool)
    mask[:, :, left : left + width] = True
    return mask


def test_a_set_has_no_divergence_from_itself() -> None:
    rows = rows_of(normal(4, seed=1))
    parts = compared(rows, rows)
    assert parts.value == 0
    found = parts.details["structures"]["fov"]
    assert found["reverse"] == found["jensen_shannon"] == 0
    assert found["gaussian"] == pytest.approx(0, abs=1e-12)


def test_the_value_is_that_of_plain_histograms_of_pooled_pixels() -> None:
    real, generated = normal(5, seed=2), normal(7, seed=3, shift=0.3, scale=1.2)
    counts = SIZE * SIZE
    expected = []
    for band in range(2):
        pooled = np.sort(real[:, band].astype(np.float32).ravel())
        edges = np.quantile(pooled, np.arange(1, 64) / 64, method="inverted_cdf")
        above = np.nextafter(edges, np.float32(np.inf))  # numpy's bins hold their lower edge, ours their upper one
        p, q = (
            np.histogram(side[:, band].astype(np.float32), [-np.inf, *above, np.inf])[0] / len(side) / counts
            for side in (real, generated)
        )
        expected.append(entropy(p * 5 * counts + 0.5, q * 5 * counts + 0.5))  # scipy rescales to 1
    parts = compared(rows_of(real, levels=counts), rows_of(generated, levels=counts))
    assert parts.details["structures"]["fov"]["by_wavelength"] == pytest.approx(expected, rel=1e-6)
    assert parts.value == pytest.approx(np.mean(expected), rel=1e-6)


def test_two_gaussians_meet_the_closed_form() -> None:
    pixels = norm.ppf((np.arange(128**2) + 0.5) / 128**2).reshape(1, 1, 128, 128)
    real, generated = rows_of(pixels, levels=4096), rows_of(pixels + 0.5, levels=4096)
    binned = entropy(np.full(64, 1 / 64), np.diff(norm.cdf(norm.ppf(np.arange(1, 64) / 64) - 0.5), prepend=0, append=1))
    parts = compared(real, generated)
    assert parts.value == pytest.approx(binned, rel=0.02)
    assert parts.value == pytest.approx(0.5**2 / 2, rel=0.05)  # 64 bins lose a little of it
    # The ridge of 1e-3 of the variance is in both covariances.
    assert parts.details["structures"]["fov"]["gaussian"] == pytest.approx(0.125 / 1.001, rel=1e-3)


def test_a_shifted_uniform_meets_the_closed_form_with_its_half_counts() -> None:
    ramp = np.arange(SIZE * SIZE, dtype=np.float64).reshape(1, 1, SIZE, SIZE)
    real, generated = rows_of(ramp), rows_of(ramp + 64)  # a quarter of the range: 16 of 64 bins are left empty
    counts = np.array([0] * 16 + [4] * 47 + [4 + 64])
    expected = entropy(np.full(64, 1 / 64), (counts + 0.5) / (256 + 32))
    assert kl(real, generated) == pytest.approx(expected, rel=1e-6)


def test_the_divergence_grows_with_the_shift() -> None:
    real = rows_of(normal(6, seed=4))
    values = [kl(real, rows_of(normal(6, seed=5, shift=shift))) for shift in (0, 0.2, 0.5, 1, 2, 4)]
    assert values == sorted(values)


def test_a_strictly_monotone_map_of_both_sides_changes_nothing() -> None:
    real, generated = (np.random.default_rng(seed).integers(0, 250, (3, 2, SIZE, SIZE)) for seed in (6, 7))
    generated = generated // 2
    assert kl(rows_of(real**3), rows_of(generated**3)) == kl(rows_of(real), rows_of(generated)) > 0


def test_the_order_of_cubes_changes_nothing() -> None:
    real, generated = normal(6, seed=8), normal(6, seed=9, shift=0.1)
    order = np.random.default_rng(10).permutation(6)
    assert kl(rows_of(real[order]), rows_of(generated[order])) == pytest.approx(
        kl(rows_of(real), rows_of(generated)), rel=1e-12
    )


def test_samples_given_twice_change_nothing() -> None:
    real, generated = normal(3, seed=11), normal(5, seed=12, shift=0.1)
    twice = np.concatenate([generated, generated])
    assert kl(rows_of(real), rows_of(twice)) == pytest.approx(kl(rows_of(real), rows_of(generated)), rel=1e-12)


def test_a_wild_generator_is_not_flattered() -> None:
    real = normal(4, seed=13, bands=1)
    wild = real.copy()
    wild[:, :, ::2] = 1e6  # half of its pixels; a histogram that dropped them would see next to nothing
    found = kl(rows_of(real), rows_of(wild))
    q = np.full(64, 0.5 / 64)
    q[-1] += 0.5
    assert found == pytest.approx(entropy(np.full(64, 1 / 64), q), rel=0.05)
    assert found > kl(rows_of(real), rows_of(normal(4, seed=14, bands=1, shift=0.3)))


def test_every_cube_weighs_the_same_however_many_pixels_it_has() -> None:
    cubes = np.concatenate([normal(1, seed=15, bands=1), normal(1, seed=16, bands=1, shift=3)])
    small, large = boxes(1, 1), boxes(1, 16)
    real = rows_of(cubes, {"corn": np.concatenate([large, large])})
    generated = rows_of(cubes, {"corn": np.concatenate([small, large])})
    parts = compared(real, generated)
    related = SpectralKL().relate(real=real, generated=generated, train=None)
    p, q = (rows[HISTOGRAM][:, 0, 0].mean(axis=0) for rows in related[:2])  # structure corn, band 0
    total = 16 + 256
    assert parts.value == pytest.approx(entropy(p * total + 0.5, q * total + 0.5), rel=1e-5)
    upper = related[1][HISTOGRAM][:, 0, 0, 32:].sum(axis=1)
    assert q[32:].sum() == pytest.approx(upper.mean(), rel=1e-6)
    assert parts.details["structures"]["corn"]["counts"] == total


@pytest.mark.parametrize("levels", [1, 3, 256])
def test_discrete_values_have_no_divergence_from_themselves(levels: int) -> None:
    values = np.random.default_rng(17).integers(0, levels, (4, 2, SIZE, SIZE))
    assert kl(rows_of(values), rows_of(values)) == 0


def test_a_dead_band_of_another_value_is_seen() -> None:
    real, generated = np.zeros((2, 1, SIZE, SIZE)), np.ones((2, 1, SIZE, SIZE))
    # All of p in the first bin, all of q in the last: 512 counts, and half a one in each bin.
    p = np.array([512.5] + [0.5] * 63)
    assert kl(rows_of(real), rows_of(generated)) == pytest.approx(entropy(p, p[::-1]), rel=1e-6)


def test_splits_are_compared_on_the_edges_of_the_full_reference() -> None:
    real = rows_of(np.concatenate([normal(3, seed=18), normal(3, seed=19, shift=2)]))
    metric = SpectralKL()
    full, _, _ = metric.relate(real=real, generated=real, train=None)
    low, high = np.arange(3), np.arange(3, 6)
    on_full = metric.compare(real=full.select(low), generated=full.select(high), rng=RNG).value
    on_own = metric.compare(real=real.select(low), generated=real.select(high), rng=RNG).value
    p, q = (full[HISTOGRAM][half, 0].mean(axis=0, dtype=np.float64) for half in (low, high))
    total = 3 * SIZE * SIZE
    assert on_full == pytest.approx(entropy(p * total + 0.5, q * total + 0.5, axis=1).mean(), rel=1e-9)
    assert abs(on_full - on_own) > 0.01 * on_full


def test_structures_are_matched_by_name_and_weigh_the_same() -> None:
    real_cubes, generated_cubes = normal(4, seed=20), normal(4, seed=21, shift=0.2)
    vein, artery, onh = boxes(4, 2), boxes(4, 3, left=4), boxes(4, 5, left=9)
    real = rows_of(real_cubes, {"artery": artery, "vein": vein})
    generated = rows_of(generated_cubes, {"vein": vein, "artery": artery, "aaa": onh})
    parts = compared(real, generated)
    alone = {
        name: kl(rows_of(real_cubes, {name: mask}), rows_of(generated_cubes, {name: mask}))
        for name, mask in (("artery", artery), ("vein", vein))
    }
    assert {name: found["value"] for name, found in parts.details["structures"].items()} == pytest.approx(alone)
    assert parts.value == pytest.approx(np.mean(list(alone.values())))
    assert parts.details["left_out"] == {"aaa": "no mask in the reference"}


def test_cubes_without_a_structure_do_not_count_for_it() -> None:
    cubes, generated = normal(4, seed=22), rows_of(normal(4, seed=23), {"vein": boxes(4, 3)})
    mask = boxes(4, 3)
    mask[2:] = False
    some = compared(rows_of(cubes, {"vein": mask}), generated)
    assert some.value == pytest.approx(kl(rows_of(cubes[:2], {"vein": mask[:2]}), generated), rel=1e-12)
    assert some.details["structures"]["vein"]["cubes"] == {"reference": 2, "samples": 4}


def test_a_structure_in_few_cubes_is_left_out_so_that_all_splits_score_the_same() -> None:
    real, generated = normal(40, seed=30), normal(40, seed=31)
    often, seldom = boxes(40, 2), boxes(40, 2, left=5)
    seldom[5:] = False
    details = compared(
        rows_of(real, {"vein": often, "onh": seldom}), rows_of(generated, {"vein": often, "onh": boxes(40, 2, left=5)})
    ).details
    assert list(details["structures"]) == ["vein"]
    assert details["left_out"] == {"onh": "in too few cubes of the reference"}


def test_a_structure_that_no_sample_has_is_left_out_and_told() -> None:
    real = rows_of(normal(2, seed=24), {"vein": boxes(2, 2), "onh": boxes(2, 2, left=5)})
    generated = rows_of(normal(2, seed=25), {"vein": boxes(2, 2), "onh": boxes(2, 0)})
    details = compared(real, generated).details
    assert list(details["structures"]) == ["vein"]
    assert details["left_out"] == {"onh": "no pixel in any cube of the samples"}


def test_the_field_of_view_is_scored_where_no_structure_is_shared() -> None:
    real, generated = normal(2, seed=26), normal(2, seed=27)
    parts = compared(rows_of(real, {"vein": boxes(2, 2)}), rows_of(generated))
    assert list(parts.details["structures"]) == ["fov"]
    assert "whole field of view" in parts.details["caveat"]
    assert parts.value == kl(rows_of(real), rows_of(generated))


def test_nothing_shared_is_not_computable() -> None:
    rows = rows_of(normal(2, seed=28))
    empty = rows.add_columns({"spectra/pixels": np.zeros((2, 1))})
    with pytest.raises(NotComputable, match="share no structure"):
        compared(rows, empty)


def test_the_gaussian_form_sees_a_change_of_correlation_that_no_band_shows() -> None:
    pixels = np.random.default_rng(29).normal(size=(4, 1, SIZE, SIZE))
    apart = np.random.default_rng(30).normal(size=(4, 1, SIZE, SIZE))
    together = rows_of(np.concatenate([pixels, 0.9 * pixels + np.sqrt(0.19) * apart], axis=1))
    independent = rows_of(np.concatenate([pixels, apart], axis=1))
    found = compared(independent, together).details["structures"]["fov"]
    assert found["gaussian"] > 1
    assert found["value"] < 0.05


def test_the_two_directions_differ_and_jensen_shannon_is_bounded() -> None:
    found = compared(rows_of(normal(3, seed=31)), rows_of(normal(3, seed=32, scale=0.3))).details["structures"]["fov"]
    assert found["value"] != pytest.approx(found["reverse"], rel=0.1)
    assert 0 < found["jensen_shannon"] < np.log(2)


def test_whose_masks_were_used_is_told() -> None:
    rows = rows_of(normal(2, seed=33))
    assert compared(rows, rows).details["masks_from"] == {"reference": "set", "samples": "set"}


def test_one_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 to 1024"):
        SpectralKL(SpectralKL.Options(bins=1))
