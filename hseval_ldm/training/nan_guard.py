"""The first loss that is not finite, found without asking the device at every step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hseval.utils.errors import HsevalError
from hseval_ldm.utils.distributed import Ranks

NO_STEP = -1


class NanGuard:
    """Watches the loss terms of one stage.

    For each term the device keeps the first step at which it was not finite, and its value then; only
    :meth:`check` waits for the device.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        # Terms come and go (a late discriminator), so each set of names has its own pair (term,).
        self._first_nonfinite: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def watch(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Take the loss terms, 0-d tensors, of one step; steps count from 1, as in the journal."""
        if not terms:
            return
        names = tuple(terms)
        values = torch.stack([term.detach().to(torch.float32) for term in terms.values()])
        if names not in self._first_nonfinite:
            never = torch.full(values.shape, NO_STEP, dtype=torch.int64, device=values.device)
            self._first_nonfinite[names] = never, torch.zeros_like(values)
        first, seen = self._first_nonfinite[names]
        new = ~torch.isfinite(values) & (first == NO_STEP)
        self._first_nonfinite[names] = torch.where(new, step, first), torch.where(new, values, seen)

    def check(self, ranks: Ranks, *, hint: str) -> None:
        """Raise if a term has not been finite since the start; all ranks call it at the same step.

        Args:
            ranks: all raise where one has reason to.
            hint: what the message ends with: the last good checkpoint, what to lower.

        Raises:
            HsevalError: names the first such step, its terms and their values.
        """
        found = self._describe_first()
        ranks.raise_first_error(None if found is None else f"{self.stage}, {found}; {hint}")

    def check_state(self, step: int, state: Mapping[str, Tensor], *, hint: str) -> None:
        """Raise if a tensor is not finite that a checkpoint is about to keep; on this rank alone.

        A gradient can overflow under a finite loss; the loss tells only at the next step.

        Raises:
            HsevalError: names the first such tensor.
        """
        floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        broken = [name for name, tensor in floats.items() if not torch.isfinite(tensor).all()]
        more = f" and {len(broken) - 1} more are" if len(broken) > 1 else " is"
        if broken:
            told = f"{self.stage}, step {step}: {broken[0]!r}{more} not finite after a finite loss; {hint}"
            raise HsevalError(told)

    def _describe_first(self) -> str | None:
        """Return ``step 412: loss 'l1' is not finite (nan)`` for the earliest step that had such terms."""
        by_step: dict[int, list[str]] = {}
        for names, (first, seen) in self._first_nonfinite.items():
            for name, step, value in zip(names, first.tolist(), seen.tolist(), strict=True):
                if step != NO_STEP:
                    by_step.setdefault(step, []).append(f"{name!r} ({value})")
        if not by_step:
            return None
        step = min(by_step)
        terms = sorted(by_step[step])
        verb = "is" if len(terms) == 1 else "are"
        return f"step {step}: loss {', '.join(terms)} {verb} not finite"
