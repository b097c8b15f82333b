"""The numerics of a dose-response curve, against closed forms and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hseval.jackknife import Jackknife, jackknife
from hseval.qualifying.told import Scatter, apart, complete, equivalent_dose, isotonic, scatter, spearman, told_from

Array = NDArray[Any]


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        doses, values = np.arange(9.0), rng.integers(0, 6, 9).astype(float)
        assert spearman(doses, values) == pytest.approx(stats.spearmanr(doses, values).statistic)
    assert spearman([1, 2, 3], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_a_value_that_moves_by_rounding_alone_has_no_rank() -> None:
    assert spearman([1, 2, 3], [5.0, 5.0, 5.0]) is None
    assert spearman([1, 2, 3], [5.0, 5.0 * (1 + 1e-13), 5.0 * (1 - 1e-13)]) is None
    assert spearman([1, 2, 3], [0.0, 0.0, 0.0]) is None


def test_isotonic_is_the_nearest_monotone_sequence() -> None:
    np.testing.assert_allclose(isotonic([1, 3, 2, 4]), [1, 2.5, 2.5, 4])
    np.testing.assert_allclose(isotonic([4, 3, 2, 1]), [2.5] * 4)
    from sklearn.isotonic import IsotonicRegression

    values = np.random.default_rng(1).normal(size=30).cumsum()
    np.testing.assert_allclose(isotonic(values), IsotonicRegression().fit_transform(np.arange(30), values), atol=1e-12)


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
def test_the_smallest_dose_told_has_none_untold_above(
    told: list[bool], excesses: list[float], expected: float | None
) -> None:
    assert told_from([1.0, 2.0, 4.0, 8.0], told, excesses) == expected


def test_an_equivalent_dose_inverts_a_power_law() -> None:
    doses = [0.5, 1, 2, 4, 8]
    excesses = [3.0 * dose for dose in doses]
    for dose in doses:
        assert equivalent_dose(doses, excesses, 3.0 * dose) == ("about", pytest.approx(dose))
    assert 2 < equivalent_dose(doses, excesses, 9.0).dose < 4
    # Linear in the excess, logarithmic in the dose: half way between 6 and 12 is the geometric mean of 2 and 4.
    assert equivalent_dose(doses, excesses, 9.0).dose == pytest.approx(np.sqrt(8))
    assert equivalent_dose(doses, excesses, 1.0) == ("below", 0.5)
    assert equivalent_dose(doses, excesses, 100.0) == ("beyond", 8)


def test_an_equivalent_dose_follows_a_falling_curve() -> None:
    assert equivalent_dose([1, 2, 4], [-1.0, -2.0, -3.0], -2.0) == ("about", pytest.approx(2))
    assert equivalent_dose([1, 2, 4], [-1.0, -2.0, -3.0], 1.0).relation == "below"


def test_a_level_stretch_stands_at_its_middle() -> None:
    assert equivalent_dose([1, 2, 4, 8], [0.0, 2.0, 2.0, 4.0], 2.0).dose == pytest.approx(np.sqrt(8))


def test_the_scatter_of_independent_sets_counts_both_and_the_clean_set_once() -> None:
    rng = np.random.default_rng(2)
    clean = rng.normal(size=(10, 1))
    nothing = np.zeros((10, 1))
    value, floor = (Jackknife(np.zeros(1), clean, nothing) for _ in range(2))
    assert scatter(value=value, floor=floor).deviation == pytest.approx(0)  # the clean set moves both alike
    one, other = rng.normal(size=(2, 10, 1))
    value, floor = Jackknife(np.zeros(1), nothing, one), Jackknife(np.zeros(1), nothing, other)
    expected = 0.9 * (((one - one.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum())
    assert scatter(value=value, floor=floor).deviation ** 2 == pytest.approx(expected)


def test_pairs_of_blocks_may_be_missing_on_one_side() -> None:
    rng = np.random.default_rng(4)
    none, real, fake = np.empty((0, 1)), *rng.normal(size=(2, 10, 1))
    plain = Jackknife(np.zeros(1), real, fake)
    some = Jackknife(np.zeros(1), real, fake, none, rng.normal(size=(8, 1)) / 100, none)
    found = scatter(value=some, floor=plain).deviation
    assert found == pytest.approx(scatter(value=plain, floor=plain).deviation)  # those that one side lacks do not count
    assert scatter(value=some, floor=some).deviation < found


def replicates(real: Array, fake: Array) -> Jackknife:
    """Return those of the squared distance of two means, which is degenerate where the means agree."""

    def statistic(real_out: Array, fake_out: Array) -> Array:
        return np.array([(np.delete(real, real_out).mean() - np.delete(fake, fake_out).mean()) ** 2])

    blocks = np.split(np.arange(len(real)), 10)
    return jackknife(statistic, real=blocks, fake=blocks, rng=np.random.default_rng(0), pairs=24)


def test_blocks_without_which_there_is_no_value_count_on_neither_side() -> None:
    rng = np.random.default_rng(2)
    real, one, other = rng.normal(size=(3, 10, 1))
    broken = real.copy()
    broken[3] = np.nan
    value, floor = Jackknife(np.zeros(1), broken, one), Jackknife(np.zeros(1), real, other)
    short = [Jackknife(each.value, np.delete(real, 3, axis=0), each.fake) for each in (value, floor)]
    assert scatter(value=value, floor=floor) == scatter(value=short[0], floor=short[1])
    assert len(complete(value, floor)[1].real) == 9


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
            found.append(scatter(value=replicates(clean, real + moved), floor=replicates(clean, real)).deviation ** 2)
        assert np.sqrt(np.mean(found)) == pytest.approx(truth, rel=0.25)


def test_what_is_told_apart() -> None:
    assert apart(2.0, Scatter(1.0, 1.96), size=10)
    assert not apart(1.9, Scatter(1.0, 1.96), size=10)
    assert apart(-2.0, Scatter(1.0, 1.96), size=10)
    assert not apart(1e-12, Scatter(0.0, 1.96), size=1.0)  # rounding tells nothing, even where nothing scatters
    assert apart(0.1, Scatter(0.0, 1.96), size=1.0)
