"""The parts from diffusers: the U-Net, the noise process of training, and the solver for sampling."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SCHEDULER_CONFIG = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def build_unet(channels: int, *, widths: tuple[int, ...], blocks: int) -> torch.nn.Module:
    """Return diffusers' ``UNet2DModel`` for images of ``channels`` channels; attention at the lowest level alone."""
    from diffusers import UNet2DModel

    build: Any = UNet2DModel
    network: torch.nn.Module = build(
        in_channels=channels,
        out_channels=channels,
        layers_per_block=blocks,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * len(widths),
        up_block_types=("UpBlock2D",) * len(widths),
        norm_num_groups=8,
        attention_head_dim=8,
    )
    return network


class DiffusionProcess:
    """The diffusion process: cosine schedule (Nichol and Dhariwal 2021), velocities (Salimans and Ho 2022)."""

    def __init__(self, timesteps: int) -> None:
        from diffusers import DDPMScheduler

        build: Any = DDPMScheduler
        self.timesteps = timesteps
        self.scheduler = build(num_train_timesteps=timesteps, clip_sample=False, **SCHEDULER_CONFIG)

    def compute_loss(self, network: Any, clean: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return the mean squared error of the velocity at random noise levels.

        Args:
            network: takes noisy images and times.
            clean: ``(n, channel, y, x)``, normalized.
            rng: of this step, the only source of randomness.
        """
        import torch

        times = torch.from_numpy(rng.integers(self.timesteps, size=len(clean))).to(clean.device)
        noise = torch.from_numpy(rng.standard_normal(tuple(clean.shape), dtype=np.float32)).to(clean.device)
        noisy = self.scheduler.add_noise(clean, noise, times)
        velocity = self.scheduler.get_velocity(clean, noise, times)
        return torch.nn.functional.mse_loss(network(noisy, times).sample, velocity)

    def sample(self, network: Any, noise: NDArray[Any], *, steps: int, device: torch.device) -> NDArray[Any]:
        """Return images by DPM-Solver++(2M) (Lu et al. 2022), deterministic.

        Its times are even in log-SNR: on Gaussians of standard deviation 0.05 to 5, 20 steps reproduce it within 3 %,
        while the scheduler's default loses half of the smallest.

        Args:
            network: as in :meth:`compute_loss`.
            noise: standard normal, float32 ``(n, channel, y, x)``.
            steps: number of evaluations of the network.
            device: of the network.
        """
        import torch
        from diffusers import DPMSolverMultistepScheduler

        build: Any = DPMSolverMultistepScheduler
        solver = build(
            num_train_timesteps=self.timesteps, use_lu_lambdas=True, final_sigmas_type="zero", **SCHEDULER_CONFIG
        )
        with warnings.catch_warnings():
            # It calls np.array(tensor), and torch's __array__ has the signature of before NumPy 2.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning, "diffusers")
            solver.set_timesteps(steps)
        current = torch.from_numpy(noise).to(device)
        with torch.inference_mode():
            for time in solver.timesteps:
                velocity = network(current, time.to(device)).sample
                current = solver.step(velocity, time, current, return_dict=False)[0]
        images: NDArray[Any] = current.cpu().numpy()
        return images
