"""The checkpoint of a generator, one file in the folder of a run, and the options that it was trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hseval.training.checkpoint_file import read_checkpoint, write_checkpoint
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

OptionsT = TypeVar("OptionsT")


def save_checkpoint(
    folder: Path, stem: str, tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any], *, format: str
) -> None:
    """Write ``STEM.safetensors``, which holds the record, too, atomically, to an existing folder.

    ``record`` holds values that JSON can store. ``format`` is the name and version that :func:`load_checkpoint`
    requires; raise the version when older readers would misread the checkpoint.

    Raises:
        HsevalError: the disk is full, or the folder can't be written.
    """
    write_checkpoint(folder / f"{stem}.safetensors", tensors, record, format=format)


def load_checkpoint(
    folder: Path, stem: str, *, format: str, required_keys: Collection[str] = (), hint: str = "train again"
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote: tensors and record; torch is not loaded.

    ``hint`` says in error messages how to make a checkpoint.

    Raises:
        HsevalError: the file is missing, truncated or changed, of another format, or its record lacks one of
            ``required_keys``.
    """
    if folder.is_file():
        raise HsevalError(f"{folder}: is a file, expected the folder of a checkpoint; {hint}")
    path = folder / f"{stem}.safetensors"
    tensors, record = read_checkpoint(path, format=format, device=None, hint=hint)
    for key in required_keys:
        if key not in record:
            raise HsevalError(f"{path}: its record lacks {key!r}; {hint}")
    return tensors, record


def from_numpy(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return a copy of weights as ``load_state_dict`` takes them."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


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
