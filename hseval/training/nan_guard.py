"""Detection of the first loss that is not finite, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hseval.utils.distributed import Ranks
from hseval.utils.errors import HsevalError

NO_STEP = -1


class NanGuard:
    """Watches the loss terms of one stage.

    For each term the device stores the first step at which it was not finite, and its value; only :meth:`check`
    waits for the device.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        # The terms vary (the discriminator starts late), so each set of names has its own pair of tensors (term,).
        self._first_nonfinite: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def watch(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Record the loss terms, 0-d tensors, of one step; steps count from 1, as in the metrics log."""
        if not terms:
            return
        names = tuple(terms)
        values = torch.stack([term.detach().to(torch.float32) for term in terms.values()])
        if names not in self._first_nonfinite:
            never = torch.full(values.shape, NO_STEP, dtype=torch.int64, device=values.device)
            self._first_nonfinite[names] = never, torch.zeros_like(values)
        first, value = self._first_nonfinite[names]
        is_new = ~torch.isfinite(values) & (first == NO_STEP)
        self._first_nonfinite[names] = torch.where(is_new, step, first), torch.where(is_new, values, value)

    def check(self, ranks: Ranks, *, hint: str) -> None:
        """Raise on all ranks if a term has been non-finite at any step on one; all call it at the same step.

        Raises:
            HsevalError: names the first such step, its terms and their values.
        """
        error = self._describe_first()
        ranks.raise_first_error(None if error is None else f"{self.stage}, {error}; {hint}")

    def check_state(self, step: int, state: Mapping[str, Tensor], *, hint: str) -> None:
        """Raise if a tensor to be stored in a checkpoint is not finite; on this rank alone.

        A gradient can overflow under a finite loss; the loss shows it only at the next step.

        Raises:
            HsevalError: names the first such tensor.
        """
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        nonfinite = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
        if nonfinite:
            verb = f" and {len(nonfinite) - 1} more are" if len(nonfinite) > 1 else " is"
            reason = f"{nonfinite[0]!r}{verb} not finite after a finite loss"
            raise HsevalError(f"{self.stage}, step {step}: {reason}; {hint}")

    def _describe_first(self) -> str | None:
        """Return ``step 412: loss 'l1' is not finite (nan)`` for the earliest step that had such terms."""
        by_step: dict[int, list[str]] = {}
        for names, (first, values) in self._first_nonfinite.items():
            for name, step, value in zip(names, first.tolist(), values.tolist(), strict=True):
                if step != NO_STEP:
                    by_step.setdefault(step, []).append(f"{name!r} ({value})")
        if not by_step:
            return None
        step = min(by_step)
        terms = sorted(by_step[step])
        verb = "is" if len(terms) == 1 else "are"
        return f"step {step}: loss {', '.join(terms)} {verb} not finite"
