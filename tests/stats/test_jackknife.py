"""The grouped jackknife compared with closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hseval.stats.jackknife import JackknifeReplicates, draw_jackknife_blocks, run_jackknife
from hseval.stats.variance import compute_degrees_of_freedom, compute_t_quantile, equalize_block_sizes
from hseval.utils.random_streams import create_rng

RNG = np.random.default_rng(0)


def make_single_blocks(n: int) -> list[NDArray[np.int64]]:
    return [np.array([i]) for i in range(n)]


def run_on_means(
    real: NDArray, generated: NDArray, power: int = 1, *, real_blocks: list, generated_blocks: list, pairs: int = 0
) -> JackknifeReplicates:
    """Return the jackknife of (mean of generated - mean of real) ** power."""

    def statistic(real_out: NDArray, generated_out: NDArray) -> NDArray:
        return np.array([(np.delete(generated, generated_out).mean() - np.delete(real, real_out).mean()) ** power])

    return run_jackknife(
        statistic, real=real_blocks, generated=generated_blocks, rng=np.random.default_rng(1), pairs=pairs
    )


def test_the_variance_of_a_difference_of_means_is_the_textbook_one() -> None:
    real, generated = RNG.normal(size=20), 3 * RNG.normal(size=30)
    replicates = run_on_means(
        real, generated, real_blocks=make_single_blocks(20), generated_blocks=make_single_blocks(30), pairs=90
    )
    assert replicates.compute_real_variance() == pytest.approx(real.var(ddof=1) / 20)
    assert replicates.compute_generated_variance() == pytest.approx(generated.var(ddof=1) / 30)
    assert np.stack(replicates.compute_second_order_variances()) == pytest.approx(
        0.0, abs=1e-24
    )  # nothing is of second order
    assert replicates.compute_variance() == pytest.approx(real.var(ddof=1) / 20 + generated.var(ddof=1) / 30)


def test_degrees_and_interval_of_a_difference_of_means_are_those_of_welch() -> None:
    real, generated = RNG.normal(size=12), 1 + 3 * RNG.normal(size=9)
    replicates = run_on_means(
        real, generated, real_blocks=make_single_blocks(12), generated_blocks=make_single_blocks(9)
    )
    oracle = stats.ttest_ind(generated, real, equal_var=False)
    expected = oracle.confidence_interval(0.95)
    assert replicates.compute_degrees_of_freedom() == pytest.approx(oracle.df)
    assert replicates.compute_interval()[0] == pytest.approx([expected.low, expected.high])


def test_one_side_alone_gives_student_s_interval() -> None:
    generated = RNG.normal(size=15)
    replicates = run_on_means(np.zeros(1), generated, real_blocks=[], generated_blocks=make_single_blocks(15))
    expected = stats.ttest_1samp(generated, 0.0).confidence_interval(0.95)
    assert replicates.compute_interval()[0] == pytest.approx([expected.low, expected.high])


def test_whole_groups_are_left_out() -> None:
    """Cubes of a group are correlated: the variance is that of the groups' means, far above that of single cubes."""
    groups = np.repeat([f"patient-{i}" for i in range(10)], 4)
    generated = np.repeat(RNG.normal(size=10), 4) + 0.01 * RNG.normal(size=40)
    blocks = draw_jackknife_blocks(groups, 24, create_rng(0, "test"))
    assert all(len(set(groups[block])) == 1 for block in blocks)
    replicates = run_on_means(np.zeros(1), generated, real_blocks=[], generated_blocks=blocks)
    assert replicates.compute_generated_variance() == pytest.approx(
        generated.reshape(10, 4).mean(axis=1).var(ddof=1) / 10
    )
    assert replicates.compute_generated_variance() > 3 * generated.var(ddof=1) / 40


@pytest.mark.parametrize("sided", ["one", "both"])
def test_the_second_order_part_is_counted_once(sided: str) -> None:
    """The square of a mean near 0 has second-order effects only: the plain jackknife doubles its variance."""
    n, plain, corrected = 12, [], []
    for repeat in range(300):
        rng = np.random.default_rng(repeat)
        real, generated = (
            (rng.normal(size=n), rng.normal(size=n)) if sided == "both" else (np.zeros(n), rng.normal(size=n))
        )
        blocks = {
            "real_blocks": make_single_blocks(n) if sided == "both" else [],
            "generated_blocks": make_single_blocks(n),
        }
        replicates = run_on_means(real, generated, 2, **blocks, pairs=150)
        plain.append(float(replicates.compute_real_variance()[0] + replicates.compute_generated_variance()[0]))
        corrected.append(plain[-1] - float(sum(replicates.compute_second_order_variances())[0]))
    expected = 2 * ((2 if sided == "both" else 1) / n) ** 2  # of the square of a normal number of that variance
    assert np.mean(plain) == pytest.approx(2 * expected, rel=0.25)
    assert np.mean(corrected) == pytest.approx(expected, rel=0.25)


def test_effects_across_the_sides_of_a_product_of_means_have_the_closed_form() -> None:
    """Leaving out one of g numbers changes a mean by (mean - x) / (g - 1); the product's second difference is exact."""
    real, generated = RNG.normal(size=5), RNG.normal(size=7)

    def statistic(real_out: NDArray, generated_out: NDArray) -> NDArray:
        return np.array([np.delete(real, real_out).mean() * np.delete(generated, generated_out).mean()])

    replicates = run_jackknife(
        statistic,
        real=make_single_blocks(5),
        generated=make_single_blocks(7),
        rng=np.random.default_rng(1),
        pairs=3 * 35,
    )
    changes = np.outer((real - real.mean()) / 4, (generated - generated.mean()) / 6)
    assert replicates.cross_pairs is not None
    assert np.sort(replicates.cross_pairs[:, 0]) == pytest.approx(np.sort(np.sqrt(4 / 5 * 6 / 7) * changes.ravel()))


