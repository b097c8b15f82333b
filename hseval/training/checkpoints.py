"""The checkpoints of a stage in its folder, and the state of modules and optimizers as tensors by name."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hseval.training import checkpoint_file
from hseval.utils.atomic_files import create_folder, write_atomically
from hseval.utils.errors import HsevalError
from hseval.utils.structured_files import convert_record

LAST, PREVIOUS, BEST = "last", "previous", "best"


@dataclasses.dataclass(frozen=True)
class StageCheckpoints:
    """``last``, the one before it (``previous``) and the ``best``; see :mod:`~hseval.training.checkpoint_file`.

    Attributes:
        folder: the stage's; created by the first :meth:`save`.
        format: name and version of the files.
        resume_option: what a user types to resume, for messages.
        create_hint: how to train the stage, for messages.
    """

    folder: Path
    format: str = "hseval-training-2"
    resume_option: str = "--resume"
    create_hint: str = "train it first"

    def get_path(self, which: str = LAST) -> Path:
        """Return the path of the ``last``, ``previous`` or ``best`` checkpoint."""
        return self.folder / f"{which}.safetensors"

    def exist(self) -> bool:
        """Return whether there is a checkpoint to resume from, complete or not."""
        return any(self.get_path(which).exists() for which in (LAST, PREVIOUS))

    def save(self, state: Mapping[str, Tensor], record: Mapping[str, Any], *, best: bool = False) -> None:
        """Write ``last`` atomically; the ``last`` before it becomes ``previous``.

        A process killed at any moment leaves a complete ``last``, or, on file systems without hard links, at least a
        complete ``previous``.

        Args:
            state: name -> tensor of any dtype, device and layout; tensors may share memory.
            record: values that JSON can store; contains ``stage`` and ``step``.
            best: also store it as ``best``.

        Raises:
            HsevalError: it could not be written; the earlier checkpoints are unchanged.
        """
        create_folder(self.folder)
        last = self.get_path()
        try:
            with write_atomically(last) as temporary:
                checkpoint_file.write_content(temporary, state, record, format=self.format)
                if last.exists():
                    _link_or_copy(last, self.get_path(PREVIOUS))
                if best:
                    _link_or_copy(temporary, self.get_path(BEST))
        except HsevalError as error:
            hint = f"; the previous checkpoint is preserved: free disk space, then {self.resume_option}"
            raise HsevalError(f"{error}{hint if last.exists() else ''}") from error

    def load(
        self, device: torch.device | str = "cpu", *, which: str = LAST
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a checkpoint: its tensors on ``device``, bit for bit, and its record.

        If ``last`` is missing and ``previous`` exists (the worst that a kill can leave), ``previous`` is read, with a
        warning.

        Raises:
            HsevalError: it is missing, truncated, changed or of another format; the message names a way to recover.
        """
        path = self._find(which)
        with self._advise_recovery(path):
            return self._read(path, device)

    def read_record(self, *, which: str = LAST) -> dict[str, Any]:
        """Return a checkpoint's record from its header, without reading tensors; HsevalError as in :meth:`load`."""
        path = self._find(which)
        with self._advise_recovery(path):
            return _check_record(path, checkpoint_file.read_record(path, format=self.format))

    def copy_to(self, folder: Path) -> None:
        """Copy ``last`` and ``best`` to the folder of another run's stage, as hard links where there are any."""
        folder.mkdir(exist_ok=True)
        for which in (LAST, BEST):
            _link_or_copy(self.get_path(which), folder / self.get_path(which).name)

    def remove(self) -> None:
        """Remove all checkpoints."""
        for which in (LAST, PREVIOUS, BEST):
            self.get_path(which).unlink(missing_ok=True)

    def _read(self, path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, record = checkpoint_file.read_checkpoint(path, format=self.format, device=device)
        return tensors, _check_record(path, record)

    def _find(self, which: str) -> Path:
        path, previous = self.get_path(which), self.get_path(PREVIOUS)
        if which != LAST or path.exists() or not previous.exists():
            return path
        logging.getLogger("hseval.training").warning("%s: is missing; resuming from %s", path, previous.name)
        return previous

    @contextlib.contextmanager
    def _advise_recovery(self, path: Path) -> Iterator[None]:
        try:
            yield
        except HsevalError as error:
            raise HsevalError(f"{error}; {self._format_recovery_hint(path)}") from error

    def _format_recovery_hint(self, path: Path) -> str:
        """Return a hint with the command that replaces a damaged checkpoint by an intact one, if there is one."""
        for which, verb in ((PREVIOUS, "mv"), (LAST, "cp"), (BEST, "cp")):
            other = self.get_path(which)
            if other != path:
                with contextlib.suppress(HsevalError):
                    step = self._read(other)[1]["step"]
                    target = BEST if path.stem == BEST else LAST
                    next_command = "" if target == BEST else f", then {self.resume_option}"
                    command = f"{verb} {other} {self.get_path(target)}{next_command}"
                    return f"the checkpoint of step {step} is intact: {command}"
        if not path.exists():
            return self.create_hint
        return f"no other checkpoint is intact: remove {self.folder} and train again"


@dataclasses.dataclass(frozen=True)
class _StageRecord:
    stage: str
    step: int


def _check_record(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a stage's checkpoint; HsevalError unless it has a stage and a step."""
    if convert_record(record, _StageRecord, path).step < 0:
        raise HsevalError(f"{path}: its step is {record['step']}, expected 0 or more")
    return record


def pack_state(prefix: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a ``state_dict`` under ``prefix.``; ValueError for a value that is not a tensor."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{prefix}: {name!r} is not a tensor, and checkpoints hold only tensors")
    return {f"{prefix}.{name}": value for name, value in state.items()}


def unpack_state(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that :func:`pack_state` stored under ``prefix.``, by their original names."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def get_optimizer_state(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return an optimizer's moments and step counts as ``parameter's name.key`` -> tensor.

    The optimizer is Adam, AdamW or another whose state is tensors by parameter; fused and foreach alike. Learning rates
    are not included: the caller computes them from the step.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}.{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Restore a result of :func:`get_optimizer_state`; parameters without state in it have none afterwards.

    Raises:
        HsevalError: an unknown parameter name, moments of another shape or type, or some that are missing.
    """
    parameters = dict(model.named_parameters())
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(".")
        if name not in parameters:
            raise HsevalError(f"checkpoint: optimizer state of {name!r}, which the configured model lacks")
        if value.ndim and value.shape != parameters[name].shape:
            mismatch = f"{full_name!r} has shape {tuple(value.shape)}, the model's {tuple(parameters[name].shape)}"
            raise HsevalError(f"checkpoint: optimizer state {mismatch}")
        if not value.is_floating_point():
            raise HsevalError(f"checkpoint: optimizer state {full_name!r} has the type {value.dtype}, expected floats")
        state.setdefault(name, {})[key] = value.clone()  # the optimizer changes it in place
    keys = set().union(*state.values())
    incomplete = [name for name in state if state[name].keys() != keys]
    if incomplete:
        missing = min(keys - state[incomplete[0]].keys())
        raise HsevalError(f"checkpoint: optimizer state '{incomplete[0]}.{missing}' is missing")
    names = {id(parameter): name for name, parameter in parameters.items()}
    order = [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
    state_by_index = {index: state[name] for index, name in enumerate(order) if name in state}
    optimizer.load_state_dict({"state": state_by_index, "param_groups": optimizer.state_dict()["param_groups"]})


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
