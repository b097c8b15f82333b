"""The encoder's outputs for the whole training set: computed once, written to a file and memory-mapped.

Two files: ``NAME.npy``, one row per cube and variant, and ``NAME.json`` with the inputs it was computed from, its hash
and the mean and standard deviation of each channel. The latter is written last, so that a truncated file is detected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.generator_kit import Ranks, run_on_all_ranks, run_on_main_rank
from hseval.plugin import HsevalError, Moments, compute_sha256, write_atomically, write_text

LATENTS_FORMAT = "hseval-ldm-latents-2"
ITEMS_PER_BLOCK = 64  # items encoded together
DTYPE = "<f4"

EncodeFunction = Callable[[NDArray[np.int64], int], Tensor]


@dataclasses.dataclass(frozen=True)
class LatentScaler:
    """Mean and standard deviation of each latent channel, float32 ``(channel,)``; normalizes latents for diffusion."""

    mean: Tensor
    std: Tensor

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], channels: int, path: Path) -> LatentScaler:
        """Return the scaler stored as ``mean`` and ``deviation`` in the checkpoint at ``path``.

        Raises:
            HsevalError: one is missing, or not a finite number per channel; or a deviation is not positive.
        """
        scaler = cls(*(tensors.get(name, torch.empty(0)) for name in ("mean", "deviation")))
        is_valid = all(
            value.shape == (channels,) and bool(value.isfinite().all()) for value in (scaler.mean, scaler.std)
        )
        if not is_valid or not bool((scaler.std > 0).all()):
            raise HsevalError(f"{path}: the scale of its latents is damaged; train again, or restore the file")
        return scaler

    def normalize(self, latents: Tensor) -> Tensor:
        """Return ``(n, channel, y, x)`` with mean 0 and standard deviation 1 per channel."""
        mean, std = self._expand_channels(latents)
        return (latents - mean) / std

    def denormalize(self, latents: Tensor) -> Tensor:
        """Undo :meth:`normalize`."""
        mean, std = self._expand_channels(latents)
        return latents * std + mean

    def _expand_channels(self, latents: Tensor) -> list[Tensor]:
        return [values.to(latents.device).view(-1, 1, 1) for values in (self.mean, self.std)]


class LatentCache:
    """Latents by row: row ``variant * count + item``.

    Attributes:
        shape: of one row, ``(channel, y, x)``.
        scaler: mean and standard deviation of each channel over all tokens of all rows.
    """

    def __init__(self, rows: NDArray[Any], scaler: LatentScaler) -> None:
        self._rows, self.scaler = rows, scaler
        self.shape: tuple[int, int, int] = rows.shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def load_batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the normalized latents of the given rows, float32 ``(n, channel, y, x)`` on the CPU."""
        return self.scaler.normalize(torch.from_numpy(self._rows[rows]))

    @classmethod
    def build(
        cls,
        path: Path,
        encode: EncodeFunction,
        *,
        count: int,
        fingerprint: Mapping[str, Any],
        ranks: Ranks,
        variants: int,
    ) -> LatentCache:
        """Return the cache at ``path``; write it first unless it exists, is complete and has the same fingerprint.

        ``path`` is that of the ``.npy`` file; on several machines, in a folder that all of them share. Only the main
        rank calls ``encode``, ``(items int64 (n,), variant) -> latents (n, channel, y, x)``, for ``count`` items and
        ``variants`` augmented versions of each, 0 being the item itself. ``fingerprint`` are the inputs of the latents
        (weights, ids, augmentation), as values that JSON can store.

        Raises:
            HsevalError: an encoded value is not finite, latents differ in shape, or the file can't be written.
        """
        expected = {
            "format": LATENTS_FORMAT,
            "fingerprint": json.loads(json.dumps(dict(fingerprint))),
            "count": count,
            "variants": variants,
            "type": DTYPE,
        }

        def write_if_outdated() -> None:
            if not _is_complete(path, expected):
                write_text(_get_record_path(path), json.dumps(_write_latents(path, encode, expected), indent=1) + "\n")

        run_on_main_rank(ranks, write_if_outdated)
        return run_on_all_ranks(ranks, lambda: cls._open(path))

    @classmethod
    def _open(cls, path: Path) -> LatentCache:
        try:
            record = json.loads(_get_record_path(path).read_text(encoding="utf-8"))
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            message = f"{path}: can't be read ({error.strerror}); all ranks must share the folder of the main rank"
            raise HsevalError(message) from error
        moments = (torch.tensor(record[name], dtype=torch.float32) for name in ("mean", "deviation"))
        return cls(rows, LatentScaler(*moments))


def _write_latents(path: Path, encode: EncodeFunction, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Write all rows and return their record."""
    moments, count = Moments(0), expected["variants"] * expected["count"]
    # Written in order, not through a memory map: a full disk then raises an error instead of killing the process.
    with write_atomically(path) as temporary:
        with temporary.open("wb") as handle:
            for number, block in enumerate(_encode_blocks(path, encode, expected)):
                channels = block.shape[1]
                if number == 0:
                    moments, shape = Moments(channels), (count, *block.shape[1:])
                    header = {"descr": DTYPE, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(handle, header)
                handle.write(block.tobytes())
                moments.add(block.swapaxes(0, 1).reshape(channels, -1))
        digest = compute_sha256(temporary)
    std = moments.compute_std()
    std[std == 0] = 1  # a constant channel becomes 0
    scale = {"mean": moments.mean.tolist(), "deviation": std.tolist()}
    return {**expected, "sha256": digest, **scale, "scale_sha256": _hash_scale(scale)}


def _hash_scale(scale: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([scale["mean"], scale["deviation"]]).encode()).hexdigest()


def _encode_blocks(path: Path, encode: EncodeFunction, expected: Mapping[str, Any]) -> Iterator[NDArray[Any]]:
    first: tuple[int, ...] | None = None
    for variant in range(expected["variants"]):
        for start in range(0, expected["count"], ITEMS_PER_BLOCK):
            items = np.arange(start, min(start + ITEMS_PER_BLOCK, expected["count"]))
            with torch.no_grad():
                block = encode(items, variant).float().cpu().numpy().astype(DTYPE)
            first = first or block.shape[1:]
            if block.shape != (len(items), *first):
                mismatch = f"latents of cubes {items[0]} to {items[-1]} have shape {block.shape}"
                raise HsevalError(f"{path}: {mismatch}, expected {(len(items), *first)}; all cubes need the same shape")
            finite = np.isfinite(block).all(axis=(1, 2, 3))
            if not finite.all():
                reason = f"the encoder returned values that are not finite for cube {items[~finite][0]}"
                raise HsevalError(f"{path}: {reason}; use an earlier checkpoint of the autoencoder")
            yield block


def _is_complete(path: Path, expected: Mapping[str, Any]) -> bool:
    """Return whether both files exist, have the expected inputs and match their hash."""
    try:
        record = json.loads(_get_record_path(path).read_text(encoding="utf-8"))
        has_same_inputs = {name: record[name] for name in expected} == dict(expected)
        is_intact = has_same_inputs and record["scale_sha256"] == _hash_scale(record)
        return bool(is_intact and compute_sha256(path) == record["sha256"])
    except (OSError, ValueError, KeyError, RecursionError, TypeError):
        return False


def _get_record_path(path: Path) -> Path:
    return path.with_suffix(".json")