def test_far_from_zero_the_correction_is_negligible() -> None:
    real, generated = RNG.normal(size=24), 30 + RNG.normal(size=24)
    replicates = run_on_means(
        real, generated, 2, real_blocks=make_single_blocks(24), generated_blocks=make_single_blocks(24), pairs=60
    )
    assert replicates.compute_variance() == pytest.approx(
        replicates.compute_real_variance() + replicates.compute_generated_variance(), rel=0.01
    )
    assert replicates.compute_variance() == pytest.approx(
        (2 * 30) ** 2 * (real.var(ddof=1) + generated.var(ddof=1)) / 24, rel=0.1
    )


def test_a_correction_is_at_most_half_and_leaves_six_degrees() -> None:
    plain, pairs = RNG.normal(size=(20, 1)), np.full((4, 1), 100.0)
    replicates = JackknifeReplicates(np.array([2.0]), plain, plain, real_pairs=pairs)
    assert replicates.compute_variance() == pytest.approx(
        0.5 * (replicates.compute_real_variance() + replicates.compute_generated_variance())
    )
    assert replicates.compute_degrees_of_freedom() == 6.0


def test_with_few_groups_the_correction_adds_no_degrees() -> None:
    """Four groups have three degrees of freedom, fewer than the minimum of six."""
    plain = RNG.normal(size=(4, 1))
    replicates = JackknifeReplicates(np.array([2.0]), plain, np.zeros((0, 1)), real_pairs=np.full((4, 1), 0.1))
    assert replicates.compute_degrees_of_freedom() == pytest.approx(3.0)


def test_unequal_blocks_add_no_variance_where_there_is_none() -> None:
    """A term that depends only on the number of cubes, such as a distance's bias, has no variance."""
    sizes = np.array([2.0, 3.0, 2.0, 5.0, 3.0])
    value, replicates = np.array([7 / 15.0]), (7 / (15 - sizes))[:, None]
    assert equalize_block_sizes(value, replicates, sizes) == pytest.approx(7 / 15)
    assert np.ptp(replicates) > 0.05


def test_unequal_blocks_are_weighted_by_their_size() -> None:
    """Against the formula of Busing et al. (1999), equation 8, written out."""
    sizes, x = [2, 3, 2, 5, 3], RNG.normal(size=15)
    blocks = np.split(np.arange(15), np.cumsum(sizes)[:-1])
    jackknife = run_on_means(np.zeros(1), x, real_blocks=[], generated_blocks=blocks)
    ratio = 15 / np.array(sizes)
    means = np.array([np.delete(x, block).mean() for block in blocks])
    pseudo = ratio * x.mean() - (ratio - 1) * means
    estimate = 5 * x.mean() - ((1 - 1 / ratio) * means).sum()
    expected = (((pseudo - estimate) ** 2) / (ratio - 1)).mean()
    assert pseudo == pytest.approx([x[block].mean() for block in blocks])
    replicates = jackknife.generated - x.mean()
    assert (5 - 1) / 5 * (replicates**2).sum() == pytest.approx(expected)
    assert jackknife.compute_generated_variance() == pytest.approx(expected, rel=0.05)


def test_blocks_keep_groups_whole_and_are_nearly_equal() -> None:
    groups = np.array([f"g{i // 3}" for i in range(60)])
    blocks = draw_jackknife_blocks(groups, 8, create_rng(0, "test"))
    assert sorted(np.concatenate(blocks)) == list(range(60))
    assert len(blocks) == 8
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 3
    block_indices = {group: {k for k, block in enumerate(blocks) if group in groups[block]} for group in groups}
    assert all(len(indices) == 1 for indices in block_indices.values())


def test_blocks_do_not_depend_on_the_names_of_groups() -> None:
    blocks = draw_jackknife_blocks(np.array(list("aabbcdeffg")), 4, create_rng(0, "test"))
    renamed = draw_jackknife_blocks(np.array(list("zzyyxwvuut")), 4, create_rng(0, "test"))
    assert [block.tolist() for block in blocks] == [block.tolist() for block in renamed]


def test_there_are_never_more_blocks_than_groups() -> None:
    assert len(draw_jackknife_blocks(np.array(["a", "b", "c"] * 5), 24, create_rng(0, "test"))) == 3


def test_a_variance_of_zero_has_one_degree() -> None:
    assert compute_degrees_of_freedom(np.zeros(2), [(np.zeros(2), 5)]).tolist() == [1.0, 1.0]
    assert compute_t_quantile(0.95, np.array([1e9])) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("sizes", [[1.0, 3.0], [2.0, 5.0, 4.0]])
def test_blocks_of_several_sizes_have_the_variance_of_the_paper(sizes: list[float]) -> None:
    """Busing et al. 1999, equation 6."""
    n, counts = sum(sizes), np.array(sizes)
    value, replicates = np.array([0.7]), np.arange(1.0, len(sizes) + 1)[:, None] ** 2
    h = n / counts
    estimate = len(sizes) * value[0] - ((1 - counts / n) * replicates[:, 0]).sum()
    pseudo = h * value[0] - (h - 1) * replicates[:, 0]
    expected = ((pseudo - estimate) ** 2 / (h - 1)).mean()
    spread = equalize_block_sizes(value, replicates, counts)[:, 0] - value[0]
    g = len(sizes)
    assert (g - 1) / g * (spread**2).sum() == pytest.approx(expected)
