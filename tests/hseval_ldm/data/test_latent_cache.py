"""The latent cache: its content, when it is rewritten, and the files left when writing fails."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError
from hseval_ldm.data.latent_cache import LatentCache, LatentScaler
from tests.helpers.two_ranks import run_on_two_ranks

COUNT = 150  # more than two blocks


class Encoder:
    """Returns latents (2, 3, 4) that encode item, variant and channel; counts its calls."""

    def __init__(self, **changes: float) -> None:
        self.calls, self.changes = 0, changes

    def __call__(self, items: NDArray[np.int64], variant: int) -> Tensor:
        self.calls += 1
        base = torch.from_numpy(items).view(-1, 1, 1, 1) + 1000.0 * variant
        latents = base * torch.tensor([1.0, -3.0]).view(2, 1, 1) + torch.arange(12.0).view(3, 4)
        for item, value in self.changes.items():
            latents[torch.from_numpy(items) == int(item[1:])] = value
        return latents


def build_cache(path: Path, encode: Any = None, **changes: Any) -> LatentCache:
    arguments: dict[str, Any] = {"count": COUNT, "variants": 1, "ranks": Ranks()}
    arguments |= {"fingerprint": {"weights": "a", "ids": [1, 2]}}
    return LatentCache.build(path, encode or Encoder(), **(arguments | changes))


def encode_all(variants: int = 1) -> NDArray[Any]:
    encode = Encoder()
    return np.concatenate([encode(np.arange(COUNT), variant).numpy() for variant in range(variants)])


def test_every_row_is_stored_and_each_channel_is_normalized(tmp_path: Path) -> None:
    cache = build_cache(tmp_path / "z.npy", variants=2)
    expected = encode_all(2)
    assert len(cache) == 2 * COUNT and cache.shape == (2, 3, 4)
    everything = cache.load_batch(np.arange(len(cache)))
    assert everything.dtype == torch.float32
    np.testing.assert_allclose(cache.scaler.denormalize(everything), expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(everything.mean(dim=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(everything.std(dim=(0, 2, 3), correction=0), 1, rtol=1e-5)
    np.testing.assert_allclose(cache.scaler.std, expected.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6)
    chosen = np.array([COUNT + 3, 0, 3])
    assert torch.equal(cache.load_batch(chosen), everything[chosen])


def test_the_standard_deviation_is_precise_far_from_zero(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(COUNT, 1, 4, 4)).astype(np.float32) + np.float32(4096)
    cache = build_cache(tmp_path / "z.npy", lambda items, _: torch.from_numpy(noise[items]))
    assert float(cache.scaler.std[0]) == pytest.approx(noise.std(dtype=np.float64), rel=1e-6)


def test_a_constant_channel_becomes_zero(tmp_path: Path) -> None:
    cache = build_cache(tmp_path / "z.npy", lambda items, _: torch.full((len(items), 1, 2, 2), 7.0))
    assert torch.equal(cache.load_batch(np.arange(3)), torch.zeros(3, 1, 2, 2))


def test_it_is_written_once_and_again_for_other_inputs(tmp_path: Path) -> None:
    path, encode = tmp_path / "z.npy", Encoder()
    build_cache(path, encode)
    calls = encode.calls
    build_cache(path, encode)
    assert encode.calls == calls > 0
    changes: list[dict[str, Any]] = [{"fingerprint": {"weights": "b"}}, {"count": 99}, {"variants": 2}]
    for change in changes:
        calls = encode.calls
        assert len(build_cache(path, encode, **change)) == change.get("count", COUNT) * change.get("variants", 1)
        assert encode.calls > calls, change


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)


def remove_record(path: Path) -> None:
    path.with_suffix(".json").unlink()


def truncate_record(path: Path) -> None:
    path.with_suffix(".json").write_text(path.with_suffix(".json").read_text()[:40])


def replace_record(path: Path) -> None:
    path.with_suffix(".json").write_text(json.dumps([1]))


@pytest.mark.parametrize("damage", [truncate, flip_bit, remove_record, truncate_record, replace_record, Path.unlink])
def test_a_damaged_cache_is_written_again(tmp_path: Path, damage: Any) -> None:
    path, encode = tmp_path / "z.npy", Encoder()
    build_cache(path)
    damage(path)
    cache = build_cache(path, encode)
    assert encode.calls > 0
    np.testing.assert_allclose(
        cache.scaler.denormalize(cache.load_batch(np.arange(COUNT))), encode_all(), rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_and_leave_no_file(tmp_path: Path, broken: float) -> None:
    with pytest.raises(HsevalError, match=r"z\.npy: the encoder returned values that are not finite for cube 77;"):
        build_cache(tmp_path / "z.npy", Encoder(_77=broken))
    assert list(tmp_path.iterdir()) == []


def test_cubes_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"cubes 64 to 127 have shape \(64, 2, 5, 5\), expected \(64, 2, 4, 4\)"):
        build_cache(
            tmp_path / "z.npy", lambda items, _: torch.zeros(len(items), 2, 4 + (items[0] > 0), 4 + (items[0] > 0))
        )


def test_a_full_disk_raises_a_one_line_error_and_the_previous_cache_stays_valid(tmp_path: Path) -> None:
    path = tmp_path / "z.npy"
    build_cache(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(HsevalError, match=r"z\.npy: could not be written: File too large"):
            build_cache(path, fingerprint={"weights": "b"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    encode = Encoder()
    assert len(build_cache(path, encode)) == COUNT and encode.calls == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["z.json", "z.npy"]


def build_on_rank(ranks: Ranks, folder: str) -> tuple[int, Tensor, str]:
    encode = Encoder()
    cache = build_cache(Path(folder) / "z.npy", encode, ranks=ranks)
    try:
        build_cache(Path(folder) / "y.npy", Encoder(_3=float("nan")), ranks=ranks)
    except HsevalError as error:
        return encode.calls, cache.load_batch(np.arange(5)), str(error)
    return encode.calls, cache.load_batch(np.arange(5)), "no error"


def test_the_main_rank_writes_and_all_read(tmp_path: Path) -> None:
    (main_calls, main_latents, main_error), (other_calls, other_latents, other_error) = run_on_two_ranks(
        build_on_rank, str(tmp_path)
    )
    assert main_calls > 0 and other_calls == 0
    assert torch.equal(main_latents, other_latents)
    assert main_error == other_error and "for cube 3;" in main_error


def test_scales_are_moved_to_the_device_of_the_latents() -> None:
    scaler = LatentScaler(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]))
    latents = torch.randn((3, 2, 4, 5), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(scaler.denormalize(scaler.normalize(latents)), latents, atol=1e-6)
    assert scaler.normalize(latents.to("meta")).device.type == "meta"
