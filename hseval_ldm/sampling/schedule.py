"""The diffusion process: noise levels, noisy latents, the velocity to predict and its weighted loss.

``x_t = alpha_t x_0 + sigma_t noise`` with ``alpha_t^2 + sigma_t^2 = 1`` (Ho et al. 2020), for whole ``t`` from 0 to
``steps - 1``. The last level holds almost no signal (``alpha`` below 2e-4 with 300 steps or more), because sampling
starts from pure noise (Lin et al. 2024), but ``alpha`` is never zero, because samplers divide by it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.plugin import HsevalError, create_rng

MIN_STEPS = 32
MAX_BETA = 0.999  # upper bound of beta (Nichol and Dhariwal 2021), so that alpha never becomes zero


class NoiseSchedule:
    """The noise levels at ``steps`` times, by the cosine schedule (Nichol and Dhariwal 2021).

    Attributes:
        alpha_bar: ``alpha_t^2``, float64 ``(steps,)``, descending.
    """

    def __init__(self, steps: int = 1000) -> None:
        if steps < MIN_STEPS:
            raise HsevalError(f"diffusion: {steps} steps, expected {MIN_STEPS} or more (1000 is usual)")
        self.steps = steps
        signal = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        self.alpha_bar = np.cumprod(1 - np.minimum(1 - signal[1:] / signal[:-1], MAX_BETA))
        self._level_tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def betas(self) -> NDArray[np.float64]:
        """``1 - alpha_bar_t / alpha_bar_{t - 1}``, float64 ``(steps,)``."""
        before = np.concatenate([[1.0], self.alpha_bar[:-1]])
        return np.asarray(1 - self.alpha_bar / before)

    def get_levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``alpha_t`` and ``sigma_t``, float32 ``(n, 1, 1, 1)``, of whole times ``(n,)``, on their device."""
        if t.device not in self._level_tables:
            # Computed in float64: 1 - alpha_bar loses precision near t = 0.
            pair = np.sqrt(self.alpha_bar), np.sqrt(1 - self.alpha_bar)
            alpha, sigma = (torch.from_numpy(level).float().to(t.device) for level in pair)
            self._level_tables[t.device] = alpha, sigma
        alpha, sigma = self._level_tables[t.device]
        return alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return noisy latents and their velocity ``alpha_t noise - sigma_t x_0`` (Salimans and Ho 2022, appendix D).

        ``latents``, ``x_0``, are normalized float32 ``(n, channel, y, x)``, ``noise`` is standard normal of that shape,
        and ``t`` are whole times ``(n,)``.
        """
        alpha, sigma = self.get_levels(t)
        return alpha * latents + sigma * noise, alpha * noise - sigma * latents

    def compute_loss_weights(self, t: Tensor, gamma: float) -> Tensor:
        """Return the loss weights ``min(snr, gamma) / (snr + 1)``, float32 ``(n,)``; 1 for ``gamma`` 0.

        An error of the velocity is ``snr + 1`` times one of ``x_0`` (Hang et al. 2023, section 3.4), where the signal
        to noise ratio is ``snr = alpha^2 / sigma^2``; hence ``min(alpha^2, gamma sigma^2)`` without a division.
        """
        alpha, sigma = self.get_levels(t)
        if not gamma:
            return torch.ones_like(alpha).flatten()
        return torch.minimum(alpha.square(), gamma * sigma.square()).flatten()


def velocity_loss(
    schedule: NoiseSchedule, prediction: Tensor, velocity: Tensor, t: Tensor, *, gamma: float = 5.0
) -> Tensor:
    """Return each cube's weighted mean squared error of the velocity, float32 ``(n,)``.

    Latents outside the field of view count like all others: the decoder uses them, and they determine the sampled field
    of view.
    """
    errors = (prediction.float() - velocity.float()).square().mean(dim=(1, 2, 3))
    return schedule.compute_loss_weights(t, gamma) * errors


def draw_times_and_noise(
    step: int,
    *,
    batch_size: int,
    shape: tuple[int, int, int],
    seed: int,
    schedule: NoiseSchedule,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """Return the times, int64 ``(batch,)``, and the noise, ``(batch, *shape)``, of a training step.

    Both are a function of seed, step and type of device, and are drawn for the global batch, of which a rank takes its
    slice. The times share one random offset and are evenly spaced (Kingma et al. 2021, appendix I.1): each is uniform,
    and the loss of a batch varies less than with independent times.
    """
    rng = create_rng(seed, "diffusion", step)
    fractions = (rng.random() + np.arange(batch_size) / batch_size) % 1
    times = np.minimum((fractions * schedule.steps).astype(np.int64), schedule.steps - 1)
    # Drawn on the device: drawing a global batch of large latents on a CPU takes longer than a step on a GPU.
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
    noise = torch.randn((batch_size, *shape), generator=generator, device=device)
    return torch.from_numpy(times).to(device), noise
