"""Checkpoints: lossless, intact after kills and full disks, and with working advice for damaged ones."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hseval.training.checkpoints import (
    StageCheckpoints,
    get_optimizer_state,
    load_optimizer_state,
    pack_state,
    unpack_state,
)
from hseval.utils.errors import HsevalError

FILES = ["best.safetensors", "last.safetensors", "previous.safetensors"]
RECORD = {"stage": "autoencoder", "step": 400}


def get_bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].shape == other[name].shape
        and get_bytes(one[name]) == get_bytes(other[name]) for name in one
    )  # fmt: skip


def make_unusual_state() -> dict[str, Tensor]:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "bf16": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).bfloat16(),
        "int64": torch.tensor([2**62 + 1, -3]),
        "bool": torch.tensor([[True, False, True]]),
        "0-d": torch.tensor(7.25),
        "step": torch.tensor(2**24 - 1, dtype=torch.float32),
        "empty": torch.zeros(0, 3),
        "unusual numbers": torch.tensor([float("nan"), -0.0, 5e-324], dtype=torch.float64),
        "whole": base,
        "transposed": base.T,
        "part": base[1:3, 2:],
        "shared": base,
        "expanded": torch.ones(1, 3).expand(4, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "channels last": torch.arange(48.0).reshape(1, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }


def test_every_bit_is_restored(tmp_path: Path) -> None:
    state = make_unusual_state()
    StageCheckpoints(tmp_path / "autoencoder").save(state, {**RECORD, "best": None})
    tensors, record = StageCheckpoints(tmp_path / "autoencoder").load()
    assert are_equal(tensors, state)
    assert record == {"format": "hseval-training-2", **RECORD, "best": None}
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()}) == len(state) - 1
    assert StageCheckpoints(tmp_path / "autoencoder").read_record() == record


def test_each_tensor_starts_at_a_multiple_of_its_item_size(tmp_path: Path) -> None:
    StageCheckpoints(tmp_path).save(make_unusual_state(), RECORD)
    content = (tmp_path / "last.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    assert length % 8 == 0 and entries.keys() == {"__metadata__", *make_unusual_state()}
    for name, tensor in make_unusual_state().items():
        assert entries[name]["data_offsets"][0] % tensor.element_size() == 0


def test_the_previous_and_the_best_checkpoint_are_stored(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        StageCheckpoints(tmp_path).save({"w": torch.tensor(step)}, {"stage": "s", "step": step}, best=step == 1)
    loaded = {which: StageCheckpoints(tmp_path).load(which=which) for which in ("last", "previous", "best")}
    assert {which: record["step"] for which, (_, record) in loaded.items()} == {"last": 3, "previous": 2, "best": 1}
    assert {which: int(tensors["w"]) for which, (tensors, _) in loaded.items()} == {"last": 3, "previous": 2, "best": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_without_hard_links_checkpoints_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for step in (1, 2):
        StageCheckpoints(tmp_path).save({"w": torch.tensor(step)}, {"stage": "s", "step": step}, best=step == 1)
    assert [StageCheckpoints(tmp_path).load(which=which)[1]["step"] for which in ("best", "last", "previous")] == [
        1,
        2,
        1,
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def clear(path: Path) -> None:
    path.write_bytes(b"")


def change_record(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b'\\"step\\": 2') == 1
    path.write_bytes(content.replace(b'\\"step\\": 2', b'\\"step\\": 9'))


def write_other_format(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(3)}, path)


DAMAGES: list[tuple[Callable[[Path], Any], str]] = [
    (truncate, "truncated"), (flip_bit, "changed since"), (clear, "truncated"), (change_record, "changed since"),
    (write_other_format, "no format that this version knows"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_the_advice_for_a_damaged_checkpoint_works(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    for step in (1, 2):
        StageCheckpoints(tmp_path).save({"w": torch.full((64,), step)}, {"stage": "s", "step": step})
    damage(tmp_path / "last.safetensors")
    with pytest.raises(HsevalError, match=message) as refusal:
        StageCheckpoints(tmp_path).load()
    line = str(refusal.value)
    command = f"mv {tmp_path}/previous.safetensors {tmp_path}/last.safetensors"
    assert line.startswith(f"{tmp_path}/last.safetensors: ") and "\n" not in line
    assert line.endswith(f"the checkpoint of step 1 is intact: {command}, then --resume")
    shutil.move(*command.split()[1:])
    assert StageCheckpoints(tmp_path).load()[0]["w"].tolist() == [1] * 64


def test_the_error_states_that_no_checkpoint_is_intact(tmp_path: Path) -> None:
    for step in (1, 2):
        StageCheckpoints(tmp_path).save({"w": torch.ones(8)}, {"stage": "s", "step": step})
    for which in ("last", "previous"):
        truncate(tmp_path / f"{which}.safetensors")
    with pytest.raises(HsevalError, match=f"no other checkpoint is intact: remove {tmp_path} and train again"):
        StageCheckpoints(tmp_path).load()
    with pytest.raises(HsevalError, match=r"nowhere/last.safetensors: no such checkpoint; train it first"):
        StageCheckpoints(tmp_path / "nowhere").load()


def test_the_advice_for_a_missing_best_checkpoint_is_to_copy_the_last(tmp_path: Path) -> None:
    StageCheckpoints(tmp_path).save({"w": torch.ones(8)}, {"stage": "s", "step": 1})
    command = f"cp {tmp_path}/last.safetensors {tmp_path}/best.safetensors"
    with pytest.raises(HsevalError, match=rf"best.safetensors: no such .* step 1 is intact: {command}$"):
        StageCheckpoints(tmp_path).load(which="best")


def test_after_a_kill_between_two_renames_previous_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        StageCheckpoints(tmp_path).save({"w": torch.ones(8)}, {"stage": "s", "step": step})
    (tmp_path / "last.safetensors").unlink()
    with caplog.at_level(logging.WARNING, "hseval.training"):
        assert StageCheckpoints(tmp_path).load()[1]["step"] == 1
    assert f"{tmp_path}/last.safetensors: is missing; resuming from previous.safetensors" in caplog.text
    assert StageCheckpoints(tmp_path).exist()


def save_forever(folder: Path, step: int) -> None:
    while True:
        step += 1
        state = {f"w{i}": torch.full((30_000,), step) for i in range(8)}
        StageCheckpoints(folder).save(state, {"stage": "s", "step": step}, best=step % 2 == 0)


def test_a_kill_at_any_moment_leaves_intact_checkpoints(tmp_path: Path) -> None:
    StageCheckpoints(tmp_path).save({"w0": torch.zeros(1, dtype=torch.int64)}, {"stage": "s", "step": 0}, best=True)
    rng, reached = random.Random(0), 0
    for kill in range(400):
        if kill >= 25 and reached:
            break
        process = multiprocessing.get_context("fork").Process(target=save_forever, args=(tmp_path, reached))
        process.start()
        time.sleep(rng.uniform(0.005, 0.04) * (1 + kill / 25))  # a busy machine may take long over its first save
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for which in ("last", "previous", "best"):
            if StageCheckpoints(tmp_path).get_path(which).exists():
                tensors, record = StageCheckpoints(tmp_path).load(which=which)
                assert all((tensor == record["step"]).all() for tensor in tensors.values())
        step = StageCheckpoints(tmp_path).read_record()["step"]
        assert step >= reached
        reached = step
    assert reached > 0
    StageCheckpoints(tmp_path).save(
        {}, {"stage": "s", "step": 1}, best=True
    )  # removes the leftovers of the killed processes
    assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size) == FILES  # except empty probe files


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_preserves_the_last_checkpoint(tmp_path: Path, limit_file_size: Callable[[int], None]) -> None:
    StageCheckpoints(tmp_path).save({"w": torch.ones(1)}, RECORD, best=True)
    before = sorted(path.name for path in tmp_path.iterdir())
    limit_file_size(100_000)
    with pytest.raises(HsevalError) as refusal:
        StageCheckpoints(tmp_path).save({"w": torch.ones(100_000)}, {**RECORD, "step": 500}, best=True)
    assert str(refusal.value) == (
        f"{tmp_path}/last.safetensors: could not be written: File too large; "
        "the previous checkpoint is preserved: free disk space, then --resume"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (
        StageCheckpoints(tmp_path).load()[1]["step"] == StageCheckpoints(tmp_path).load(which="best")[1]["step"] == 400
    )


def test_a_state_dict_is_packed_and_unpacked() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    tensors = {**pack_state("net", module.state_dict()), **pack_state("network", {"0.weight": torch.ones(1)})}
    assert set(tensors) == {"net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias", "network.0.weight"}
    assert are_equal(unpack_state("net", tensors), dict(module.state_dict()))
    with pytest.raises(ValueError, match="'param_groups' is not a tensor"):
        pack_state("optimizer", {"param_groups": []})


def train(steps: range, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (module[0](x) ** 2).mean().backward()  # module[1] never has a gradient
        optimizer.step()


KINDS: dict[str, dict[str, Any]] = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [torch.optim.AdamW, torch.optim.Adam])
def test_an_optimizer_is_restored_bit_for_bit(tmp_path: Path, kind: str, method: Callable[..., Any]) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))
        groups = [{"params": module[1].parameters()}, {"params": module[0].parameters(), "lr": 0.02}]
        return module, method(groups, lr=0.1, amsgrad=True, **KINDS[kind])

    module, optimizer = build()
    train(range(5), module, optimizer)
    state = pack_state("net", module.state_dict())
    state |= pack_state("optimizer", get_optimizer_state(optimizer, module))
    assert float(state["optimizer.0.weight.step"]) == 5 and not any(".1." in name for name in state if "opt" in name)
    StageCheckpoints(tmp_path).save(state, RECORD)
    train(range(5, 9), module, optimizer)

    tensors, _ = StageCheckpoints(tmp_path).load()
    other, restored = build()
    other.load_state_dict(unpack_state("net", tensors))
    load_optimizer_state(restored, other, unpack_state("optimizer", tensors))
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    assert [group["lr"] for group in restored.param_groups] == [0.1, 0.02]
    train(range(5, 9), other, restored)
    assert are_equal(tensors, before)
    assert are_equal(dict(other.state_dict()), dict(module.state_dict()))
    assert are_equal(
        get_optimizer_state(restored, other),
        get_optimizer_state(optimizer, module),
    )


def test_an_optimizer_of_another_model_is_refused() -> None:
    module = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    with pytest.raises(HsevalError, match=r"optimizer state of 'conv.weight', which the configured model lacks"):
        load_optimizer_state(optimizer, module, {"conv.weight.exp_avg": torch.ones(3)})
    with pytest.raises(HsevalError, match=r"'weight.exp_avg' has shape \(3, 5\), the model's \(3, 4\)"):
        load_optimizer_state(optimizer, module, {"weight.exp_avg": torch.ones(3, 5)})
