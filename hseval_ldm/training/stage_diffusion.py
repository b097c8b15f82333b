"""The third stage: the diffusion model of the encoder's latents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.generator_kit import Ema, NetworkStage, Ranks, explain_out_of_memory
from hseval.plugin import create_rng, fork_torch_rng
from hseval_ldm.data.augmentation import apply_flips
from hseval_ldm.data.batches import draw_batch_indices
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.data.normalization import pad_batch
from hseval_ldm.data.prefetch import Prefetcher
from hseval_ldm.models.unet import Denoiser, select_memory_format
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch, join_cubes
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import Pipeline
from hseval_ldm.sampling.schedule import NoiseSchedule, draw_times_and_noise, velocity_loss
from hseval_ldm.training.evaluation import PREVIEW_SAMPLES, HeldOutEvaluator, save_cube_preview
from hseval_ldm.training.optimizer import build_adamw, compute_learning_rate, wrap_network
from hseval_ldm.utils.precision import build_autocast

ENCODING_BATCH_SIZE = 16  # whole cubes encoded together
EVALUATION_NOISE_LEVELS = 16  # noise levels at which held-out latents are evaluated
MAX_HELD_OUT_LATENTS = 64  # held-out latents, and as many training latents, in an evaluation at most


class DiffusionStage(NetworkStage):
    """Trains the :class:`~hseval_ldm.models.unet.Denoiser`."""

    model: Denoiser
    ema: Ema

    def __init__(
        self,
        options: LdmOptions,
        cache: LatentCache,
        held_out_latents: Tensor,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        *,
        evaluator: HeldOutEvaluator,
        ranks: Ranks,
        seed: int,
    ) -> None:
        self.options, self.cache, self.evaluator, self.ranks, self.seed = options, cache, evaluator, ranks, seed
        self.held_out_latents = held_out_latents
        self.memory_format = select_memory_format(ranks.device)
        model = denoiser.to(ranks.device).to(memory_format=self.memory_format)
        self.network = wrap_network(model, ranks, compiled=options.compile)
        super().__init__(
            "diffusion",
            model,
            build_adamw(model.parameters(), ranks.device),
            self._compute_step_loss,
            steps=options.ldm_steps,
            batch_size=options.ldm_batch,
            epoch_steps=max(1, len(cache) // options.ldm_batch),
            learning_rate=lambda step: compute_learning_rate(step, options.ldm_steps, options.ldm_lr),
            ema=Ema(model, options.ema),
            loss_option="ldm_lr",
            memory_option="ldm_batch",
        )
        self.schedule = NoiseSchedule(options.timesteps)
        self.autocast = build_autocast(options.precision, ranks.device)
        self.autoencoder = autoencoder.to(ranks.device).eval().requires_grad_(False)
        self.local_slice = ranks.get_local_slice(options.ldm_batch)
        self.prefetcher = Prefetcher(self._load_latents, self.steps, workers=options.loaders)

    def _compute_step_loss(self, step: int) -> Tensor:
        """Return the loss of a step; each rank uses its part of the batch and of the noise levels."""
        device, count = self.ranks.device, self.options.ldm_batch
        latents = self.prefetcher.get(step).to(device, non_blocking=True)
        times, noise = draw_times_and_noise(
            step, batch_size=count, shape=self.cache.shape, seed=self.seed, schedule=self.schedule, device=device
        )
        times, noise = times[self.local_slice], noise[self.local_slice]
        noisy, velocity = self.schedule.add_noise(latents, noise, times)
        with self._seed_dropout(step), self.autocast():
            predicted = self.network(noisy.contiguous(memory_format=self.memory_format), times)
        return velocity_loss(self.schedule, predicted, velocity, times, gamma=self.options.snr_gamma).mean()

    @contextlib.contextmanager
    def _seed_dropout(self, step: int) -> Iterator[None]:
        """Seed torch's own generator, which dropout uses, by step and rank, so that resuming is exact."""
        self.model.train()
        if not self.options.dropout:
            yield
            return
        seed = int(create_rng(self.seed, "dropout", step, self.ranks.rank).integers(2**63))
        with fork_torch_rng(seed, self.ranks.device):
            yield

    def _load_latents(self, step: int) -> Tensor:
        count, size = len(self.cache), self.batch_size
        indices = draw_batch_indices(step, batch_size=size, count=count, seed=self.seed, name=self.name)
        return self.cache.load_batch(indices[self.local_slice])

    # Evaluation.

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return the averaged network's loss on held-out and on as many training latents, and its samples' scores.

        A held-out loss that rises while the training loss falls indicates memorization of the training set.
        """
        self.model.eval()
        with self.ema.apply_averages(self.model):
            metrics = {}
            if len(self.held_out_latents):
                training_latents = self.cache.load_batch(np.arange(min(len(self.held_out_latents), len(self.cache))))
                metrics = {
                    "held_out_loss": self._compute_loss(self.held_out_latents),
                    "known_loss": self._compute_loss(training_latents),
                }
            if self.options.score_cubes and self.evaluator.count >= 4:
                metrics |= self.evaluator.compute_scores(self._generate_samples(self.options.score_cubes))
        return metrics

    def save_preview(self, step: int, out: Path) -> None:
        """Save a contact sheet of samples."""
        self.model.eval()
        with self.ema.apply_averages(self.model):
            samples = self._generate_samples(PREVIEW_SAMPLES)
        titles = [f"sample {index}" for index in range(PREVIEW_SAMPLES)]
        save_cube_preview(join_cubes(samples), self.evaluator.normalization, titles, out)

    def build_pipeline(self) -> Pipeline:
        """Return the sampling pipeline; the caller applies the averaged weights."""
        networks = (self.autoencoder, self.model, self.cache.scaler, self.schedule)
        return Pipeline(*networks, self.options, self.ranks.device, self.autocast)

    @torch.no_grad()
    def _compute_loss(self, latents: Tensor) -> float:
        """Return the loss averaged over fixed noise levels, each with fixed noise."""
        total = 0.0
        for level in range(EVALUATION_NOISE_LEVELS):
            times = torch.full((len(latents),), int((level + 0.5) * self.schedule.steps / EVALUATION_NOISE_LEVELS))
            rng = create_rng(self.seed, "judged noise", level)
            cpu_noise = torch.from_numpy(rng.standard_normal(tuple(latents.shape), dtype=np.float32))
            clean, noise, times = (tensor.to(self.ranks.device) for tensor in (latents, cpu_noise, times))
            noisy, velocity = self.schedule.add_noise(clean, noise, times)
            with self.autocast():
                predicted = self.model(noisy.contiguous(memory_format=self.memory_format), times)
            losses = velocity_loss(self.schedule, predicted, velocity, times, gamma=self.options.snr_gamma)
            total += float(losses.mean())
        return total / EVALUATION_NOISE_LEVELS

    def _generate_samples(self, count: int) -> list[CubeBatch]:
        """Return samples from the same noise at every call."""
        return [cube for _, cube in self.build_pipeline().generate_cubes(range(count), seed=self.seed)]

    # State, including what sampling needs.

    def close(self) -> None:
        """Stop the threads that prepare batches."""
        self.prefetcher.close()

    def get_state(self) -> Mapping[str, Tensor]:
        """Return weights, their average, the optimizer's moments and the scale of the latents."""
        scaler = self.cache.scaler
        return {**super().get_state(), "scale.mean": scaler.mean, "scale.deviation": scaler.std}


def encode_cubes(
    autoencoder: Autoencoder,
    data: CubeDataset,
    indices: NDArray[np.int64],
    options: LdmOptions,
    device: torch.device,
    *,
    variant: int = 0,
) -> Tensor:
    """Return the latents ``(n, channel, h, w)`` of the cubes at ``indices``, float32; ``variant`` numbers the flips."""
    batches = []
    for batch_indices in np.split(indices, range(ENCODING_BATCH_SIZE, len(indices), ENCODING_BATCH_SIZE)):
        choices = np.full(len(batch_indices), variant)
        batch = apply_flips(data.load_batch(batch_indices), options.flip, choices)
        batch = pad_batch(batch, options.compression).to(device)
        with torch.no_grad(), explain_out_of_memory("diffusion, latents of whole cubes", "width"):
            latents: Tensor = autoencoder.encoder(batch.to_network_input())
        batches.append(latents.float().cpu())
    return torch.cat(batches)
