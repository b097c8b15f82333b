"""Functions and commands on two gloo ranks, for tests.

``run_on_two_ranks`` reuses its two processes, because importing torch takes longer than most tests. Functions,
arguments and results are pickled, so functions must be at the top level of a test module.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.distributed import TCPStore

from hseval.utils.distributed import Ranks

TIMEOUT_S = 300


def run_on_two_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what ``function(ranks, *arguments)`` returns on rank 0 and on rank 1, or raise what it raised."""
    if not _pair:
        _pair.append(RankPair())
    try:
        return _pair[0].call(function, arguments)
    except BrokenPairError:
        _pair.pop().kill()
        raise


def run_torchrun(*arguments: Any, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun ARGUMENTS`` (a script, or ``-m`` and a module) on ``ranks`` processes of this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*launcher, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


class BrokenPairError(RuntimeError):
    """A rank hung or died; the next call starts two new processes."""


class RankPair:
    """Two processes that wait for functions; this process holds their store, as the agent of torchrun does."""

    def __init__(self) -> None:
        self.stores: list[TCPStore] = []
        context = get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(2):
            pipe, child_pipe = context.Pipe()
            process = context.Process(target=_serve, args=(rank, child_pipe), daemon=True)
            process.start()
            child_pipe.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Any]:
        # A function may leave the process group, so each call uses a store of its own.
        self.stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        for pipe in self.pipes:
            pipe.send_bytes(pickle.dumps((self.stores[-1].port, function, arguments)))
        deadline = time.monotonic() + TIMEOUT_S
        results = []
        for rank, pipe in enumerate(self.pipes):
            other = self.pipes[1 - rank]
            while not pipe.poll(0.02):
                if rank == 0 and other.poll():  # rank 1 is done: rank 0 may be waiting for it forever
                    deadline = min(deadline, time.monotonic() + 10)
                if time.monotonic() > deadline:
                    other_result = results or _receive(other)
                    raise BrokenPairError(f"rank {rank} still runs {function.__name__}; the other: {other_result}")
            results.append(_receive(pipe))
            deadline = min(deadline, time.monotonic() + 10)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


def _receive(pipe: Connection) -> Any:
    try:
        return pickle.loads(pipe.recv_bytes()) if pipe.poll(1) else "nothing yet"
    except EOFError as error:
        raise BrokenPairError("a rank died") from error


def _serve(rank: int, pipe: Connection) -> None:
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(
        {name: str(value) for name, value in environment.items()} | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    )
    torch.set_num_threads(1)
    while True:
        try:
            received = pipe.recv_bytes()
        except EOFError:
            return
        try:
            port, function, arguments = pickle.loads(received)
            os.environ["MASTER_PORT"] = str(port)
            result: Any = function(Ranks.join("cpu", timeout_s=60), *arguments)
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            result = error
        pipe.send_bytes(pickle.dumps(result))


_pair: list[RankPair] = []
