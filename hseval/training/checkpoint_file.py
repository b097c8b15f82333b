"""The one file format of checkpoints: a safetensors file that holds tensors, a record and a hash to verify them.

The record is in the file's metadata, so that a single rename replaces tensors and record together; with two files, a
kill between their renames could leave them at different steps. The hash covers the record and the names, types, shapes
and bytes of all tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.utils.atomic_files import write_atomically
from hseval.utils.errors import HsevalError
from hseval.utils.input_files import check_regular_file
from hseval.utils.structured_files import check_depth

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Tensors = Mapping[str, torch.Tensor | NDArray[Any]]

DTYPE_CODES = {
    "float64": "F64", "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16", "bfloat16": "BF16",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
HASH_PLACEHOLDER = "0" * 64  # replaced by the hash once all tensors are written


def write_checkpoint(path: Path, tensors: Tensors, record: Mapping[str, Any], *, format: str) -> None:
    """Write tensors and a record, values that JSON can store, atomically; equal inputs give equal bytes.

    Tensors are torch tensors or numpy arrays, of any layout and device; they may share memory. ``format`` is the name
    and version that :func:`read_checkpoint` requires; raise the version when older readers would misread the file.

    Raises:
        HsevalError: the disk is full, or the folder can't be written.
    """
    with write_atomically(path) as temporary:
        write_content(temporary, tensors, record, format=format)


def write_content(path: Path, tensors: Tensors, record: Mapping[str, Any], *, format: str) -> None:
    """Write a file that no other process reads yet; one tensor at a time is copied to the CPU.

    The ``save_file`` of safetensors writes a temporary file of its own, which a kill would leave behind.

    Raises:
        OSError: the disk is full, or another error of the file system.
    """
    # Widest types first, so that each tensor starts at a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    text = json.dumps({"format": format, **record}, allow_nan=False)
    header = _build_header({name: tensors[name] for name in names}, text)
    digests = {}
    with path.open("wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            content = _view_bytes(tensors[name])
            handle.write(content)
            digests[name] = _hash_tensor(tensors[name], content)
        handle.seek(8 + header.index(HASH_PLACEHOLDER.encode()))
        handle.write(_combine_hashes(text, digests).encode())
        handle.flush()
        os.fsync(handle.fileno())


def read_checkpoint(
    path: Path, *, format: str, device: torch.device | str | None = "cpu", hint: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors, each in memory of its own, and the record.

    The torch tensors are on ``device``; None: numpy arrays, without loading torch. ``hint`` says in error messages how
    to make such a file.

    Raises:
        HsevalError: the file is missing, truncated, changed or of another format.
    """
    with _open_file(path, "np" if device is None else "pt", hint) as handle:
        record, text = _parse_record(path, handle.metadata(), format)
        stored_hash = handle.metadata().get("sha256")
        digests, tensors = {}, {}
        for name in sorted(handle.keys()):
            mapped = handle.get_tensor(name)
            digests[name] = _hash_tensor(mapped, _view_bytes(mapped))
            # A copy, because memory-mapped tensors have any alignment, and rounding in kernels may depend on it.
            tensors[name] = mapped.copy() if device is None else mapped.clone().to(device)
        if _combine_hashes(text, digests) != stored_hash:
            raise HsevalError(f"{path}: changed since it was written (its sha256 differs)")
    return tensors, record


def read_record(path: Path, *, format: str) -> dict[str, Any]:
    """Return the record from the header alone, without hashing; HsevalError as in :func:`read_checkpoint`."""
    with _open_file(path, "np") as handle:
        return _parse_record(path, handle.metadata(), format)[0]


def load_weights(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path, hint: str = "") -> None:
    """Load a module's weights and buffers from the tensors of the checkpoint at ``path``.

    Raises:
        HsevalError: names, shapes or types are not the module's, or a value is not finite.
    """
    expected = {name: (tuple(value.shape), value.dtype) for name, value in module.state_dict().items()}
    found = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        shown = [
            "none" if pair is None else f"{pair[1]} {pair[0]}" for pair in (found.get(wrong[0]), expected.get(wrong[0]))
        ]
        reason = f"holds another network: {wrong[0]!r} is {shown[0]}, expected {shown[1]}"
        raise HsevalError(f"{path}: {reason}{f'; {hint}' if hint else ''}".replace("torch.", ""))
    nonfinite = sorted(name for name, value in tensors.items() if not bool(value.isfinite().all()))
    if nonfinite:
        raise HsevalError(f"{path}: {nonfinite[0]!r} has values that are not finite{f'; {hint}' if hint else ''}")
    module.load_state_dict(dict(tensors))


def _build_header(tensors: Tensors, record: str) -> bytes:
    """Return the header of the file format (github.com/huggingface/safetensors), a multiple of 8 bytes long."""
    entries: dict[str, Any] = {"__metadata__": {"sha256": HASH_PLACEHOLDER, "record": record}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + math.prod(tensor.shape) * tensor.itemsize
        entries[name] = {"dtype": _get_dtype_code(tensor), "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    return header + b" " * (-len(header) % 8)


def _get_dtype_code(tensor: Any) -> str:
    return DTYPE_CODES[str(tensor.dtype).removeprefix("torch.")]


def _view_bytes(tensor: Any) -> memoryview:
    """Return the bytes of a torch tensor or numpy array in row-major order."""
    import numpy as np

    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    import torch

    content: memoryview = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return content


def _hash_tensor(tensor: Any, content: memoryview) -> str:
    description = f"{_get_dtype_code(tensor)} {tuple(tensor.shape)}\n"
    return hashlib.sha256(description.encode() + hashlib.sha256(content).digest()).hexdigest()


def _combine_hashes(record: str, digests: Mapping[str, str]) -> str:
    lines = [record, *(f"{digests[name]} {name}" for name in sorted(digests))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def _open_file(path: Path, framework: str, hint: str = "") -> Iterator[Any]:
    """Open a file; errors, those of the block included, become one line that ends with the hint."""
    from safetensors import SafetensorError, safe_open

    try:
        check_regular_file(path)
        with safe_open(path, framework=framework) as handle:
            yield handle
    except (HsevalError, OSError, SafetensorError) as error:
        if isinstance(error, HsevalError):
            message = str(error)
        elif isinstance(error, FileNotFoundError):
            message = f"{path}: no such checkpoint"
        elif isinstance(error, OSError):
            message = f"{path}: can't be read: {error.strerror or error}"
        else:
            message = f"{path}: truncated, or not a safetensors file ({str(error).splitlines()[0]})"
        raise HsevalError(f"{message}; {hint}" if hint else message) from error


def _parse_record(path: Path, metadata: Mapping[str, str] | None, format: str) -> tuple[dict[str, Any], str]:
    text = (metadata or {}).get("record", "")
    try:
        record = json.loads(text)
        check_depth(record)
    except (ValueError, RecursionError):
        record = None
    found = record.get("format") if isinstance(record, dict) else None
    if found != format:
        stated = "no format that this version knows" if found is None else f"the format {found!r:.60}"
        raise HsevalError(f"{path}: has {stated}, expected {format!r}")
    return record, text
