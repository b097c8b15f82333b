"""The encoder's file: safetensors whose metadata say what it is, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.errors import HsevalError, first_line
from hseval.files import written_whole

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "hseval-encoder"
VERSION = 1
HOW = "make one by: hseval fit-extractor REAL --out FILE.safetensors"


def write(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write weights and their record, whole or not at all; the same ones give the same bytes.

    Args:
        path: the file.
        tensors: name -> float32 tensor on the CPU.
        record: what JSON holds.
    """
    from safetensors.torch import save

    text = json.dumps(record, sort_keys=True, allow_nan=False)
    about = {"format": FORMAT, "version": str(VERSION), "record": text, "sha256": _digest(tensors, text)}
    with written_whole(path) as temporary:
        temporary.write_bytes(_in_order(save({name: tensor.contiguous() for name, tensor in tensors.items()}, about)))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and record.

    Raises:
        HsevalError: the file is missing, is something else, was cut off, or changed since it was written.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise HsevalError(f"{path}: no such weights file for extractor 'encoder'; {HOW}")
    try:
        with safe_open(path, "pt") as handle:
            about = handle.metadata() or {}
            names = sorted(handle.keys()) if about.get("format") == FORMAT else []
            tensors = {name: handle.get_tensor(name).clone() for name in names}
    except Exception as error:  # safetensors raises types of its own, OSError and more
        raise HsevalError(f"{path}: can't be read as safetensors: {first_line(error)}; {HOW}") from error
    if about.get("format") != FORMAT:
        raise HsevalError(f"{path}: holds no weights of extractor 'encoder' (format {about.get('format')!r}); {HOW}")
    if about.get("version") != str(VERSION):
        raise HsevalError(f"{path}: {FORMAT} of version {about.get('version')}, expected {VERSION}; {HOW}")
    text = about.get("record", "")
    if _digest(tensors, text) != about.get("sha256"):
        raise HsevalError(f"{path}: changed since it was written (its sha256 is another); {HOW}")
    record: dict[str, Any] = json.loads(text)
    return tensors, record


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    digest = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _in_order(content: bytes) -> bytes:
    """Return the file's bytes with the metadata in order of name; the library leaves that to its hash table."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = header.pop("__metadata__")
    text = json.dumps({"__metadata__": dict(sorted(about.items())), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
