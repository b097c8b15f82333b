"""The numerics of dose-response curves, against closed forms, simulations and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from hseval.core.evaluation import MetricEvaluator, MetricInputs
from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Needs
from hseval.qualification.dose_response import (
    ExcessStd,
    compute_excess_std,
    compute_null_std,
    drop_missing_blocks,
    find_detection_threshold,
    find_equivalent_severity,
    is_excess_significant,
    spearman,
)
from hseval.qualification.replicates import compute_replicates
from hseval.stats.jackknife import JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.variance import equalize_block_sizes
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

Array = NDArray[Any]


def test_spearman_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        severities, values = np.arange(9.0), rng.integers(0, 6, 9).astype(float)
        assert spearman(severities, values) == pytest.approx(stats.spearmanr(severities, values).statistic)
    assert spearman([1, 2, 3], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_a_curve_that_changes_only_by_rounding_has_no_rank_correlation() -> None:
    assert spearman([1, 2, 3], [5.0, 5.0, 5.0]) is None
    assert spearman([1, 2, 3], [5.0, 5.0 * (1 + 1e-13), 5.0 * (1 - 1e-13)]) is None
    assert spearman([1, 2, 3], [0.0, 0.0, 0.0]) is None


@pytest.mark.parametrize(
    ("significant", "excesses", "expected"),
    [
        ([False, True, True, True], [1, 2, 3, 4], 2.0),
        ([True, False, True, True], [1, 2, 3, 4], 4.0),
        ([True, True, True, False], [1, 2, 3, 4], None),
        ([True, True, True, True], [-1, 2, 3, 4], 2.0),  # significant, but on the other side of the floor
        ([True, True, True, True], [-1, -2, -3, -4], 1.0),
    ],
)
def test_all_severities_above_the_detection_threshold_are_significant(
    significant: list[bool], excesses: list[float], expected: float | None
) -> None:
    assert find_detection_threshold([1.0, 2.0, 4.0, 8.0], significant, excesses) == expected


def test_an_equivalent_severity_inverts_a_power_law() -> None:
    severities = [0.5, 1, 2, 4, 8]
    excesses = [3.0 * severity for severity in severities]
    for severity in severities:
        assert find_equivalent_severity(severities, excesses, 3.0 * severity) == ("about", pytest.approx(severity))
    assert 2 < find_equivalent_severity(severities, excesses, 9.0).severity < 4
    # Linear in the excess, logarithmic in the severity: half way between 6 and 12 is the geometric mean of 2 and 4.
    assert find_equivalent_severity(severities, excesses, 9.0).severity == pytest.approx(np.sqrt(8))
    assert find_equivalent_severity(severities, excesses, 1.0) == ("below", 0.5)
    assert find_equivalent_severity(severities, excesses, 100.0) == ("beyond", 8)


def test_an_equivalent_severity_inverts_a_falling_curve() -> None:
    assert find_equivalent_severity([1, 2, 4], [-1.0, -2.0, -3.0], -2.0) == ("about", pytest.approx(2))
    assert find_equivalent_severity([1, 2, 4], [-1.0, -2.0, -3.0], 1.0).relation == "below"


def test_the_equivalent_severity_of_a_flat_stretch_is_its_geometric_mean() -> None:
    assert find_equivalent_severity([1, 2, 4, 8], [0.0, 2.0, 2.0, 4.0], 2.0).severity == pytest.approx(np.sqrt(8))


def test_the_excess_variance_is_the_sum_over_the_degraded_sets_and_the_shared_clean_set_cancels() -> None:
    rng = np.random.default_rng(2)
    clean = rng.normal(size=(10, 1))
    zeros = np.zeros((10, 1))
    value, floor = (JackknifeReplicates(np.zeros(1), clean, zeros) for _ in range(2))
    assert compute_excess_std(value=value, floor=floor).std == pytest.approx(0)  # the clean set shifts both equally
    first, second = rng.normal(size=(2, 10, 1))
    value, floor = JackknifeReplicates(np.zeros(1), zeros, first), JackknifeReplicates(np.zeros(1), zeros, second)
    expected = 0.9 * (((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    assert compute_excess_std(value=value, floor=floor).std ** 2 == pytest.approx(expected)


def test_pairs_of_blocks_that_one_side_lacks_do_not_count() -> None:
    rng = np.random.default_rng(4)
    empty, real, generated = np.empty((0, 1)), *rng.normal(size=(2, 10, 1))
    plain = JackknifeReplicates(np.zeros(1), real, generated)
    with_pairs = JackknifeReplicates(np.zeros(1), real, generated, empty, rng.normal(size=(8, 1)) / 100, empty)
    std = compute_excess_std(value=with_pairs, floor=plain).std
    assert std == pytest.approx(compute_excess_std(value=plain, floor=plain).std)
    assert compute_excess_std(value=with_pairs, floor=with_pairs).std < std


def compute_mean_distance_replicates(real: Array, generated: Array) -> JackknifeReplicates:
    """Return the replicates of the squared distance of two means, which is degenerate where the means agree."""

    def statistic(real_out: Array, generated_out: Array) -> Array:
        return np.array([(np.delete(real, real_out).mean() - np.delete(generated, generated_out).mean()) ** 2])

    blocks = np.split(np.arange(len(real)), 10)
    return run_jackknife(statistic, real=blocks, generated=blocks, rng=np.random.default_rng(0), pairs=24)


def test_blocks_without_which_there_is_no_value_are_left_out_of_both_sides() -> None:
    rng = np.random.default_rng(2)
    real, first, second = rng.normal(size=(3, 10, 1))
    with_nan = real.copy()
    with_nan[3] = np.nan
    value, floor = JackknifeReplicates(np.zeros(1), with_nan, first), JackknifeReplicates(np.zeros(1), real, second)
    without_block = np.delete(real, 3, axis=0)
    short_value, short_floor = (
        JackknifeReplicates(replicates.value, without_block, replicates.generated) for replicates in (value, floor)
    )
    assert compute_excess_std(value=value, floor=floor) == compute_excess_std(value=short_value, floor=short_floor)
    assert len(drop_missing_blocks(value, floor)[1].real) == 9


def test_the_excess_std_is_that_of_independent_sets_though_floor_and_value_share_their_cubes() -> None:
    # Truth by simulation: a clean set, a degraded set and another real set, all independent.
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.3):
        clean, degraded, real = rng.normal(size=(3, 20_000, 50))
        far, near = clean.mean(axis=1) - degraded.mean(axis=1) - shift, clean.mean(axis=1) - real.mean(axis=1)
        truth = (far**2 - near**2).std()
        variances = []
        for _ in range(60):
            clean, real = rng.normal(size=(2, 50))
            value = compute_mean_distance_replicates(clean, real + shift)
            floor = compute_mean_distance_replicates(clean, real)
            variances.append(compute_excess_std(value=value, floor=floor).std ** 2)
        assert np.sqrt(np.mean(variances)) == pytest.approx(truth, rel=0.25)


def test_an_excess_is_significant_beyond_the_critical_value() -> None:
    assert is_excess_significant(2.0, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    assert not is_excess_significant(1.9, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    assert is_excess_significant(-2.0, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    # The standard deviation without a fault is a lower bound, as the floor varies, too.
    assert not is_excess_significant(1.9, ExcessStd(0.5, 1.96), null_std=1.0, magnitude=10)
    # An excess of the size of rounding errors is never significant.
    assert not is_excess_significant(1e-12, ExcessStd(0.0, 1.96), null_std=0.0, magnitude=1.0)
    assert is_excess_significant(0.1, ExcessStd(0.0, 1.96), null_std=0.0, magnitude=1.0)
    # A constant floor gives no scale for the transform.
    assert not is_excess_significant(1.9, ExcessStd(1.0, 1.96), null_std=0.0, magnitude=1.0)


def test_significance_is_decided_on_the_variance_stabilized_scale() -> None:
    null_std, k, critical_value = 2.0, 0.8, 2.26
    for excess in (5.0, 12.0, 80.0):
        excess_std = ExcessStd(float(np.hypot(null_std, k * excess)), critical_value)
        stabilized = integrate.quad(lambda e: 1 / np.hypot(null_std, k * e), 0, excess)[0]  # in standard deviations
        is_significant = is_excess_significant(excess, excess_std, null_std=null_std, magnitude=excess)
        assert is_significant == (stabilized > critical_value)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0, 1.1])  # 1.1: one cube in fifty makes all of the value
def test_a_gross_fault_is_significant_whatever_the_variance_of_its_value(share: float) -> None:
    significant = [
        is_excess_significant(e, ExcessStd(float(np.hypot(1, share * e)), 4.3), null_std=1.0, magnitude=e)
        for e in np.geomspace(1, 1e4, 40)
    ]
    assert significant[-1]
    assert significant == sorted(significant)  # from some excess on, all are significant
    assert not significant[0]


def test_the_power_is_that_of_independent_users_where_single_cubes_dominate_the_value() -> None:
    # Truth by simulation: the response of cubes to the fault differs by factors of ten; the floor is without the fault.
    rng = np.random.default_rng(4)

    def draw_sample(severity: float) -> Array:
        return rng.normal(size=50) * (1 + severity * np.exp(2 * rng.normal(size=50)))

    def compute_variance_replicates(sample: Array, blocks: list[Array]) -> JackknifeReplicates:
        return run_jackknife(lambda real_out, generated_out: np.array([np.delete(sample, generated_out).var()]),
                             real=[], generated=blocks, rng=np.random.default_rng(0), pairs=24)  # fmt: skip

    blocks = np.split(np.arange(50), 10)
    for severity, expected in ((0.0, 0.05), (0.1, 0.9), (3.0, 1.0)):
        stabilized, linear, users = [], [], []
        for _ in range(100):
            value, floor = (compute_variance_replicates(draw_sample(s), blocks) for s in (severity, 0.0))
            excess, excess_std = float((value.value - floor.value)[0]), compute_excess_std(value=value, floor=floor)
            null_std = compute_null_std(floor)
            stabilized.append(is_excess_significant(excess, excess_std, null_std=null_std, magnitude=1.0))
            linear.append(is_excess_significant(excess, excess_std, null_std=0.0, magnitude=1.0))
            users.append(abs(draw_sample(severity).var() - draw_sample(0.0).var()) > 1.96 * np.sqrt(2 * 2 / 50))
        assert np.mean(users) == pytest.approx(expected, abs=0.08)
        assert np.mean(stabilized) == pytest.approx(expected, abs=0.08)
        assert np.mean(linear) < 0.3  # without the transform, even faults that every user detects are missed


def test_the_null_std_is_that_of_two_real_sets_against_a_third() -> None:
    rng = np.random.default_rng(5)
    third, first, second = rng.normal(size=(3, 20_000, 50)).mean(axis=2)
    truth = ((third - first) ** 2 - (third - second) ** 2).std()
    variances = [compute_null_std(compute_mean_distance_replicates(*rng.normal(size=(2, 50)))) ** 2 for _ in range(80)]
    assert np.sqrt(np.mean(variances)) == pytest.approx(truth, rel=0.25)


class MetricThatNeedsAnOutlier:
    """The difference of two means; not computable without an outlier among the real values."""

    name, summary, better, needs = "needs-an-outlier", "difference of means", "lower", Needs()

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> float:
        if not (real["x"] > 100).any():
            raise NotComputable("no outlier")
        return float(real["x"].clip(max=100).mean() - generated["x"].mean())


def test_a_block_without_which_there_is_no_value_does_not_affect_the_others() -> None:
    def make_features(values: Array) -> FeatureTable:
        names = np.array([f"{value}" for value in values])
        return FeatureTable({"x": values}, names, names, names, np.arange(3.0), True, ())

    rng = np.random.default_rng(6)
    real, generated = rng.normal(size=23), rng.normal(size=20)  # 23 values make blocks of unequal size
    real[4] = 101
    inputs = MetricInputs(make_features(real), make_features(generated), None)
    evaluator = MetricEvaluator(MetricThatNeedsAnOutlier(), 0, inputs, inputs)
    replicates = compute_replicates(evaluator, count=10, pairs=24, seed=0)
    is_missing = np.isnan(replicates.real[:, 0])
    assert is_missing.sum() == 1
    assert np.isfinite(replicates.generated).all()
    blocks = draw_jackknife_blocks(inputs.real.groups, 10, create_rng(0, "qualify clean"))
    blocks = [block for block in blocks if 4 not in block]
    means = [[np.delete(real, block).clip(max=100).mean() - generated.mean()] for block in blocks]
    sizes = np.array([len(block) for block in blocks])
    expected = equalize_block_sizes(replicates.value, np.array(means), sizes)
    np.testing.assert_allclose(replicates.real[~is_missing], expected)
    (complete,) = drop_missing_blocks(replicates)
    assert complete.compute_variance()[0] > 0
