"""A safetensors file that holds tensors, a record and a hash to verify them.

The record is in the file's metadata, so that a single rename replaces tensors and record together; with two files, a
kill between their renames could leave them at different steps. The hash covers the record and the names, types, shapes
and bytes of all tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hseval.utils.errors import HsevalError

CHECKPOINT_FORMAT = "hseval-ldm-checkpoint-1"
REQUIRED_FIELDS = {"stage": str, "step": int}  # fields that every record needs
DTYPE_NAMES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
HASH_PLACEHOLDER = "0" * 64  # replaced by the hash once all tensors are written


def write(path: Path, state: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a record; one tensor at a time is copied to the CPU.

    The ``save_file`` of safetensors writes a temporary file of its own, which a kill would leave behind.

    Args:
        path: the file, not yet visible to other processes.
        state: name -> tensor of any layout and device; tensors may share memory.
        record: values that JSON can store; contains ``stage`` and ``step``.

    Raises:
        OSError: the disk is full, or another error of the file system.
    """
    # Widest types first, so that each tensor starts at a multiple of its item size.
    names = sorted(state, key=lambda name: (-state[name].element_size(), name))
    text = json.dumps({"format": CHECKPOINT_FORMAT, **record}, allow_nan=False)
    header = _build_header({name: state[name] for name in names}, text)
    digests = {}
    with path.open("wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            content = _view_bytes(state[name].detach().cpu())
            handle.write(content)
            digests[name] = _hash_tensor(state[name], content)
        handle.seek(8 + header.index(HASH_PLACEHOLDER.encode()))
        handle.write(_combine_hashes(text, digests).encode())


def read(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors on ``device``, each in memory of its own, and the record.

    Raises:
        HsevalError: the file is missing, truncated, changed or of another format.
    """
    with _open_file(path) as handle:
        record, text = _parse_record(path, handle.metadata())
        stored_hash = handle.metadata().get("sha256")
        digests, tensors = {}, {}
        for name in sorted(handle.keys()):
            mapped = handle.get_tensor(name)
            digests[name] = _hash_tensor(mapped, _view_bytes(mapped))
            # A clone, because memory-mapped tensors have any alignment, and rounding in kernels may depend on it.
            tensors[name] = mapped.clone().to(device)
    if _combine_hashes(text, digests) != stored_hash:
        raise HsevalError(f"{path}: changed since it was written (its sha256 differs)")
    return tensors, record


def read_record(path: Path) -> dict[str, Any]:
    """Return the record from the header alone, without hashing; HsevalError as in :func:`read`."""
    with _open_file(path) as handle:
        return _parse_record(path, handle.metadata())[0]


def _build_header(state: Mapping[str, Tensor], record: str) -> bytes:
    """Return the header of the file format (github.com/huggingface/safetensors), a multiple of 8 bytes long."""
    entries: dict[str, Any] = {"__metadata__": {"sha256": HASH_PLACEHOLDER, "record": record}}
    end = 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    return header + b" " * (-len(header) % 8)


def _view_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor on the CPU, in row-major order, as a numpy array."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def _hash_tensor(tensor: Tensor, content: Any) -> str:
    description = f"{DTYPE_NAMES[tensor.dtype]} {tuple(tensor.shape)}\n"
    return hashlib.sha256(description.encode() + hashlib.sha256(content).digest()).hexdigest()


def _combine_hashes(record: str, digests: Mapping[str, str]) -> str:
    lines = [record, *(f"{digests[name]} {name}" for name in sorted(digests))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            yield handle
    except SafetensorError as error:
        raise HsevalError(f"{path}: truncated, or not a safetensors file ({str(error).splitlines()[0]})") from error
    except FileNotFoundError as error:
        raise HsevalError(f"{path}: no such checkpoint") from error
    except OSError as error:
        raise HsevalError(f"{path}: can't be read: {error.strerror or error}") from error


def _parse_record(path: Path, metadata: Mapping[str, str] | None) -> tuple[dict[str, Any], str]:
    text = (metadata or {}).get("record", "")
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("format") != CHECKPOINT_FORMAT:
        raise HsevalError(f"{path}: its format is not supported; expected {CHECKPOINT_FORMAT!r}")
    for key, kind in REQUIRED_FIELDS.items():
        if not isinstance(record.get(key), kind):
            raise HsevalError(f"{path}: its record lacks {key!r}")
    return record, text
