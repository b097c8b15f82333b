"""Checkpoints: ``STEM.safetensors`` and ``STEM.json``; the latter holds the hash of the former and is written last."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hseval.utils.atomic_files import write_atomically, write_text
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

OptionsT = TypeVar("OptionsT")


def save_checkpoint(
    folder: Path, stem: str, tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any], *, format: str
) -> None:
    """Write both files, each atomically.

    Args:
        folder: an existing folder.
        stem: of both file names.
        tensors: by name, contiguous or not.
        record: values that JSON can store.
        format: name and version that :func:`load_checkpoint` requires; raise the version when older readers would
            misread the checkpoint.
    """
    import numpy as np
    from safetensors.numpy import save_file

    with write_atomically(folder / f"{stem}.safetensors") as temporary:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, temporary)
        digest = _compute_sha256(temporary)
    text = json.dumps({"format": format, "sha256": digest, **record}, indent=1)
    write_text(folder / f"{stem}.json", text + "\n")


def load_checkpoint(
    folder: Path, stem: str, *, format: str, required_keys: Collection[str] = (), hint: str = "train again"
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read both files back.

    Args:
        folder: as for :func:`save_checkpoint`.
        stem: as for :func:`save_checkpoint`.
        format: as for :func:`save_checkpoint`.
        required_keys: keys that the record must have.
        hint: how to make a checkpoint, for error messages.

    Raises:
        HsevalError: a file is missing, truncated or changed, of another format, or lacks an entry.
    """
    from safetensors.numpy import load_file

    weights, record_file = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        digest = _compute_sha256(weights)
    except (OSError, ValueError) as error:
        raise HsevalError(
            f"{folder}: no complete checkpoint ({_describe_error(error, record_file)}); {hint}"
        ) from error
    stored_format = record.get("format") if isinstance(record, dict) else None
    if stored_format != format:
        raise HsevalError(f"{record_file}: its format is {stored_format!r}, expected {format!r}; {hint}")
    for key in required_keys:
        if key not in record:
            raise HsevalError(f"{record_file}: {key!r} is missing; {hint}")
    if record.get("sha256") != digest:
        raise HsevalError(f"{weights}: truncated or changed (its sha256 is not the one in {record_file.name}); {hint}")
    return load_file(weights), record


def merge_options(
    requested_options: OptionsT, trained_options: OptionsT, *, sampling_options: Collection[str], path: Path
) -> OptionsT:
    """Return the options to sample with: those of the training, overridden by the requested ``sampling_options``.

    An option at its default counts as not requested.

    Raises:
        HsevalError: an option of training is requested with another value than it was trained with.
    """
    changes = {}
    for field in dataclasses.fields(requested_options):  # type: ignore[arg-type]
        requested, trained = getattr(requested_options, field.name), getattr(trained_options, field.name)
        if requested in (field.default, trained):
            continue
        if field.name not in sampling_options:
            mismatch = f"was trained with {field.name}={_format_value(trained)}, not {_format_value(requested)}"
            allowed = ", ".join(sampling_options) or "no option"
            raise HsevalError(f"{path}: {mismatch}; for sampling, only {allowed} can be set")
        changes[field.name] = requested
    return dataclasses.replace(trained_options, **changes)  # type: ignore[type-var]


def _format_value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _describe_error(error: OSError | ValueError, record_file: Path) -> str:
    if isinstance(error, NotADirectoryError):
        return "it is a file, not a folder"
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return f"{record_file.name} is not JSON: {error}"


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
