"""k-means against scikit-learn and brute force, for any distribution of its rows over ranks and chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from hseval_ldm.models.kmeans import KMeansResult, find_nearest_centers, kmeans
from tests.helpers.two_ranks import run_on_two_ranks


def draw_blobs(n: int = 3000, *, d: int = 5, groups: int = 40, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 4, (groups, d))[rng.integers(0, groups, n)] + rng.normal(size=(n, d))).float()


def draw_uniform(n: int = 3000, *, d: int = 3, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, d))).float()


def split_chunks(rows: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: iter(torch.split(rows, size))


def run(rows: Tensor, *, ranks: Ranks | None = None, chunk: int = 700, **options: Any) -> KMeansResult:
    settings: dict[str, Any] = {"codes": 40, "initial_centers": None, "iterations": 20, "seed": 0} | options
    return kmeans(split_chunks(rows, chunk), ranks=ranks or Ranks(), **settings)


def compute_distances(rows: Tensor, centers: Tensor) -> Tensor:
    return (rows[:, None].double() - centers[None].double()).square().sum(dim=2)


def test_with_the_same_initial_centers_the_result_is_that_of_scikit_learn() -> None:
    rows = draw_blobs()
    start = rows[:: len(rows) // 40][:40]
    reference = KMeans(40, init=start.double().numpy(), n_init=1, max_iter=100, tol=1e-4, algorithm="lloyd")
    reference.fit(rows.double().numpy())
    ours = run(rows, initial_centers=start, iterations=100)
    np.testing.assert_allclose(ours.centers, reference.cluster_centers_, atol=1e-4)
    assert ours.distortion * len(rows) == pytest.approx(reference.inertia_, rel=1e-5)
    np.testing.assert_array_equal(ours.counts, np.bincount(reference.labels_, minlength=40))


@pytest.mark.parametrize("rows", [draw_blobs(), draw_uniform(), draw_blobs(d=40)], ids=["blobs", "uniform", "wide"])
def test_its_initialization_is_as_good_as_that_of_scikit_learn(rows: Tensor) -> None:
    reference = KMeans(64, n_init=1, random_state=0, max_iter=30).fit(rows.numpy())
    ours = run(rows, codes=64, iterations=30)
    assert ours.distortion * len(rows) <= 1.02 * reference.inertia_
    assert (ours.counts > 0).all()


def test_counts_and_distortion_are_those_of_the_returned_centers() -> None:
    rows = draw_uniform(500)
    for iterations in (0, 3):
        result = run(rows, codes=7, iterations=iterations)
        distances, indices = compute_distances(rows, result.centers).min(dim=1)
        assert result.distortion == pytest.approx(float(distances.mean()), rel=1e-5)
        assert torch.equal(result.counts, torch.bincount(indices, minlength=7))


def test_without_iterations_the_initial_centers_are_returned() -> None:
    rows = draw_uniform(500)
    assert torch.allclose(run(rows, codes=7, initial_centers=rows[:7], iterations=0).centers, rows[:7], atol=1e-6)


def test_no_iteration_increases_the_distortion() -> None:
    rows, start = draw_uniform(), torch.zeros(40, 3)  # all but one of them dead at first
    distortions = [run(rows, initial_centers=start, iterations=count, tolerance=0).distortion for count in range(8)]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(distortions))


@pytest.mark.parametrize("living", [1, 30])
def test_dead_initial_centers_are_redrawn(living: int) -> None:
    rows = draw_blobs()
    start = torch.full((40, 5), 1e3)
    start[:living] = rows[:living]
    result = run(rows, initial_centers=start)
    assert (result.counts > 0).all()
    assert result.distortion <= 1.02 * run(rows, initial_centers=rows[:40]).distortion


@pytest.mark.parametrize("copies", [1, 300])
def test_spare_centers_are_finite_distinct_and_unused(copies: int) -> None:
    distinct = draw_uniform(9)
    result = run(distinct.repeat(copies, 1), codes=16)
    assert result.centers.isfinite().all() and len(result.centers.unique(dim=0)) == 16
    assert sorted(result.counts.tolist()) == [0] * 7 + [copies] * 9
    assert result.distortion == pytest.approx(0, abs=1e-10)


def test_equal_rows_have_one_used_center() -> None:
    result = run(torch.full((50, 3), 7.25), codes=4)
    assert result.centers.isfinite().all() and len(result.centers.unique(dim=0)) == 4
    assert sorted(result.counts.tolist()) == [0, 0, 0, 50]
    assert torch.equal(result.centers[result.counts.argmax()], torch.full((3,), 7.25))


@pytest.mark.parametrize("iterations", [0, 12])
def test_the_result_does_not_depend_on_chunks(iterations: int) -> None:
    rows = draw_uniform()
    result, other = (run(rows, chunk=size, iterations=iterations) for size in (3000, 17))
    assert torch.allclose(result.centers, other.centers, atol=1e-6) and torch.equal(result.counts, other.counts)


def run_on_rank(ranks: Ranks, rows: Tensor, cut: int, options: dict[str, Any]) -> KMeansResult:
    local = rows[:cut] if ranks.is_main else rows[cut:]
    return run(local, ranks=ranks, chunk=500 + 100 * ranks.rank, **options)


@pytest.mark.parametrize(
    ("rows", "cut", "options"),
    [
        (draw_uniform(), 1500, {}),
        (draw_uniform(), 411, {"seed": 3}),
        (draw_blobs(), 1500, {"initial_centers": torch.full((40, 5), 1e3)}),
        (draw_uniform(100), 0, {"iterations": 3}),
        (draw_uniform(9).repeat(2, 1), 9, {"codes": 16}),
    ],
    ids=["halves", "uneven", "dead", "all on one", "spare"],
)
def test_two_ranks_return_the_result_of_one(rows: Tensor, cut: int, options: dict[str, Any]) -> None:
    alone = run(rows, **options)
    for result in run_on_two_ranks(run_on_rank, rows, cut, options):
        assert torch.allclose(result.centers, alone.centers, rtol=0, atol=1e-6)
        assert torch.equal(result.counts, alone.counts)
        assert result.distortion == pytest.approx(alone.distortion, rel=1e-6)


def test_the_result_depends_on_the_seed() -> None:
    rows = draw_uniform()
    first, again, other = (run(rows, iterations=2, seed=seed).centers for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


def test_results_are_precise_far_from_the_origin() -> None:
    rows = draw_uniform() * 2**-2
    near, far = run(rows, codes=16), run(rows + 4096, codes=16)
    assert far.distortion == pytest.approx(near.distortion, rel=0.05)  # the rows themselves are rounded there
    rows = rows.double() * 64 + 4096
    indices, distances = find_nearest_centers(rows.float(), rows[:50].float())
    expected = compute_distances(rows.float(), rows[:50].float())
    assert torch.equal(indices, expected.argmin(dim=1))
    assert torch.allclose(distances.double(), expected.min(dim=1).values, rtol=1e-5)


class MatmulPrecisionRecorder(TorchFunctionMode):
    """Records the precision of each matrix product, which is not visible in results on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.precisions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.addmm:
            self.precisions.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


