"""A checkpoint: ``STEM.safetensors`` and ``STEM.json``; the second holds the hash of the first and is written last."""

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
    """Write both files, each whole or not at all.

    Args:
        folder: where to; it exists.
        stem: of both names.
        tensors: by name, contiguous or not.
        record: what JSON can hold.
        format: what :func:`load_checkpoint` asks for, raised whenever older readers would misread it.
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
        folder: where :func:`save_checkpoint` wrote.
        stem: as there.
        format: as there.
        required_keys: what the record has to have.
        hint: how to come by a checkpoint, told where there is none.

    Raises:
        HsevalError: a file is missing, cut off or changed, of another format, or lacks an entry.
    """
    from safetensors.numpy import load_file

    weights, record_file = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        digest = _compute_sha256(weights)
    except (OSError, ValueError) as error:
        raise HsevalError(f"{folder}: no whole checkpoint ({_describe_error(error, record_file)}); {hint}") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != format:
        raise HsevalError(f"{record_file}: its format is {found!r}, expected {format!r}; {hint}")
    for key in required_keys:
        if key not in record:
            raise HsevalError(f"{record_file}: {key!r} is missing; {hint}")
    if record.get("sha256") != digest:
        raise HsevalError(f"{weights}: cut off or changed (its sha256 is not the one in {record_file.name}); {hint}")
    return load_file(weights), record


def merge_options(
    requested_options: OptionsT, trained_options: OptionsT, *, sampling_options: Collection[str], path: Path
) -> OptionsT:
    """Return the options to sample with: those of the training, and of ``sampling_options`` the ones that were given.

    An option that has its default counts as not given.

    Raises:
        HsevalError: an option that only training takes was given another value than it was trained with.
    """
    changes = {}
    for field in dataclasses.fields(requested_options):  # type: ignore[arg-type]
        wanted, had = getattr(requested_options, field.name), getattr(trained_options, field.name)
        if wanted in (field.default, had):
            continue
        if field.name not in sampling_options:
            told = f"was trained with {field.name}={_format_value(had)}, not {_format_value(wanted)}"
            raise HsevalError(f"{path}: {told}; when sampling, set {', '.join(sampling_options) or 'nothing'}")
        changes[field.name] = wanted
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
    return f"{record_file.name} is no JSON: {error}"


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
