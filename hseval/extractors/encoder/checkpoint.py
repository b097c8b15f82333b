"""The encoder's file: safetensors with format, record and digest in the metadata."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.options import option
from hseval.utils.atomic_files import write_atomically
from hseval.utils.errors import HsevalError, format_error

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Options of a fit; cubes and seed decide the rest."""

    steps: int = option(1500, "steps of the fit")
    batch: int = option(16, "crops a step")
    crop: int = option(32, "side of a crop, px")
    width: int = option(16, "channels at full resolution")
    nodes: int = option(16, "spectral nodes of the network's input (at most one per band)")
    rate: float = option(0.004, "peak learning rate")

    def __post_init__(self) -> None:
        """Refuse options that can't be fitted."""
        bounds = {"steps": (1, 10**6), "batch": (1, 4096), "crop": (8, 64), "width": (1, 512), "nodes": (4, 256)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise HsevalError(f"fit-extractor: {name} = {getattr(self, name)}, expected {low} to {high}")
        if self.crop % 8:
            raise HsevalError(f"fit-extractor: crop = {self.crop}, expected a multiple of 8")
        if not 0 < self.rate < 1:
            raise HsevalError(f"fit-extractor: rate = {self.rate:g}, expected above 0 and below 1")


FORMAT = "hseval-encoder"
FORMAT_VERSION = 1
FILE_NAMES = {"center": "centre", "residual_rms": "expected"}  # attribute -> name in the file
FIT_HINT = "create one by: hseval fit-extractor REAL --out FILE.safetensors"


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write weights and their record atomically; equal inputs give equal bytes.

    Args:
        path: the file.
        tensors: name -> float32 tensor on the CPU.
        record: stored as JSON.
    """
    from safetensors.torch import save

    tensors = {FILE_NAMES.get(name, name): tensor.contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "record": text,
        "sha256": _compute_digest(tensors, text),
    }
    with write_atomically(path) as temporary:
        temporary.write_bytes(_sort_metadata(save(tensors, metadata)))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and record.

    Raises:
        HsevalError: the file is missing, has another format, was truncated, or changed since it was written.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise HsevalError(f"{path}: no such weights file for extractor 'encoder'; {FIT_HINT}")
    try:
        with safe_open(path, "pt") as handle:
            metadata = handle.metadata() or {}
            names = sorted(handle.keys()) if metadata.get("format") == FORMAT else []
            tensors = {name: handle.get_tensor(name).clone() for name in names}
    except Exception as error:  # safetensors raises types of its own, OSError and more
        raise HsevalError(f"{path}: can't be read as safetensors: {format_error(error)}; {FIT_HINT}") from error
    if metadata.get("format") != FORMAT:
        raise HsevalError(
            f"{path}: holds no weights of extractor 'encoder' (format {metadata.get('format')!r}); {FIT_HINT}"
        )
    if metadata.get("version") != str(FORMAT_VERSION):
        raise HsevalError(
            f"{path}: {FORMAT} of version {metadata.get('version')}, expected {FORMAT_VERSION}; {FIT_HINT}"
        )
    text = metadata.get("record", "")
    if _compute_digest(tensors, text) != metadata.get("sha256"):
        raise HsevalError(f"{path}: changed since it was written (its sha256 does not match); {FIT_HINT}")
    attributes = {stored: name for name, stored in FILE_NAMES.items()}
    record: dict[str, Any] = json.loads(text)
    return {attributes.get(name, name): tensor for name, tensor in tensors.items()}, record


def _compute_digest(tensors: Mapping[str, Tensor], record: str) -> str:
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sort_metadata(content: bytes) -> bytes:
    """Return the file's bytes with the metadata sorted by name; the library writes a hash table's order."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
