"""The encoder's file: safetensors whose metadata say what it is, and whether it is whole."""

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
    """What decides the weights, besides the cubes and the seed."""

    steps: int = option(1500, "steps of the fit")
    batch: int = option(16, "crops a step")
    crop: int = option(32, "side of a crop, px")
    width: int = option(16, "channels at full resolution")
    nodes: int = option(16, "places in the spectrum that the network sees (fewer bands: as many)")
    rate: float = option(0.004, "learning rate at its highest")

    def __post_init__(self) -> None:
        """Refuse what can't be fitted."""
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
FIT_HINT = "make one by: hseval fit-extractor REAL --out FILE.safetensors"


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write weights and their record, whole or not at all; the same ones give the same bytes.

    Args:
        path: the file.
        tensors: name -> float32 tensor on the CPU.
        record: what JSON holds.
    """
    from safetensors.torch import save

    text = json.dumps(record, sort_keys=True, allow_nan=False)
    about = {"format": FORMAT, "version": str(FORMAT_VERSION), "record": text, "sha256": _compute_digest(tensors, text)}
    with write_atomically(path) as temporary:
        temporary.write_bytes(
            _sort_metadata(save({name: tensor.contiguous() for name, tensor in tensors.items()}, about))
        )


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and record.

    Raises:
        HsevalError: the file is missing, is something else, was cut off, or changed since it was written.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise HsevalError(f"{path}: no such weights file for extractor 'encoder'; {FIT_HINT}")
    try:
        with safe_open(path, "pt") as handle:
            about = handle.metadata() or {}
            names = sorted(handle.keys()) if about.get("format") == FORMAT else []
            tensors = {name: handle.get_tensor(name).clone() for name in names}
    except Exception as error:  # safetensors raises types of its own, OSError and more
        raise HsevalError(f"{path}: can't be read as safetensors: {format_error(error)}; {FIT_HINT}") from error
    if about.get("format") != FORMAT:
        raise HsevalError(
            f"{path}: holds no weights of extractor 'encoder' (format {about.get('format')!r}); {FIT_HINT}"
        )
    if about.get("version") != str(FORMAT_VERSION):
        raise HsevalError(f"{path}: {FORMAT} of version {about.get('version')}, expected {FORMAT_VERSION}; {FIT_HINT}")
    text = about.get("record", "")
    if _compute_digest(tensors, text) != about.get("sha256"):
        raise HsevalError(f"{path}: changed since it was written (its sha256 is another); {FIT_HINT}")
    record: dict[str, Any] = json.loads(text)
    return tensors, record


def _compute_digest(tensors: Mapping[str, Tensor], record: str) -> str:
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sort_metadata(content: bytes) -> bytes:
    """Return the file's bytes with the metadata in order of name; the library leaves that to its hash table."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = header.pop("__metadata__")
    text = json.dumps({"__metadata__": dict(sorted(about.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
