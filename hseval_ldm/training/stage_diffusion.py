"""The third stage: the diffusion model in the space of the encoder's outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hseval.utils.random_streams import stream
from hseval_ldm.data.augmentation import flipped
from hseval_ldm.data.dataset import TrainingData
from hseval_ldm.data.epoch_order import indices
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.data.prefetch import Feed
from hseval_ldm.models.unet import Denoiser, layout
from hseval_ldm.models.vqgan import Autoencoder, Finished, padded
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import Pipeline
from hseval_ldm.sampling.schedule import Schedule, draws, loss
from hseval_ldm.training.checkpoint import load_optimizer_state, optimizer_state, pack, unpack
from hseval_ldm.training.ema import Ema
from hseval_ldm.training.evaluation import Judge
from hseval_ldm.training.meters import out_of_memory_told
from hseval_ldm.training.optimizer import adamw, rate_at, spread, take_step
from hseval_ldm.training.previews import SAMPLES, show
from hseval_ldm.utils.distributed import Ranks
from hseval_ldm.utils.precision import autocast

ENCODED = 16  # whole cubes at once
LEVELS = 16  # noise levels at which held-out latents are judged
JUDGED = 64  # held-out and training latents, at most


class DiffusionStage:
    """Trains the :class:`~hseval_ldm.models.unet.Denoiser`; see :class:`~hseval_ldm.training.stage.Stage`."""

    name = "diffusion"
    memory_knob = "ldm_batch"
    loss_knob = "ldm_lr"

    def __init__(
        self,
        options: LdmOptions,
        cache: LatentCache,
        held_out: Tensor,
        denoiser: Denoiser,
        autoencoder: Autoencoder,
        *,
        judge: Judge,
        ranks: Ranks,
        seed: int,
    ) -> None:
        self.options, self.cache, self.judge, self.ranks, self.seed = options, cache, judge, ranks, seed
        self.held_out = held_out
        self.steps, self.batch = options.ldm_steps, options.ldm_batch
        self.epoch_steps = max(1, len(cache) // options.ldm_batch)
        self.layout = layout(ranks.device)
        self.model = denoiser.to(ranks.device).to(memory_format=self.layout)
        self.network = spread(self.model, ranks, compiled=options.compile)
        self.optimizer = adamw(self.model.parameters(), ranks.device)
        self.ema = Ema(self.model, options.ema)
        self.schedule = Schedule("cosine", options.timesteps)
        self.autocast = autocast(options.precision, ranks.device)
        self.autoencoder = autoencoder.to(ranks.device).eval().requires_grad_(False)
        self.mine = ranks.share(options.ldm_batch)
        self.feed = Feed(self._rows, self.steps, workers=options.loaders)

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Do nothing."""
        return {}

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do one step; a rank's part of the batch has its part of the noise levels."""
        device, count = self.ranks.device, self.options.ldm_batch
        latents = self.feed.get(step).to(device, non_blocking=True)
        times, noise = draws(
            step, batch=count, shape=self.cache.shape, seed=self.seed, schedule=self.schedule, device=device
        )
        times, noise = times[self.mine], noise[self.mine]
        noisy, velocity = self.schedule.noised(latents, noise, times)
        with self._dropout(step), self.autocast():
            predicted = self.network(noisy.contiguous(memory_format=self.layout), times)
        term = loss(self.schedule, predicted, velocity, times, gamma=self.options.snr_gamma or None).mean()
        rate = rate_at(step, self.steps, self.options.ldm_lr)
        take_step(self.optimizer, term, list(self.model.parameters()), rate)
        self.ema.update(self.model, step)
        return {"loss": term.detach()}

    @contextlib.contextmanager
    def _dropout(self, step: int) -> Iterator[None]:
        """Let dropout, which draws from torch's own generator, draw by step and rank, so that resuming is exact."""
        self.model.train()
        if not self.options.dropout:
            yield
            return
        device = self.ranks.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(stream(self.seed, "dropout", step, self.ranks.rank).integers(2**63)))
            yield

    def _rows(self, step: int) -> Tensor:
        chosen = indices(step, batch=self.batch, count=len(self.cache), seed=self.seed, name="diffusion")
        return self.cache.batch(chosen[self.mine])

    # Held-out judgement.

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Return the averaged network's loss on held-out and on as many training latents, and its samples' scores.

        A held-out loss that rises while the other falls is a network that learns its training set by heart.
        """
        self.model.eval()
        with self.ema.applied(self.model):
            figures = {}
            if len(self.held_out):
                known = self.cache.batch(np.arange(min(len(self.held_out), len(self.cache))))
                figures = {"held_out_loss": self._judged(self.held_out), "known_loss": self._judged(known)}
            if self.options.score_cubes and self.judge.count >= 4:
                made = self._drawn(self.options.score_cubes)
                figures |= self.judge.scores(made)
        return figures

    def picture(self, step: int, out: Path) -> None:
        """Draw samples."""
        self.model.eval()
        with self.ema.applied(self.model):
            made = self._drawn(SAMPLES)
        sheet = Finished(*(torch.cat([getattr(one, name) for one in made]) for name in Finished._fields))
        show(sheet, self.judge.normalisation, [f"sample {i}" for i in range(SAMPLES)], out)

    def pipeline(self) -> Pipeline:
        """Return what samples are drawn with; the caller puts the averaged weights in place."""
        given = (self.autoencoder, self.model, self.cache.scale, self.schedule, self.options, self.ranks.device)
        return Pipeline(*given, self.autocast)

    @torch.no_grad()
    def _judged(self, latents: Tensor) -> float:
        """Return the loss averaged over fixed noise levels, each with fixed noise."""
        total = 0.0
        for level in range(LEVELS):
            times = torch.full((len(latents),), int((level + 0.5) * self.schedule.steps / LEVELS))
            drawn = stream(self.seed, "judged noise", level).standard_normal(tuple(latents.shape), dtype=np.float32)
            parts = (latents, torch.from_numpy(drawn), times)
            clean, noise, times = (part.to(self.ranks.device) for part in parts)
            noisy, velocity = self.schedule.noised(clean, noise, times)
            with self.autocast():
                predicted = self.model(noisy.contiguous(memory_format=self.layout), times)
            total += float(loss(self.schedule, predicted, velocity, times, gamma=self.options.snr_gamma or None).mean())
        return total / LEVELS

    def _drawn(self, count: int) -> list[Finished]:
        """Return samples for judging, the same numbers each time."""
        return [made for _, made in self.pipeline().cubes(range(count), seed=self.seed)]

    # What decides the future, and what sampling needs.

    def close(self) -> None:
        """End the threads that prepare batches."""
        self.feed.close()

    def state(self) -> Mapping[str, Tensor]:
        """Return weights, their average, the optimiser's moments and the latents' scale."""
        state = pack("model", self.model.state_dict())
        state |= pack("ema", self.ema.state())
        state |= pack("optimizer", optimizer_state(self.optimizer, dict(self.model.named_parameters())))
        return state | {"scale.mean": self.cache.scale.mean, "scale.deviation": self.cache.scale.deviation}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.model.load_state_dict(unpack("model", tensors))
        self.ema.load_state(unpack("ema", tensors))
        load_optimizer_state(self.optimizer, dict(self.model.named_parameters()), unpack("optimizer", tensors))


def encoded(
    autoencoder: Autoencoder,
    data: TrainingData,
    at: NDArray[np.int64],
    options: LdmOptions,
    device: torch.device,
    *,
    variant: int = 0,
) -> Tensor:
    """Return the latents ``(n, channel, h, w)`` of the cubes at ``at``, in float32; ``variant`` is a flip's number."""
    parts = []
    for part in np.split(at, range(ENCODED, len(at), ENCODED)):
        batch = flipped(data.batch(part), options.flip, np.full(len(part), variant))
        batch = padded(batch, options.compression).to(device)
        with torch.no_grad(), out_of_memory_told("diffusion, latents of whole cubes", "width"):
            latents: Tensor = autoencoder.encoder(batch.picture().contiguous(memory_format=torch.channels_last))
        parts.append(latents.float().cpu())
    return torch.cat(parts)
