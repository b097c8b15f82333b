"""k-means against scikit-learn, against brute force, and however its rows are dealt."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Peer
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hseval.utils.errors import HsevalError
from hseval_ldm.models.kmeans import KMeansResult, kmeans
from hseval_ldm.models.nearest import find_nearest_centers
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import two_ranks


def blobs(n: int = 3000, *, d: int = 5, groups: int = 40, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 4, (groups, d))[rng.integers(0, groups, n)] + rng.normal(size=(n, d))).float()


def uniform(n: int = 3000, *, d: int = 3, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, d))).float()


def chunked(rows: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: iter(torch.split(rows, size))


def run(rows: Tensor, *, ranks: Ranks | None = None, chunk: int = 700, **given: Any) -> KMeansResult:
    settings: dict[str, Any] = {"codes": 40, "initial_centers": None, "iterations": 20, "seed": 0} | given
    return kmeans(chunked(rows, chunk), ranks=ranks or Ranks(), **settings)


def brute(rows: Tensor, centres: Tensor) -> Tensor:
    return (rows[:, None].double() - centres[None].double()).square().sum(dim=2)


def test_from_the_same_start_the_centres_are_those_of_scikit_learn() -> None:
    rows = blobs()
    start = rows[:: len(rows) // 40][:40]
    peer = Peer(40, init=start.double().numpy(), n_init=1, max_iter=100, tol=1e-4, algorithm="lloyd")
    peer.fit(rows.double().numpy())
    ours = run(rows, initial_centers=start, iterations=100)
    np.testing.assert_allclose(ours.centers, peer.cluster_centers_, atol=1e-4)
    assert ours.distortion * len(rows) == pytest.approx(peer.inertia_, rel=1e-5)
    np.testing.assert_array_equal(ours.counts, np.bincount(peer.labels_, minlength=40))


@pytest.mark.parametrize("rows", [blobs(), uniform(), blobs(d=40)], ids=["blobs", "uniform", "wide"])
def test_its_own_start_is_as_good_as_that_of_scikit_learn(rows: Tensor) -> None:
    peer = Peer(64, n_init=1, random_state=0, max_iter=30).fit(rows.numpy())
    ours = run(rows, codes=64, iterations=30)
    assert ours.distortion * len(rows) <= 1.02 * peer.inertia_
    assert (ours.counts > 0).all()


def test_result_describes_the_centres_it_comes_with() -> None:
    rows = uniform(500)
    for iterations in (0, 3):
        found = run(rows, codes=7, iterations=iterations)
        distances, indices = brute(rows, found.centers).min(dim=1)
        assert found.distortion == pytest.approx(float(distances.mean()), rel=1e-5)
        assert torch.equal(found.counts, torch.bincount(indices, minlength=7))


def test_start_without_passes_is_the_result() -> None:
    rows = uniform(500)
    assert torch.allclose(run(rows, codes=7, initial_centers=rows[:7], iterations=0).centers, rows[:7], atol=1e-6)


def test_no_pass_makes_it_worse() -> None:
    rows, start = uniform(), torch.zeros(40, 3)  # all but one of them dead at first
    told = [run(rows, initial_centers=start, iterations=count, tolerance=0).distortion for count in range(8)]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(told))


@pytest.mark.parametrize("living", [1, 30])
def test_dead_centres_of_a_start_are_drawn_anew(living: int) -> None:
    rows = blobs()
    start = torch.full((40, 5), 1e3)
    start[:living] = rows[:living]
    found = run(rows, initial_centers=start)
    assert (found.counts > 0).all()
    assert found.distortion <= 1.02 * run(rows, initial_centers=rows[:40]).distortion


@pytest.mark.parametrize("copies", [1, 300])
def test_spare_centres_are_finite_distinct_and_unused(copies: int) -> None:
    different = uniform(9)
    found = run(different.repeat(copies, 1), codes=16)
    assert found.centers.isfinite().all() and len(found.centers.unique(dim=0)) == 16
    assert sorted(found.counts.tolist()) == [0] * 7 + [copies] * 9
    assert found.distortion == pytest.approx(0, abs=1e-10)


def test_rows_that_are_all_the_same() -> None:
    found = run(torch.full((50, 3), 7.25), codes=4)
    assert found.centers.isfinite().all() and len(found.centers.unique(dim=0)) == 4
    assert sorted(found.counts.tolist()) == [0, 0, 0, 50]
    assert torch.equal(found.centers[found.counts.argmax()], torch.full((3,), 7.25))


@pytest.mark.parametrize("iterations", [0, 12])
def test_chunks_make_no_difference(iterations: int) -> None:
    rows = uniform()
    found, other = (run(rows, chunk=size, iterations=iterations) for size in (3000, 17))
    assert torch.allclose(found.centers, other.centers, atol=1e-6) and torch.equal(found.counts, other.counts)


def dealt(ranks: Ranks, rows: Tensor, cut: int, given: dict[str, Any]) -> KMeansResult:
    mine = rows[:cut] if ranks.is_main else rows[cut:]
    return run(mine, ranks=ranks, chunk=500 + 100 * ranks.rank, **given)


@pytest.mark.parametrize(
    ("rows", "cut", "given"),
    [
        (uniform(), 1500, {}),
        (uniform(), 411, {"seed": 3}),
        (blobs(), 1500, {"start": torch.full((40, 5), 1e3)}),
        (uniform(100), 0, {"iterations": 3}),
        (uniform(9).repeat(2, 1), 9, {"codes": 16}),
    ],
    ids=["halves", "uneven", "dead", "all on one", "spare"],
)
def test_two_ranks_find_what_one_finds(rows: Tensor, cut: int, given: dict[str, Any]) -> None:
    alone = run(rows, **given)
    for found in two_ranks(dealt, rows, cut, given):
        assert torch.allclose(found.centres, alone.centers, rtol=0, atol=1e-6)
        assert torch.equal(found.counts, alone.counts)
        assert found.distortion == pytest.approx(alone.distortion, rel=1e-6)


def test_the_seed_decides() -> None:
    rows = uniform()
    first, again, other = (run(rows, iterations=2, seed=seed).centers for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


def test_far_from_the_origin() -> None:
    rows = uniform() * 2**-2
    here, there = run(rows, codes=16), run(rows + 4096, codes=16)
    assert there.distortion == pytest.approx(here.distortion, rel=0.05)  # the rows themselves lose bits up there
    rows = rows.double() * 64 + 4096
    indices, distances = find_nearest_centers(rows.float(), rows[:50].float())
    least = brute(rows.float(), rows[:50].float())
    assert torch.equal(indices, least.argmin(dim=1))
    assert torch.allclose(distances.double(), least.min(dim=1).values, rtol=1e-5)


class Products(TorchFunctionMode):
    """Notes the precision that each matrix product runs at: no CPU shows it in the result."""

    def __init__(self) -> None:
        super().__init__()
        self.precisions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.addmm:
            self.precisions.append(torch.get_float32_matmul_precision())
        return func(*args, **(kwargs or {}))


def test_autocast_and_tf32_do_not_reach_the_distances() -> None:
    rows, centres = uniform(), uniform(300, seed=1)
    expected = brute(rows, centres).argmin(dim=1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    products = Products()
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), products:
            indices = find_nearest_centers(rows, centres)[0]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(indices, expected)
    assert set(products.precisions) == {"highest"}


def test_a_row_is_told_the_same_alone_and_among_others() -> None:
    centres = uniform(64, seed=1)
    rows = (centres[:-1] + centres[1:]) / 2  # ties, all but for the last bits
    together = find_nearest_centers(rows.repeat(40, 1), centres)[0].view(40, -1)
    assert (together == together[0]).all()
    for count in (1, 7, 20):
        parts = [find_nearest_centers(part, centres)[0] for part in torch.split(rows, count)]
        assert torch.equal(torch.cat(parts), together[0]), count


def test_the_first_of_equal_centres_is_taken() -> None:
    centres = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert find_nearest_centers(centres, centres)[0].tolist() == [0, 1, 0, 1]
    assert [len(part) for part in find_nearest_centers(centres[:0], centres)] == [0, 0]


def faulty(ranks: Ranks, rows: Tensor) -> str:
    try:
        dealt(ranks, rows, 50, {"codes": 4})
    except HsevalError as error:
        return str(error)
    return "no error"


def test_what_cannot_be_clustered_is_told_on_every_rank() -> None:
    rows = uniform(100)
    rows[70, 1] = torch.nan
    told = two_ranks(faulty, rows)
    assert told == ["k-means: a latent is not finite"] * 2
    with pytest.raises(HsevalError, match="not one latent to cluster"):
        run(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="start has 3 centres, codes is 40"):
        run(rows, initial_centers=rows[:3])
