"""One safetensors file that holds tensors and a record, and knows whether it is whole.

The record travels in the file's own metadata, so a single rename makes tensors and record whole together; two
files could be left at different steps by a kill between their renames. The hash covers the record and the names,
types, shapes and bytes of all tensors.
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
REQUIRED_FIELDS = {"stage": str, "step": int}  # what every record says
DTYPE_NAMES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
HASH_PLACEHOLDER = "0" * 64  # where the hash goes once all has been written


def write(path: Path, state: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write tensors and a record that JSON holds; one tensor at a time is copied to the CPU.

    The library's own ``save_file`` goes through a temporary file of its own, which a kill would leave for ever.

    Args:
        path: the file, which nobody else may see yet.
        state: name -> tensor of any layout and device; tensors may share memory.
        record: ``stage`` and ``step`` among it.

    Raises:
        OSError: the disk is full or another fault of the file system.
    """
    # The widest types first, so that each tensor lies at a multiple of its own width.
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
        HsevalError: the file is missing, cut off, changed or of another format.
    """
    with _open_file(path) as handle:
        record, text = _parse_record(path, handle.metadata())
        told = handle.metadata().get("sha256")
        digests, tensors = {}, {}
        for name in sorted(handle.keys()):
            mapped = handle.get_tensor(name)
            digests[name] = _hash_tensor(mapped, _view_bytes(mapped))
            # A clone, since what is mapped from the file lies at any offset, and a kernel may round by alignment.
            tensors[name] = mapped.clone().to(device)
    if _combine_hashes(text, digests) != told:
        raise HsevalError(f"{path}: changed since it was written (its sha256 is another)")
    return tensors, record


def read_record(path: Path) -> dict[str, Any]:
    """Return the record from the header alone, without hashing; HsevalError as in :func:`read`."""
    with _open_file(path) as handle:
        return _parse_record(path, handle.metadata())[0]


def _build_header(state: Mapping[str, Tensor], record: str) -> bytes:
    """Return the header of the format (github.com/huggingface/safetensors, "Format"), a multiple of 8 bytes long."""
    entries: dict[str, Any] = {"__metadata__": {"sha256": HASH_PLACEHOLDER, "record": record}}
    end = 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    return header + b" " * (-len(header) % 8)


def _view_bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor on the CPU, row by row, as numpy has them."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def _hash_tensor(tensor: Tensor, content: Any) -> str:
    about = f"{DTYPE_NAMES[tensor.dtype]} {tuple(tensor.shape)}\n"
    return hashlib.sha256(about.encode() + hashlib.sha256(content).digest()).hexdigest()


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
        raise HsevalError(f"{path}: cut off, or no safetensors file ({str(error).splitlines()[0]})") from error
    except FileNotFoundError as error:
        raise HsevalError(f"{path}: there is no such checkpoint") from error
    except OSError as error:
        raise HsevalError(f"{path}: can't be read: {error.strerror or error}") from error


def _parse_record(path: Path, metadata: Mapping[str, str] | None) -> tuple[dict[str, Any], str]:
    text = (metadata or {}).get("record", "")
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("format") != CHECKPOINT_FORMAT:
        raise HsevalError(f"{path}: no checkpoint that this version reads (format {CHECKPOINT_FORMAT!r})")
    for key, kind in REQUIRED_FIELDS.items():
        if not isinstance(record.get(key), kind):
            raise HsevalError(f"{path}: its record lacks {key!r}")
    return record, text
