"""Checkpoints of a stage: ``last``, the one before it (``previous``) and the ``best``; see :mod:`.safetensors_file`."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hseval.utils.atomic_files import check_writable, write_atomically
from hseval.utils.errors import HsevalError
from hseval_ldm.training import safetensors_file

LAST, PREVIOUS, BEST = "last", "previous", "best"


def get_path(folder: Path, which: str = LAST) -> Path:
    """Return the path of a stage's ``last``, ``previous`` or ``best`` checkpoint."""
    return folder / f"{which}.safetensors"


def save(folder: Path, state: Mapping[str, Tensor], record: Mapping[str, Any], *, best: bool = False) -> None:
    """Write ``last`` atomically; the ``last`` before it becomes ``previous``.

    A process killed at any moment leaves a complete ``last``, or, on file systems without hard links, at least a
    complete ``previous``.

    Args:
        folder: the stage's folder; created if it is missing.
        state: name -> tensor of any dtype, device and layout; tensors may share memory.
        record: values that JSON can store; contains ``stage`` and ``step``.
        best: also store it as ``best``.

    Raises:
        HsevalError: it could not be written; the earlier checkpoints are unchanged.
    """
    if not folder.is_dir():
        check_writable(folder)
        folder.mkdir(exist_ok=True)
    last = get_path(folder)
    try:
        with write_atomically(last) as temporary:
            safetensors_file.write(temporary, state, record)
            _fsync(temporary)  # before it replaces any other
            if last.exists():
                _link_or_copy(last, get_path(folder, PREVIOUS))
            if best:
                _link_or_copy(temporary, get_path(folder, BEST))
    except HsevalError as error:
        hint = "; the previous checkpoint is preserved: free disk space, then --resume" if last.exists() else ""
        raise HsevalError(f"{error}{hint}") from error


def load(
    folder: Path, device: torch.device | str = "cpu", *, which: str = LAST
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: its tensors on ``device``, bit for bit, and its record.

    If ``last`` is missing and ``previous`` exists (the worst that a kill can leave), ``previous`` is read, with a
    warning.

    Raises:
        HsevalError: it is missing, truncated, changed or of another format; the message names a way to recover.
    """
    path = _find_checkpoint(folder, which)
    try:
        return safetensors_file.read(path, device)
    except HsevalError as error:
        raise HsevalError(f"{error}; {_format_recovery_hint(folder, path)}") from error


def read_record(folder: Path, *, which: str = LAST) -> dict[str, Any]:
    """Return a checkpoint's record from its header, without reading tensors; HsevalError as in :func:`load`."""
    path = _find_checkpoint(folder, which)
    try:
        return safetensors_file.read_record(path)
    except HsevalError as error:
        raise HsevalError(f"{error}; {_format_recovery_hint(folder, path)}") from error


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is a checkpoint to resume from, complete or not."""
    return any(get_path(folder, which).exists() for which in (LAST, PREVIOUS))


def pack(prefix: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` under ``prefix.``; ValueError for a value that is not a tensor."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{prefix}: {name!r} is not a tensor, and checkpoints hold only tensors")
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that :func:`pack` stored under ``prefix.``, by their original names."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def get_optimizer_state(optimizer: Optimizer, named_parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an optimizer's moments and step counts as ``parameter's name.key`` -> tensor.

    Learning rates are not included: the caller computes them from the step.

    Args:
        optimizer: Adam, AdamW or another whose state is tensors by parameter; fused and foreach alike.
        named_parameters: ``dict(module.named_parameters())`` of the optimized module.
    """
    names = {id(parameter): name for name, parameter in named_parameters.items()}
    return {
        f"{names[id(parameter)]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(
    optimizer: Optimizer, named_parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Restore a result of :func:`get_optimizer_state`; parameters without state in it have none afterwards.

    Raises:
        HsevalError: an unknown parameter name, or moments of another shape.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(".")
        if name not in named_parameters:
            raise HsevalError(f"checkpoint: optimizer state of {name!r}, which the configured model lacks")
        if value.ndim and value.shape != named_parameters[name].shape:
            mismatch = (
                f"{full_name!r} has shape {tuple(value.shape)}, the model's {tuple(named_parameters[name].shape)}"
            )
            raise HsevalError(f"checkpoint: optimizer state {mismatch}")
        state.setdefault(name, {})[key] = value.clone()  # the optimizer changes it in place
    names = {id(parameter): name for name, parameter in named_parameters.items()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state_by_index = {index: state[name] for index, name in enumerate(order) if name in state}
    optimizer.load_state_dict({"state": state_by_index, "param_groups": optimizer.state_dict()["param_groups"]})


def _fsync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _link_or_copy(path: Path, target: Path) -> None:
    """Make ``target`` a hard link to ``path``, or a copy where the file system has no hard links."""
    linked = target.with_name(f".{target.name}.link")
    with contextlib.suppress(OSError):
        linked.unlink(missing_ok=True)
        linked.hardlink_to(path)
        linked.replace(target)
        linked.unlink(missing_ok=True)  # POSIX: a rename onto another name of the same file does nothing
        return
    with write_atomically(target) as temporary:
        shutil.copyfile(path, temporary)


def _find_checkpoint(folder: Path, which: str) -> Path:
    path, previous = get_path(folder, which), get_path(folder, PREVIOUS)
    if which != LAST or path.exists() or not previous.exists():
        return path
    logging.getLogger("hseval.ldm").warning("%s: is missing; resuming from %s", path, previous.name)
    return previous


def _format_recovery_hint(folder: Path, path: Path) -> str:
    """Return a hint with the command that replaces a damaged checkpoint by an intact one, if there is one."""
    for which, verb in ((PREVIOUS, "mv"), (LAST, "cp"), (BEST, "cp")):
        other = get_path(folder, which)
        if other != path:
            with contextlib.suppress(HsevalError):
                step = safetensors_file.read(other)[1]["step"]
                target = BEST if path.stem == BEST else LAST
                next_command = "" if target == BEST else ", then --resume"
                return (
                    f"the checkpoint of step {step} is intact: {verb} {other} {get_path(folder, target)}{next_command}"
                )
    if not path.exists():
        return "create it with hseval train-ldm"
    return f"no other checkpoint is intact: remove {folder} and train again"
