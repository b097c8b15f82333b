"""The exponential moving average of a network's weights, with which samples are generated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from hseval.utils.errors import HsevalError


class Ema:
    """Maintains ``average <- d average + (1 - d) weights`` in float32, ``d = min(decay, (1 + step) / (10 + step))``.

    Buffers of floating point, such as the statistics of a batch norm, are averaged as well, others are copied.

    The warm-up (as in TensorFlow's ``ExponentialMovingAverage``) forgets the random start: after step k the average
    spans about the last tenth of the steps until that is more than ``1 / (1 - decay)``. There is no step counter, so
    that a resumed run equals an uninterrupted one.
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise HsevalError(f"ema: decay is {decay:g}, expected 0 or more and below 1")
        self.decay = decay
        self._average = {
            name: (value.float() if value.is_floating_point() else value).clone()
            for name, value in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Update the averages by the weights after training step ``step`` (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = [], []
        for average, value in self._pair_with_values(module):
            if value.is_floating_point():
                averages.append(average)
                weights.append(value.float())
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def get_state(self) -> dict[str, Tensor]:
        """Return the averages by name in the module's ``state_dict``, not copied."""
        return dict(self._average)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a result of :meth:`get_state`.

        Raises:
            HsevalError: a name or shape differs; the averages are unchanged then.
        """
        expected = {name: tuple(tensor.shape) for name, tensor in self._average.items()}
        stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
        for name in sorted(expected.keys() | stored.keys()):
            if expected.get(name) != stored.get(name):
                mismatch = f"{name!r} has shape {stored.get(name)} in the checkpoint, expected {expected.get(name)}"
                raise HsevalError(f"ema: {mismatch}; the checkpoint belongs to another network")
        for name, average in self._average.items():
            average.copy_(state[name])

    @contextlib.contextmanager
    def apply_averages(self, module: nn.Module) -> Iterator[nn.Module]:
        """Give ``module`` the averaged weights inside the block, and restore its own afterwards, bit for bit."""
        values = [value for _, value in self._pair_with_values(module)]
        backup = [value.clone() for value in values]
        try:
            self.copy_to(module)
            yield module
        finally:
            with torch.no_grad():
                for value, original in zip(values, backup, strict=True):
                    value.copy_(original)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the weights of ``module`` with the averages."""
        for average, value in self._pair_with_values(module):
            value.copy_(average)

    def _pair_with_values(self, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Return each average with the module's tensor of that name."""
        values = module.state_dict()
        if list(values) != list(self._average):
            raise ValueError("ema: the weights of the module differ from those of the original one (is it wrapped?)")
        return [(self._average[name], value) for name, value in values.items()]
