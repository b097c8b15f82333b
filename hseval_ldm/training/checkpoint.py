"""A stage's state on disk: ``last``, the one before it (``previous``) and the ``best``; see :mod:`.tensorfile`."""

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
from hseval_ldm.training import safetensors_file as tensorfile

LAST, PREVIOUS, BEST = "last", "previous", "best"


def get_path(folder: Path, which: str = LAST) -> Path:
    """Return where a stage's ``last``, ``previous`` or ``best`` checkpoint lies."""
    return folder / f"{which}.safetensors"


def save(folder: Path, state: Mapping[str, Tensor], record: Mapping[str, Any], *, best: bool = False) -> None:
    """Write ``last``, keeping what was there as ``previous``; whole or not at all.

    A process killed at any moment leaves a whole ``last``, or, on file systems without hard links, at least a
    whole ``previous``.

    Args:
        folder: the stage's folder; made if it is missing.
        state: name -> tensor of any dtype, device and layout; tensors may share memory.
        record: what JSON holds; ``stage`` and ``step`` among it.
        best: keep this one as ``best`` too.

    Raises:
        HsevalError: it could not be written; the checkpoints before it are untouched.
    """
    if not folder.is_dir():
        check_writable(folder)
        folder.mkdir(exist_ok=True)
    last = get_path(folder)
    try:
        with write_atomically(last) as temporary:
            tensorfile.write(temporary, state, record)
            _fsync(temporary)  # before it replaces any other
            if last.exists():
                _link_or_copy(last, get_path(folder, PREVIOUS))
            if best:
                _link_or_copy(temporary, get_path(folder, BEST))
    except HsevalError as error:
        whole = "; the checkpoint before it is kept: make room, then --resume" if last.exists() else ""
        raise HsevalError(f"{error}{whole}") from error


def load(
    folder: Path, device: torch.device | str = "cpu", *, which: str = LAST
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back, bit for bit: its tensors on ``device`` and its record.

    Where ``last`` is missing and ``previous`` is there (the worst that a kill leaves), that one is read, with a
    warning.

    Raises:
        HsevalError: it is missing, cut off, changed or of another format; the way back is named.
    """
    path = _find_checkpoint(folder, which)
    try:
        return tensorfile.read(path, device)
    except HsevalError as error:
        raise HsevalError(f"{error}; {_format_recovery_hint(folder, path)}") from error


def read_record(folder: Path, *, which: str = LAST) -> dict[str, Any]:
    """Return a checkpoint's record from its header, without reading tensors; HsevalError as in :func:`load`."""
    path = _find_checkpoint(folder, which)
    try:
        return tensorfile.read_record(path)
    except HsevalError as error:
        raise HsevalError(f"{error}; {_format_recovery_hint(folder, path)}") from error


def has_checkpoint(folder: Path) -> bool:
    """Tell whether there is a checkpoint to go on from, whole or not."""
    return any(get_path(folder, which).exists() for which in (LAST, PREVIOUS))


def pack(prefix: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` under ``prefix.``; ValueError where something else is among them."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{prefix}: {name!r} is no tensor, and checkpoints hold nothing else")
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what :func:`pack` put under ``prefix.``, names as they were."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def get_optimizer_state(optimizer: Optimizer, named_parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an optimizer's moments and step counts as ``parameter's name.key`` -> tensor.

    Learning rates are no part of it: the caller computes them from the step.

    Args:
        optimizer: Adam, AdamW or another whose state is tensors by parameter; fused and foreach alike.
        named_parameters: ``dict(module.named_parameters())`` of all that it optimises.
    """
    known = {id(parameter): name for name, parameter in named_parameters.items()}
    return {
        f"{known[id(parameter)]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(
    optimizer: Optimizer, named_parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`get_optimizer_state` returned; parameters that had no step yet have none again.

    Raises:
        HsevalError: a name that is not optimised here, or moments of another shape.
    """
    state: dict[str, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        if name not in named_parameters:
            raise HsevalError(f"checkpoint: optimizer state of {name!r}, which the configured model lacks")
        if value.ndim and value.shape != named_parameters[name].shape:
            found = f"{full!r} has shape {tuple(value.shape)}, the model's {tuple(named_parameters[name].shape)}"
            raise HsevalError(f"checkpoint: optimizer state {found}")
        state.setdefault(name, {})[key] = value.clone()  # the optimizer changes it in place
    known = {id(parameter): name for name, parameter in named_parameters.items()}
    order = [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    by_place = {place: state[name] for place, name in enumerate(order) if name in state}
    optimizer.load_state_dict({"state": by_place, "param_groups": optimizer.state_dict()["param_groups"]})


def _fsync(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _link_or_copy(path: Path, target: Path) -> None:
    """Give ``path`` the further name ``target``; a copy where the file system has no hard links."""
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
    path, before = get_path(folder, which), get_path(folder, PREVIOUS)
    if which != LAST or path.exists() or not before.exists():
        return path
    logging.getLogger("hseval.ldm").warning("%s: is missing; going on from %s", path, before.name)
    return before


def _format_recovery_hint(folder: Path, path: Path) -> str:
    """Name the command that puts another checkpoint, if one is whole, in the place of a broken one."""
    for which, verb in ((PREVIOUS, "mv"), (LAST, "cp"), (BEST, "cp")):
        other = get_path(folder, which)
        if other != path:
            with contextlib.suppress(HsevalError):
                step = tensorfile.read(other)[1]["step"]
                taken = BEST if path.stem == BEST else LAST
                resumed = "" if taken == BEST else ", then --resume"
                return f"that of step {step} is whole: {verb} {other} {get_path(folder, taken)}{resumed}"
    return "hseval train-ldm makes one" if not path.exists() else f"no other is whole: remove {folder} and train again"
