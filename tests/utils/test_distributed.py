"""Ranks: the result of each call, on two gloo ranks and on one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from tests.helpers.two_ranks import run_on_two_ranks, run_torchrun


def make_all_calls(ranks: Ranks) -> dict[str, Any]:
    local = torch.arange(6.0).reshape(2, 3) + 10 * ranks.rank
    total, mean, transposed, broadcast = local.clone(), local.clone(), local.clone().T, local.clone()
    count = torch.tensor(ranks.rank + 1)
    ranks.sum_(total, transposed, count)
    ranks.mean_(mean)
    ranks.broadcast_(broadcast)
    return {
        "identity": (ranks.rank, ranks.size, ranks.is_main, ranks.device.type),
        "sum": total,
        "count": int(count),
        "transposed": transposed,
        "mean": mean,
        "broadcast": broadcast,
        "gather": ranks.gather(local),
        "gather transposed": ranks.gather(local.T),
        "bool": ranks.gather(local > 2),
        "arrays": ranks.gather_arrays({"id": np.array([ranks.rank]), "transposed": local.numpy().T}),
        "slice": ranks.get_local_slice(6),
        "range": list(ranks.get_local_range(5)),
        "shard": list(ranks.shard_indices(5)),
    }


def test_every_call_on_two_ranks() -> None:
    zero, one = run_on_two_ranks(make_all_calls)
    first = torch.arange(6.0).reshape(2, 3)
    assert (zero.pop("identity"), one.pop("identity")) == ((0, 2, True, "cpu"), (1, 2, False, "cpu"))
    assert (zero.pop("slice"), one.pop("slice")) == (slice(0, 3), slice(3, 6))
    assert (zero.pop("range"), one.pop("range")) == ([0, 1], [2, 3, 4])
    assert (zero.pop("shard"), one.pop("shard")) == ([0, 2, 4], [1, 3])
    for gathered in (zero.pop("arrays"), one.pop("arrays")):
        assert [arrays["id"].tolist() for arrays in gathered] == [[0], [1]]
        for rank, arrays in enumerate(gathered):
            assert np.array_equal(arrays["transposed"], first.numpy().T + 10 * rank)
    assert zero.pop("count") == one.pop("count") == 3
    both = torch.cat([first, first + 10])
    expected = {
        "sum": 2 * first + 10,
        "transposed": (2 * first + 10).T,
        "mean": first + 5,
        "broadcast": first,
        "gather": both,
        "gather transposed": torch.cat([first.T, first.T + 10]),
        "bool": both > 2,
    }
    for rank in (zero, one):
        assert rank.keys() == expected.keys()
        for name, value in expected.items():
            assert rank[name].dtype == value.dtype and torch.equal(rank[name], value), name


def test_on_one_rank_no_call_changes_a_tensor() -> None:
    results = make_all_calls(Ranks())
    local = torch.arange(6.0).reshape(2, 3)
    for name in ("sum", "mean", "broadcast", "gather"):
        assert torch.equal(results[name], local), name
    assert results["slice"] == slice(0, 6) and results["range"] == results["shard"] == [0, 1, 2, 3, 4]
    assert np.array_equal(results["arrays"][0]["transposed"], local.numpy().T)


def test_one_rank_loads_no_torch() -> None:
    code = (
        "import sys\nfrom hseval.utils.distributed import Ranks, run_on_main_rank\nranks = Ranks.join('cpu')\n"
        "ranks.gather_arrays({})\nassert run_on_main_rank(ranks, lambda: 3) == 3\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def fail_from_rank(ranks: Ranks, failing: int) -> str:
    ranks.raise_first_error(None)
    try:
        ranks.raise_first_error(f"set.h5: cube {ranks.rank} – is empty" if ranks.rank >= failing else None)
    except HsevalError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("failing", [0, 1])
def test_every_rank_raises_the_first_error(failing: int) -> None:
    assert run_on_two_ranks(fail_from_rank, failing) == [f"set.h5: cube {failing} – is empty"] * 2


def test_on_one_rank_an_error_is_raised_too() -> None:
    Ranks().raise_first_error(None)
    with pytest.raises(HsevalError, match="disk full"):
        Ranks().raise_first_error("disk full")


def leave_group(ranks: Ranks) -> bool:
    ranks.leave()
    return torch.distributed.is_initialized()


def test_a_process_group_can_be_joined_again() -> None:
    assert run_on_two_ranks(leave_group) == [False, False]
    assert run_on_two_ranks(fail_from_rank, 2) == ["no error"] * 2


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(HsevalError, match=r"^a batch of 6 can't be divided among 4 ranks; use a multiple of 4$"):
        Ranks(rank=3, size=4).get_local_slice(6)
    assert [list(range(9))[Ranks(rank, 3).get_local_slice(9)] for rank in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("count", [0, 1, 7, 8])
def test_ranges_cover_everything_in_order(count: int) -> None:
    assert [index for rank in range(4) for index in Ranks(rank, 4).get_local_range(count)] == list(range(count))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two': expected an integer"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "rank 1 of 2 can't join.*MASTER_ADDR.*torchrun$"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "rank 1 of 2 can't join"),
    ],
)
def test_a_process_group_that_cannot_be_joined_is_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HsevalError, match=message) as error:
        Ranks.join("cpu", timeout_s=1)
    assert "\n" not in str(error.value)


def test_ranks_compute_on_the_resolved_device() -> None:
    assert Ranks.join("cpu") == Ranks() and Ranks().device == torch.device("cpu")
    assert Ranks.join(None).device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_torchrun_starts_ranks_that_communicate(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom hseval.utils.distributed import Ranks\nranks = Ranks.join('cpu')\n"
        "both = ranks.gather(torch.tensor([ranks.rank]))\n"
        f"torch.save(both, {str(tmp_path)!r} + f'/{{ranks.rank}}.pt')\nranks.leave()\n"
    )
    done = run_torchrun(script)
    assert done.returncode == 0, done.stderr
    assert [torch.load(tmp_path / f"{rank}.pt").tolist() for rank in range(2)] == [[0, 1], [0, 1]]


def list_gloo_threads(ranks: Ranks) -> list[str]:
    """Train a step with torch's DDP, leave the group, and return the threads of gloo that are left."""
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    network.cycle = [network]  # as a stage holds a network that holds the stage
    network(torch.ones(2, 2)).sum().backward()
    del network
    ranks.leave()
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return [name for name in names if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="lists threads by /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    """Such threads aborted 1 process in 10 when its interpreter ended."""
    assert run_on_two_ranks(list_gloo_threads) == [[], []]