def test_distances_ignore_autocast_and_tf32() -> None:
    rows, centers = draw_uniform(), draw_uniform(300, seed=1)
    expected = compute_distances(rows, centers).argmin(dim=1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    recorder = MatmulPrecisionRecorder()
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), recorder:
            indices = find_nearest_centers(rows, centers)[0]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(indices, expected)
    assert set(recorder.precisions) == {"highest"}


def test_the_nearest_center_of_a_row_does_not_depend_on_other_rows() -> None:
    centers = draw_uniform(64, seed=1)
    rows = (centers[:-1] + centers[1:]) / 2  # ties except for rounding
    together = find_nearest_centers(rows.repeat(40, 1), centers)[0].view(40, -1)
    assert (together == together[0]).all()
    for count in (1, 7, 20):
        parts = [find_nearest_centers(part, centers)[0] for part in torch.split(rows, count)]
        assert torch.equal(torch.cat(parts), together[0]), count


def test_the_first_of_equal_centers_is_nearest() -> None:
    centers = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert find_nearest_centers(centers, centers)[0].tolist() == [0, 1, 0, 1]
    assert [len(part) for part in find_nearest_centers(centers[:0], centers)] == [0, 0]


def get_error_on_rank(ranks: Ranks, rows: Tensor) -> str:
    try:
        run_on_rank(ranks, rows, 50, {"codes": 4})
    except HsevalError as error:
        return str(error)
    return "no error"


def test_rows_that_cannot_be_clustered_are_refused_on_every_rank() -> None:
    rows = draw_uniform(100)
    rows[70, 1] = torch.nan
    errors = run_on_two_ranks(get_error_on_rank, rows)
    assert errors == ["k-means: a latent is not finite"] * 2
    with pytest.raises(HsevalError, match="no latents to cluster"):
        run(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="initial_centers has 3 rows, expected codes=40"):
        run(rows, initial_centers=rows[:3])
