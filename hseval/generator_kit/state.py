"""The state that a training step changes, and its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hseval.generator_kit.checkpoint import load_checkpoint, save_checkpoint
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
Arrays = dict[str, Array]
FORMAT = "hseval-training-1"


class TrainingState:
    """The state that a step changes: weights, their moving average and the optimizer's moments."""

    def __init__(self, network: torch.nn.Module, *, learning_rate: float, ema_decay: float) -> None:
        import torch

        self.network, self.ema_decay = network, ema_decay
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.0)
        self.ema_weights = _to_numpy(network.state_dict())
        self._ema_tensors = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update_ema(self, step: int) -> None:
        """Update the averages, with a decay that rises from 0.1 to ``ema_decay``."""
        import torch

        decay = min(self.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self._ema_tensors[name].lerp_(value, 1 - decay)
                else:
                    self._ema_tensors[name].copy_(value)

    def write(self, folder: Path, stem: str, record: Mapping[str, Any]) -> None:
        """Write a checkpoint named ``stem``, with a record that holds ``step``, ``facts`` and ``seed``."""
        self.ema_weights = _to_numpy(self._ema_tensors)
        moments = self.optimizer.state_dict()["state"]
        tensors = {
            f"moments.{i}.{key}": _to_array(value) for i, entry in moments.items() for key, value in entry.items()
        }
        tensors |= {f"weights.{name}": value for name, value in _to_numpy(self.network.state_dict()).items()}
        tensors |= {f"average.{name}": value for name, value in self.ema_weights.items()}
        save_checkpoint(folder, stem, tensors, record, format=FORMAT)

    def read(self, folder: Path, stem: str, expected: Mapping[str, Any]) -> int:
        """Restore the checkpoint of :meth:`write` and return the number of steps done; 0 if there is no checkpoint.

        Raises:
            HsevalError: the checkpoint is damaged, or has other settings or another seed than ``expected``.
        """
        if not (folder / f"{stem}.json").exists():
            return 0
        tensors, record = load_checkpoint(folder, stem, format=FORMAT, required_keys=("step", "facts", "seed"))
        _check_same_settings(
            {**record["facts"], "seed": record["seed"]}, _flatten_expected(expected), path=folder / f"{stem}.json"
        )
        self.network.load_state_dict(from_numpy(_select_prefix("weights.", tensors)))
        self.ema_weights = _select_prefix("average.", tensors)
        for name, value in from_numpy(self.ema_weights).items():
            self._ema_tensors[name].copy_(value)
        moments: dict[int, dict[str, Any]] = {}
        for name, value in from_numpy(_select_prefix("moments.", tensors)).items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return int(record["step"])


def from_numpy(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Return a copy of weights as ``load_state_dict`` takes them."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _select_prefix(prefix: str, tensors: Mapping[str, Array]) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _to_numpy(state: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: _to_array(value) for name, value in state.items()}


def _to_array(value: torch.Tensor) -> Array:
    array: Array = value.detach().cpu().numpy().copy()
    return array


def _flatten_expected(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings and seed in one mapping, as JSON would return them."""
    flat: dict[str, Any] = json.loads(json.dumps({**expected["facts"], "seed": expected["seed"]}))
    return flat


def _check_same_settings(stored: Mapping[str, Any], expected: Mapping[str, Any], *, path: Path) -> None:
    for key, value in stored.items():
        if expected.get(key) != value:
            mismatch = f"was started with {key}={_truncate(value)}, not {_truncate(expected.get(key))}"
            raise HsevalError(f"{path}: {mismatch}; resume with the same value, or train into another folder")


def _truncate(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
