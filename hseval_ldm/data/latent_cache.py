"""The encoder's outputs for the whole training set: computed once, written to a file and memory-mapped.

Two files: ``NAME.npy``, one row a cube and variant, and ``NAME.json`` with what it was made from, its hash and the
mean and deviation of each channel. The second is written last, so that a file cut off at any point is found out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.utils.atomic_files import write_text, written_whole
from hseval.utils.errors import HsevalError
from hseval_ldm.data.moments import Moments
from hseval_ldm.utils.distributed import Ranks, by_chief, together

FORMAT = "hseval-ldm-latents-1"
BLOCK = 64  # items encoded at once

Encode = Callable[[NDArray[np.int64], int], Tensor]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Mean and deviation of each latent channel, float32 ``(channel,)``: what diffusion normalises with."""

    mean: Tensor
    deviation: Tensor

    def normalised(self, latents: Tensor) -> Tensor:
        """Return ``(n, channel, y, x)`` with mean 0 and deviation 1 per channel."""
        return (latents - self._wide(self.mean, latents)) / self._wide(self.deviation, latents)

    def restored(self, latents: Tensor) -> Tensor:
        """Undo :meth:`normalised`."""
        return latents * self._wide(self.deviation, latents) + self._wide(self.mean, latents)

    @staticmethod
    def _wide(values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device).view(-1, 1, 1)


class LatentCache:
    """Latents by row: row ``variant * count + item``.

    Attributes:
        shape: of one row, ``(channel, y, x)``.
        scale: mean and deviation of each channel over all tokens of all rows.
    """

    def __init__(self, rows: NDArray[Any], scale: Scale) -> None:
        self._rows, self.scale = rows, scale
        self.shape: tuple[int, int, int] = rows.shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the normalised latents of some rows, float32 ``(n, channel, y, x)`` on the CPU."""
        return self.scale.normalised(torch.from_numpy(self._rows[rows].astype(np.float32)))

    @classmethod
    def build(
        cls,
        path: Path,
        encode: Encode,
        *,
        count: int,
        fingerprint: Mapping[str, Any],
        ranks: Ranks,
        variants: int = 1,
        half: bool = False,
    ) -> LatentCache:
        """Return the cache at ``path``, written first unless it is there, whole and of the same fingerprint.

        Args:
            path: of the ``.npy`` file; on several machines, in a folder that all of them see.
            encode: ``(items int64 (n,), variant) -> latents (n, channel, y, x)``; the first rank alone calls it.
            count: number of items.
            fingerprint: what the latents depend on (weights, ids, augmentation), as JSON has it.
            ranks: the processes of the run; the others wait for the first.
            variants: augmented versions of each item, 0 being the item itself.
            half: store float16, half the bytes at 3 significant digits.

        Raises:
            HsevalError: an encoded value is not finite, latents differ in shape, or the file can't be written.
        """
        wanted = {
            "format": FORMAT,
            "fingerprint": json.loads(json.dumps(dict(fingerprint))),
            "count": count,
            "variants": variants,
            "type": "<f2" if half else "<f4",
        }

        def ensure() -> None:
            if not _is_whole(path, wanted):
                write_text(_record_of(path), json.dumps(_write(path, encode, wanted), indent=1) + "\n")

        by_chief(ranks, ensure)
        return together(ranks, lambda: cls._open(path))

    @classmethod
    def _open(cls, path: Path) -> LatentCache:
        try:
            record = json.loads(_record_of(path).read_text(encoding="utf-8"))
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            told = f"{path}: can't be read ({error.strerror})"
            raise HsevalError(f"{told}; all ranks have to see the folder that the first one writes to") from error
        moments = (torch.tensor(record[name], dtype=torch.float32) for name in ("mean", "deviation"))
        return cls(rows, Scale(*moments))


def _write(path: Path, encode: Encode, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write all rows and return the record to go beside them."""
    digest, moments = hashlib.sha256(), Moments(0)
    # Written in order, not through a memory map: a full disk is an error then, and not the end of the process.
    with written_whole(path) as temporary, temporary.open("wb") as handle:
        for number, block in enumerate(_blocks(path, encode, wanted)):
            channels, head = block.shape[1], b""
            if number == 0:
                moments, head = Moments(channels), _header(wanted, block.shape[1:])
            for part in (head, block.tobytes()):
                handle.write(part)
                digest.update(part)
            moments.add(block.swapaxes(0, 1).reshape(channels, -1).astype(np.float64))
    deviation = moments.deviation()
    deviation[deviation == 0] = 1  # a channel that never changes stays at 0
    scale = {"mean": moments.mean.tolist(), "deviation": deviation.tolist()}
    return {**wanted, "sha256": digest.hexdigest(), **scale}


def _blocks(path: Path, encode: Encode, wanted: Mapping[str, Any]) -> Iterator[NDArray[Any]]:
    first: tuple[int, ...] | None = None
    for variant in range(wanted["variants"]):
        for start in range(0, wanted["count"], BLOCK):
            items = np.arange(start, min(start + BLOCK, wanted["count"]))
            with torch.no_grad(), np.errstate(over="ignore"):  # what float16 can't hold is found below
                block = encode(items, variant).float().cpu().numpy().astype(wanted["type"])
            first = first or block.shape[1:]
            if block.shape != (len(items), *first):
                found = f"latents of cubes {items[0]} to {items[-1]} have shape {block.shape}"
                raise HsevalError(f"{path}: {found}, expected {(len(items), *first)}; all cubes need one shape")
            finite = np.isfinite(block).all(axis=(1, 2, 3))
            if not finite.all():
                told = f"{path}: the encoder gave values that are not finite (as {block.dtype}) for cube"
                raise HsevalError(f"{told} {items[~finite][0]}; go back to an earlier checkpoint of the autoencoder")
            yield block


def _header(wanted: Mapping[str, Any], shape: tuple[int, ...]) -> bytes:
    head, rows = io.BytesIO(), wanted["variants"] * wanted["count"]
    given = {"descr": wanted["type"], "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(head, given)
    return head.getvalue()


def _is_whole(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether both files are there, were made from the same things and hold every byte that was written."""
    try:
        record = json.loads(_record_of(path).read_text(encoding="utf-8"))
        if {name: record[name] for name in wanted} != dict(wanted):
            return False
        with path.open("rb") as handle:
            return bool(hashlib.file_digest(handle, "sha256").hexdigest() == record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")
