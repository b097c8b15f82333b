"""Ranks: each call against its meaning, on two gloo ranks and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hseval.utils.errors import HsevalError
from hseval_ldm.utils.distributed import Ranks
from tests.helpers.two_ranks import torchrun, two_ranks


def all_calls(ranks: Ranks) -> dict[str, Any]:
    mine = torch.arange(6.0).reshape(2, 3) + 10 * ranks.rank
    total, mean, turned, theirs = mine.clone(), mine.clone(), mine.clone().T, mine.clone()
    count = torch.tensor(ranks.rank + 1)
    ranks.sum_(total, turned, count)
    ranks.mean_(mean)
    ranks.broadcast_(theirs)
    ranks.barrier()
    return {
        "place": (ranks.rank, ranks.size, ranks.is_main, ranks.device.type),
        "sum": total,
        "count": int(count),
        "turned": turned,
        "mean": mean,
        "broadcast": theirs,
        "gather": ranks.gather(mine),
        "turned back": ranks.gather(mine.T),
        "bool": ranks.gather(mine > 2),
        "share": ranks.get_local_slice(6),
        "block": list(ranks.get_local_range(5)),
    }


def test_two_ranks() -> None:
    zero, one = two_ranks(all_calls)
    first = torch.arange(6.0).reshape(2, 3)
    assert (zero.pop("place"), one.pop("place")) == ((0, 2, True, "cpu"), (1, 2, False, "cpu"))
    assert (zero.pop("share"), one.pop("share")) == (slice(0, 3), slice(3, 6))
    assert (zero.pop("block"), one.pop("block")) == ([0, 1], [2, 3, 4])
    assert zero.pop("count") == one.pop("count") == 3
    both = torch.cat([first, first + 10])
    expected = {
        "sum": 2 * first + 10,
        "turned": (2 * first + 10).T,
        "mean": first + 5,
        "broadcast": first,
        "gather": both,
        "turned back": torch.cat([first.T, first.T + 10]),
        "bool": both > 2,
    }
    for rank in (zero, one):
        assert rank.keys() == expected.keys()
        for name, value in expected.items():
            assert rank[name].dtype == value.dtype and torch.equal(rank[name], value), name


def test_alone_every_call_leaves_the_tensor() -> None:
    done = all_calls(Ranks())
    mine = torch.arange(6.0).reshape(2, 3)
    for name in ("sum", "mean", "broadcast", "gather"):
        assert torch.equal(done[name], mine), name
    assert done["share"] == slice(0, 6) and done["block"] == [0, 1, 2, 3, 4]


def one_fails(ranks: Ranks, failing: int) -> str:
    ranks.raise_first_error(None)
    try:
        ranks.raise_first_error(f"set.h5: cube {ranks.rank} – is empty" if ranks.rank >= failing else None)
    except HsevalError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("failing", [0, 1])
def test_every_rank_raises_the_first_error(failing: int) -> None:
    assert two_ranks(one_fails, failing) == [f"set.h5: cube {failing} – is empty"] * 2


def test_alone_an_error_is_raised_too() -> None:
    Ranks().raise_first_error(None)
    with pytest.raises(HsevalError, match="disk full"):
        Ranks().raise_first_error("disk full")


def leaves(ranks: Ranks) -> bool:
    ranks.leave()
    return torch.distributed.is_initialized()


def test_a_world_that_was_left_can_be_joined_anew() -> None:
    assert two_ranks(leaves) == [False, False]
    assert two_ranks(one_fails, 2) == ["no error"] * 2


def test_a_batch_that_does_not_divide_is_told() -> None:
    with pytest.raises(HsevalError, match=r"^batch 6 does not divide over 4 ranks; give a multiple of 4$"):
        Ranks(rank=3, size=4).get_local_slice(6)
    assert [list(range(9))[Ranks(rank, 3).get_local_slice(9)] for rank in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_blocks_are_everything_in_order(count: int) -> None:
    assert [index for rank in range(4) for index in Ranks(rank, 4).get_local_range(count)] == list(range(count))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two': expected an integer"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "rank 1 of 2 can't join.*MASTER_ADDR.*torchrun$"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "rank 1 of 2 can't join"),
    ],
)
def test_a_world_that_cannot_be_joined_is_one_line(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HsevalError, match=told) as error:
        Ranks.join("cpu", timeout_s=1)
    assert "\n" not in str(error.value)


def test_devices() -> None:
    assert Ranks.join("cpu") == Ranks()
    assert Ranks.join(None).device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(HsevalError, match=r"--device gpu: can't be computed on \(RuntimeError: .*cpu works$"):
        Ranks.join("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
def test_no_cuda_is_said() -> None:
    with pytest.raises(HsevalError, match=r"^--device cuda: torch sees no CUDA here; cpu works$"):
        Ranks.join("cuda")


def test_torchrun_starts_ranks_that_find_each_other(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom hseval_ldm.utils.distributed import Ranks\nranks = Ranks.join('cpu')\n"
        "both = ranks.gather(torch.tensor([ranks.rank]))\n"
        f"torch.save(both, {str(tmp_path)!r} + f'/{{ranks.rank}}.pt')\nranks.leave()\n"
    )
    done = torchrun(script)
    assert done.returncode == 0, done.stderr
    assert [torch.load(tmp_path / f"{rank}.pt").tolist() for rank in range(2)] == [[0, 1], [0, 1]]
