"""All that a training step changes, and how it is kept."""

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


class State:
    """Weights, their average and the optimizer's moments: all that a step changes."""

    def __init__(self, network: torch.nn.Module, *, rate: float, average: float) -> None:
        import torch

        self.network, self.decay = network, average
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
        self.averaged = _to_numpy(network.state_dict())
        self._average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def follow(self, step: int) -> None:
        """Move the averages: by 1 / 10 at first, less and less until the decay that was asked for."""
        import torch

        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self._average[name].lerp_(value, 1 - decay)
                else:
                    self._average[name].copy_(value)

    def write(self, folder: Path, stem: str, record: Mapping[str, Any]) -> None:
        """Keep everything under ``stem``, with a record that holds ``step``, ``facts`` and ``seed``."""
        self.averaged = _to_numpy(self._average)
        moments = self.optimizer.state_dict()["state"]
        kept = {f"moments.{number}.{name}": _numpy(each[name]) for number, each in moments.items() for name in each}
        kept |= {f"weights.{name}": value for name, value in _to_numpy(self.network.state_dict()).items()}
        kept |= {f"average.{name}": value for name, value in self.averaged.items()}
        save_checkpoint(folder, stem, kept, record, format=FORMAT)

    def read(self, folder: Path, stem: str, wanted: Mapping[str, Any]) -> int:
        """Take up what :meth:`write` kept and return the number of steps done; 0 where nothing was kept.

        Raises:
            HsevalError: what was kept is damaged, or has other facts or another seed than ``wanted``.
        """
        if not (folder / f"{stem}.json").exists():
            return 0
        tensors, record = load_checkpoint(folder, stem, format=FORMAT, holds=("step", "facts", "seed"))
        _check_same({**record["facts"], "seed": record["seed"]}, _as_json(wanted), where=folder / f"{stem}.json")
        self.network.load_state_dict(from_numpy(_under("weights.", tensors)))
        self.averaged = _under("average.", tensors)
        for name, value in from_numpy(self.averaged).items():
            self._average[name].copy_(value)
        moments: dict[int, dict[str, Any]] = {}
        for name, value in from_numpy(_under("moments.", tensors)).items():
            number, _, what = name.partition(".")
            moments.setdefault(int(number), {})[what] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return int(record["step"])


def from_numpy(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Return weights as ``load_state_dict`` takes them; a copy."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _under(prefix: str, tensors: Mapping[str, Array]) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _to_numpy(state: Mapping[str, torch.Tensor]) -> Arrays:
    return {name: _numpy(value) for name, value in state.items()}


def _numpy(value: torch.Tensor) -> Array:
    array: Array = value.detach().cpu().numpy().copy()
    return array


def _as_json(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts and seed in one mapping, as they come back from JSON."""
    flat: dict[str, Any] = json.loads(json.dumps({**wanted["facts"], "seed": wanted["seed"]}))
    return flat


def _check_same(had: Mapping[str, Any], wanted: Mapping[str, Any], *, where: Path) -> None:
    for key, value in had.items():
        if wanted.get(key) != value:
            told = f"was begun with {key}={_short(value)}, not {_short(wanted.get(key))}"
            raise HsevalError(f"{where}: {told}; go on with the same, or train into another folder")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
