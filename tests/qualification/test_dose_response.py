"""The numerics of a dose-response curve, against closed forms and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs
from hseval.pipeline.metric_inputs import MetricEvaluator, MetricInputs
from hseval.qualification.dose_response import (
    ExcessStd,
    compute_excess_std,
    compute_null_std,
    drop_missing_blocks,
    find_detection_threshold,
    find_equivalent_severity,
    is_excess_significant,
    isotonic_regression,
    spearman,
)
from hseval.qualification.replicates import compute_replicates
from hseval.stats.jackknife import JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.variance import equalize_block_sizes
from hseval.utils.errors import NotComputable
from hseval.utils.random_streams import create_rng

Array = NDArray[Any]


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        severities, values = np.arange(9.0), rng.integers(0, 6, 9).astype(float)
        assert spearman(severities, values) == pytest.approx(stats.spearmanr(severities, values).statistic)
    assert spearman([1, 2, 3], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_a_value_that_moves_by_rounding_alone_has_no_rank() -> None:
    assert spearman([1, 2, 3], [5.0, 5.0, 5.0]) is None
    assert spearman([1, 2, 3], [5.0, 5.0 * (1 + 1e-13), 5.0 * (1 - 1e-13)]) is None
    assert spearman([1, 2, 3], [0.0, 0.0, 0.0]) is None


def test_isotonic_is_the_nearest_monotone_sequence() -> None:
    np.testing.assert_allclose(isotonic_regression([1, 3, 2, 4]), [1, 2.5, 2.5, 4])
    np.testing.assert_allclose(isotonic_regression([4, 3, 2, 1]), [2.5] * 4)
    from sklearn.isotonic import IsotonicRegression

    values = np.random.default_rng(1).normal(size=30).cumsum()
    np.testing.assert_allclose(
        isotonic_regression(values), IsotonicRegression().fit_transform(np.arange(30), values), atol=1e-12
    )


@pytest.mark.parametrize(
    ("told", "excesses", "expected"),
    [
        ([False, True, True, True], [1, 2, 3, 4], 2.0),
        ([True, False, True, True], [1, 2, 3, 4], 4.0),
        ([True, True, True, False], [1, 2, 3, 4], None),
        ([True, True, True, True], [-1, 2, 3, 4], 2.0),  # told, but on the other side of the floor
        ([True, True, True, True], [-1, -2, -3, -4], 1.0),
    ],
)
def test_the_smallest_severity_told_has_none_untold_above(
    told: list[bool], excesses: list[float], expected: float | None
) -> None:
    assert find_detection_threshold([1.0, 2.0, 4.0, 8.0], told, excesses) == expected


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


def test_an_equivalent_severity_follows_a_falling_curve() -> None:
    assert find_equivalent_severity([1, 2, 4], [-1.0, -2.0, -3.0], -2.0) == ("about", pytest.approx(2))
    assert find_equivalent_severity([1, 2, 4], [-1.0, -2.0, -3.0], 1.0).relation == "below"


def test_a_level_stretch_stands_at_its_middle() -> None:
    assert find_equivalent_severity([1, 2, 4, 8], [0.0, 2.0, 2.0, 4.0], 2.0).severity == pytest.approx(np.sqrt(8))


def test_the_scatter_of_independent_sets_counts_both_and_the_clean_set_once() -> None:
    rng = np.random.default_rng(2)
    clean = rng.normal(size=(10, 1))
    nothing = np.zeros((10, 1))
    value, floor = (JackknifeReplicates(np.zeros(1), clean, nothing) for _ in range(2))
    assert compute_excess_std(value=value, floor=floor).std == pytest.approx(0)  # the clean set moves both alike
    one, other = rng.normal(size=(2, 10, 1))
    value, floor = JackknifeReplicates(np.zeros(1), nothing, one), JackknifeReplicates(np.zeros(1), nothing, other)
    expected = 0.9 * (((one - one.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum())
    assert compute_excess_std(value=value, floor=floor).std ** 2 == pytest.approx(expected)


def test_pairs_of_blocks_may_be_missing_on_one_side() -> None:
    rng = np.random.default_rng(4)
    none, real, generated = np.empty((0, 1)), *rng.normal(size=(2, 10, 1))
    plain = JackknifeReplicates(np.zeros(1), real, generated)
    some = JackknifeReplicates(np.zeros(1), real, generated, none, rng.normal(size=(8, 1)) / 100, none)
    found = compute_excess_std(value=some, floor=plain).std
    assert found == pytest.approx(
        compute_excess_std(value=plain, floor=plain).std
    )  # those that one side lacks do not count
    assert compute_excess_std(value=some, floor=some).std < found


def of_means(real: Array, generated: Array) -> JackknifeReplicates:
    """Return those of the squared distance of two means, which is degenerate where the means agree."""

    def statistic(real_out: Array, generated_out: Array) -> Array:
        return np.array([(np.delete(real, real_out).mean() - np.delete(generated, generated_out).mean()) ** 2])

    blocks = np.split(np.arange(len(real)), 10)
    return run_jackknife(statistic, real=blocks, generated=blocks, rng=np.random.default_rng(0), pairs=24)


def test_blocks_without_which_there_is_no_value_count_on_neither_side() -> None:
    rng = np.random.default_rng(2)
    real, one, other = rng.normal(size=(3, 10, 1))
    broken = real.copy()
    broken[3] = np.nan
    value, floor = JackknifeReplicates(np.zeros(1), broken, one), JackknifeReplicates(np.zeros(1), real, other)
    short = [JackknifeReplicates(each.value, np.delete(real, 3, axis=0), each.generated) for each in (value, floor)]
    assert compute_excess_std(value=value, floor=floor) == compute_excess_std(value=short[0], floor=short[1])
    assert len(drop_missing_blocks(value, floor)[1].real) == 9


def test_a_users_scatter_is_that_of_independent_sets_though_floor_and_value_share_their_cubes() -> None:
    # Truth by simulation: a clean set, a spoiled one and another real one, all independent.
    rng = np.random.default_rng(3)
    for moved in (0.0, 0.3):
        clean, spoiled, real = rng.normal(size=(3, 20_000, 50))
        far, near = clean.mean(axis=1) - spoiled.mean(axis=1) - moved, clean.mean(axis=1) - real.mean(axis=1)
        truth = (far**2 - near**2).std()
        found = []
        for _ in range(60):
            clean, real = rng.normal(size=(2, 50))
            found.append(compute_excess_std(value=of_means(clean, real + moved), floor=of_means(clean, real)).std ** 2)
        assert np.sqrt(np.mean(found)) == pytest.approx(truth, rel=0.25)


def test_what_is_told_apart() -> None:
    assert is_excess_significant(2.0, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    assert not is_excess_significant(1.9, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    assert is_excess_significant(-2.0, ExcessStd(1.0, 1.96), null_std=1.0, magnitude=10)
    assert not is_excess_significant(
        1.9, ExcessStd(0.5, 1.96), null_std=1.0, magnitude=10
    )  # even spoiled sets meet floors that scatter
    assert not is_excess_significant(
        1e-12, ExcessStd(0.0, 1.96), null_std=0.0, magnitude=1.0
    )  # rounding tells nothing, even of what is constant
    assert is_excess_significant(0.1, ExcessStd(0.0, 1.96), null_std=0.0, magnitude=1.0)
    assert not is_excess_significant(
        1.9, ExcessStd(1.0, 1.96), null_std=0.0, magnitude=1.0
    )  # a floor that never moved is no scale


def test_the_scale_of_what_is_told_is_that_on_which_the_scatter_is_even() -> None:
    null, k, reach = 2.0, 0.8, 2.26
    for excess in (5.0, 12.0, 80.0):
        told = ExcessStd(float(np.hypot(null, k * excess)), reach)
        steps = integrate.quad(lambda e: 1 / np.hypot(null, k * e), 0, excess)[0]  # in standard deviations, one by one
        assert is_excess_significant(excess, told, null_std=null, magnitude=excess) == (steps > reach)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0, 1.1])  # 1.1: where one cube in fifty makes all of the value
def test_a_gross_fault_is_never_blind_however_its_value_scatters(share: float) -> None:
    told = [
        is_excess_significant(e, ExcessStd(float(np.hypot(1, share * e)), 4.3), null_std=1.0, magnitude=e)
        for e in np.geomspace(1, 1e4, 40)
    ]
    assert told[-1]
    assert told == sorted(told)  # told once, told for good
    assert not told[0]


def test_what_most_users_would_tell_is_told_where_single_cubes_decide_the_value() -> None:
    # Truth by simulation: cubes answer to the fault by factors of ten; the floor is that of cubes without it.
    rng = np.random.default_rng(4)

    def sample(severity: float) -> Array:
        return rng.normal(size=50) * (1 + severity * np.exp(2 * rng.normal(size=50)))

    def replicated(one: Array, blocks: list[Array]) -> JackknifeReplicates:
        return run_jackknife(lambda real_out, generated_out: np.array([np.delete(one, generated_out).var()]),
                         real=[], generated=blocks, rng=np.random.default_rng(0), pairs=24)  # fmt: skip

    blocks = np.split(np.arange(50), 10)
    for severity, expected in ((0.0, 0.05), (0.1, 0.9), (3.0, 1.0)):
        told, linear, users = [], [], []
        for _ in range(100):
            value, floor = (replicated(sample(each), blocks) for each in (severity, 0.0))
            excess, scattered = float((value.value - floor.value)[0]), compute_excess_std(value=value, floor=floor)
            told.append(is_excess_significant(excess, scattered, null_std=compute_null_std(floor), magnitude=1.0))
            linear.append(is_excess_significant(excess, scattered, null_std=0.0, magnitude=1.0))
            users.append(abs(sample(severity).var() - sample(0.0).var()) > 1.96 * np.sqrt(2 * 2 / 50))
        assert np.mean(users) == pytest.approx(expected, abs=0.08)
        assert np.mean(told) == pytest.approx(expected, abs=0.08)
        assert np.mean(linear) < 0.3  # on a scale on which the scatter grows, even what every user tells is lost


def test_two_real_sets_against_a_third_scatter_as_the_floor_says() -> None:
    rng = np.random.default_rng(5)
    third, one, other = rng.normal(size=(3, 20_000, 50))
    truth = ((third.mean(axis=1) - one.mean(axis=1)) ** 2 - (third.mean(axis=1) - other.mean(axis=1)) ** 2).std()
    found = [compute_null_std(of_means(*rng.normal(size=(2, 50)))) ** 2 for _ in range(80)]
    assert np.sqrt(np.mean(found)) == pytest.approx(truth, rel=0.25)


class NeedsTheOdd:
    """The difference of two means, where there is an odd row among the real ones."""

    name, summary, better, needs = "needs-the-odd", "difference of means", "lower", Needs()

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> float:
        if not (real["x"] > 100).any():
            raise NotComputable("no odd row")
        return float(real["x"].clip(max=100).mean() - generated["x"].mean())


def test_a_block_without_which_there_is_no_value_spoils_no_other() -> None:
    def rows(values: Array) -> FeatureTable:
        names = np.array([f"{value}" for value in values])
        return FeatureTable({"x": values}, names, names, names, np.arange(3.0), True, ())

    rng = np.random.default_rng(6)
    real, generated = rng.normal(size=23), rng.normal(size=20)  # 23 rows make blocks of unequal size
    real[4] = 101
    related = MetricInputs(rows(real), rows(generated), None)
    found = compute_replicates(MetricEvaluator(NeedsTheOdd(), 0, related, related, None), count=10, pairs=24, seed=0)
    lost = np.isnan(found.real[:, 0])
    assert lost.sum() == 1
    assert np.isfinite(found.generated).all()
    dealt = [
        block
        for block in draw_jackknife_blocks(related.real.groups, 10, create_rng(0, "qualify clean"))
        if 4 not in block
    ]
    means = [[np.delete(real, block).clip(max=100).mean() - generated.mean()] for block in dealt]
    sizes = np.array([len(block) for block in dealt])
    np.testing.assert_allclose(found.real[~lost], equalize_block_sizes(found.value, np.array(means), sizes))
    (kept,) = drop_missing_blocks(found)
    assert kept.compute_variance()[0] > 0
