"""The second stage: the autoencoder, alone (VQ-VAE) or against a discriminator (VQ-GAN)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import stream
from hseval_ldm.data.batches import Batches, whole
from hseval_ldm.data.dataset import TrainingData
from hseval_ldm.data.normalization import Batch
from hseval_ldm.data.prefetch import Feed
from hseval_ldm.models import losses
from hseval_ldm.models.discriminator import Discriminator, patch_weight
from hseval_ldm.models.kmeans import kmeans
from hseval_ldm.models.perceptual import Features
from hseval_ldm.models.sensor_noise import Noise
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction, tokens_of
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.calibration import calibrate, measured_noise
from hseval_ldm.training.checkpoint import load_optimizer_state, optimizer_state, pack, unpack
from hseval_ldm.training.evaluation import Judge, judged_reconstruction
from hseval_ldm.training.optimizer import adamw, rate_at, spread, take_step
from hseval_ldm.training.previews import show_reconstructions
from hseval_ldm.utils.distributed import Ranks
from hseval_ldm.utils.precision import autocast

ENCODED = 32  # cubes encoded at once for k-means
NOISE_CUBES = 32  # reconstructed at an epoch's start to measure the noise that the discriminator's fakes get
CALIBRATED = 256  # training cubes on which masks and noise are measured for samples


class AutoencoderStage:
    """Trains :class:`~hseval_ldm.models.vqgan.Autoencoder`; see :class:`~hseval_ldm.training.stage.Stage`."""

    name = "autoencoder"
    memory_knob = "ae_batch"
    loss_knob = "ae_lr or adversarial"

    def __init__(
        self,
        options: LdmOptions,
        data: TrainingData,
        model: Autoencoder,
        *,
        features: Features | None,
        judge: Judge,
        ranks: Ranks,
        seed: int,
    ) -> None:
        self.options, self.data, self.judge, self.ranks, self.seed = options, data, judge, ranks, seed
        self.steps, self.batch = options.ae_steps, options.ae_batch
        self.epoch_steps = max(1, len(data) // options.ae_batch)
        self.model = model.to(ranks.device).to(memory_format=torch.channels_last)
        self.network = spread(self.model, ranks, compiled=options.compile)
        self.optimizer = adamw(self.model.parameters(), ranks.device)
        self.features = None if features is None else features.to(ranks.device).eval().requires_grad_(False)
        self.rival: Discriminator | None = None
        if options.model == "vqgan":
            self.rival = _build_discriminator(options, self.model.bands, seed=seed).to(ranks.device)
            self.rival_network = spread(self.rival, ranks)
            self.rival_optimizer = adamw(self.rival.parameters(), ranks.device, beta=0.5)
        self.camera = Noise.none(self.model.bands)  # of the fakes; what samples get is measured by evaluate alone
        self.rival_from = round(options.disc_start * self.steps)
        self.autocast = autocast(options.precision, ranks.device)
        self.batches = Batches(data, options, ranks, seed=seed, name="autoencoder")
        self.feed = Feed(self.batches.weighted, self.steps, workers=options.loaders)

    # What an epoch starts with.

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Set the codebook by k-means, and measure the noise once the discriminator has joined."""
        when = self.options.kmeans
        figures = self._cluster(epoch) if when == "every" or (when == "first" and epoch == 0) else {}
        if self.rival is not None and (epoch + 1) * self.epoch_steps > self.rival_from:
            self.camera = measured_noise(self.model, self._reconstructed(NOISE_CUBES))
        return figures

    def _cluster(self, epoch: int) -> dict[str, float]:
        book = self.model.codebook
        chosen = stream(self.seed, "kmeans cubes").permutation(len(self.data))[: self.options.kmeans_cubes]
        mine = [chosen[place] for place in self.ranks.block(len(chosen))]
        latents = [self._tokens(np.array(mine[at : at + ENCODED])) for at in range(0, len(mine), ENCODED)]
        start = book.vectors if bool(book.initialised) else None
        found = kmeans(
            lambda: latents,
            codes=self.options.codes,
            start=start,
            iterations=self.options.kmeans_iterations,
            ranks=self.ranks,
            seed=int(stream(self.seed, "kmeans", epoch).integers(2**63)),  # never seed + epoch
        )
        book.set(found, tokens=float(found.counts.sum()) / len(chosen) * self.batch)
        return {"kmeans_distortion": found.distortion}

    @torch.no_grad()
    def _tokens(self, at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Return the latents of some cubes that lie in the field, ``(token, latent channel)``."""
        batch = whole(self.data, at, self.options, self.ranks.device)
        with self.autocast():
            latents: Tensor = self.model.encoder(_laid_out(batch.picture()))
        inside = tokens_of(batch.field, self.options.compression)[:, 0]
        return latents.movedim(1, -1)[inside].float()

    # One step.

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do one step of the autoencoder and, once it has joined, of the discriminator."""
        cpu_batch, cpu_weight = self.feed.get(step)
        batch = cpu_batch.to(self.ranks.device, non_blocking=True)
        weight = cpu_weight.to(self.ranks.device, non_blocking=True)
        tokens = tokens_of(batch.field, self.options.compression)
        picture = _laid_out(batch.picture())
        if not step:
            self._begin(picture, tokens)
        with self.autocast():
            made = self.network(picture)
        against = self.rival is not None and step >= self.rival_from
        terms = self._reconstruction(made, batch, weight)
        loss = self._weighted(terms)
        fake = self._camera(made.cubes, batch.field, step) if against else None
        if fake is not None:
            loss = loss + self._adversarial(loss, fake, batch.field, terms)
        loss = loss + self.options.commitment * terms["commitment"]
        rate = rate_at(step, self.steps, self.options.ae_lr)
        take_step(self.optimizer, loss, list(self.model.parameters()), rate)
        latents, indices = made.latents.detach(), made.quantised.indices
        self.model.codebook.update(latents, indices, tokens, ranks=self.ranks, step=step, seed=self.seed)
        if fake is not None:
            terms["discriminator"] = self._train_rival(batch.cubes, fake.detach(), batch.field)
        return {name: term.detach() for name, term in terms.items()}

    def _begin(self, picture: Tensor, tokens: Tensor) -> None:
        """Fill a codebook that k-means does not set."""
        with torch.no_grad(), self.autocast():
            latents = self.model.encoder(picture)
        self.model.codebook.begin(latents, tokens, ranks=self.ranks, step=0, seed=self.seed)

    def _reconstruction(self, made: Reconstruction, batch: Batch, weight: Tensor) -> dict[str, Tensor]:
        physical = self.model.normalisation.to_physical
        pixels, fine = losses.pixel_terms(made.cubes, batch.cubes, weight, batch.field)
        angle = losses.spectral_angle(physical(made.cubes), physical(batch.cubes))
        commitment = made.quantised.commitment / self.options.latent_channels
        terms = {
            "l1": pixels,
            "fine": fine,
            "angle": losses.field_mean(angle, batch.field),
            "masks": losses.mask_term(made.masks, batch.masks, batch.known, torch.where(batch.field, weight, 1.0)),
            "commitment": commitment,
        }
        if self.features is not None:
            with self.autocast():
                ours, theirs = self.features(made.cubes * batch.field), self.features(batch.cubes)
            terms["perceptual"] = losses.feature_term(ours, theirs, batch.field)
        return terms

    def _weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        given = self.options
        weights = {"l1": 1.0, "fine": given.fine, "angle": given.angle, "masks": given.masks}
        weights["perceptual"] = given.perceptual
        return torch.stack([weight * terms[name] for name, weight in weights.items() if name in terms]).sum()

    # The discriminator.

    def _camera(self, cubes: Tensor, field: Tensor, step: int) -> Tensor:
        """Return reconstructions with the sensor's noise, so that noise is not what gives them away."""
        share, batch = self.batches.mine, self.options.ae_batch
        generator = torch.Generator(self.ranks.device)
        generator.manual_seed(int(stream(self.seed, "camera", step).integers(2**63)))
        drawn = torch.randn((batch, *cubes.shape[1:]), generator=generator, device=cubes.device)[share]
        normalisation = self.model.normalisation
        deviation = self.camera.deviation(normalisation.to_physical(cubes.detach()))
        scale = torch.as_tensor(normalisation.deviation, dtype=cubes.dtype, device=cubes.device)[:, None, None]
        return (cubes + drawn * deviation / scale) * field

    def _adversarial(self, loss: Tensor, fake: Tensor, field: Tensor, terms: dict[str, Tensor]) -> Tensor:
        assert self.rival is not None
        self.rival.requires_grad_(False)
        term = losses.hinge_generator(self.rival(fake, field), patch_weight(field))
        self.rival.requires_grad_(True)
        weight = losses.adaptive_weight(loss, term, self.model.decoder.last.weight, self.ranks)
        terms |= {"adversarial": term, "adaptive_weight": weight}
        return self.options.adversarial * weight * term

    def _train_rival(self, real: Tensor, fake: Tensor, field: Tensor) -> Tensor:
        assert self.rival is not None
        logits = self.rival_network(torch.cat([real, fake]), torch.cat([field, field]))
        real_logits, fake_logits = logits.chunk(2)
        loss = losses.hinge_discriminator(real_logits, fake_logits, patch_weight(field))
        take_step(self.rival_optimizer, loss, list(self.rival.parameters()), self.options.disc_lr)
        return loss

    # Held-out cubes.

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Calibrate masks and noise on training cubes; return figures and scores of held-out ones."""
        calibrate(self.model, self._reconstructed(CALIBRATED))
        return judged_reconstruction(self.model, self.judge, self.options, self.autocast)

    def picture(self, step: int, out: Path) -> None:
        """Draw held-out cubes beside their reconstructions."""
        show_reconstructions(self.model, self.judge, self.options, self.autocast, out)

    def _reconstructed(self, count: int) -> Iterator[tuple[Batch, Reconstruction]]:
        """Yield the first training cubes, a few at a time, as they are and as they are decoded."""
        for at in range(0, min(count, len(self.data)), 16):
            places = np.arange(at, min(at + 16, len(self.data), count))
            batch = whole(self.data, places, self.options, self.ranks.device)
            with torch.no_grad(), self.autocast():
                made = self.model(_laid_out(batch.picture()))
            if not bool(made.cubes.isfinite().all()):
                raise HsevalError("a reconstruction is not finite")
            yield batch, made

    # What decides the future.

    def close(self) -> None:
        """End the threads that prepare batches."""
        self.feed.close()

    def state(self) -> Mapping[str, Tensor]:
        """Return weights, codebook statistics and both optimisers' moments."""
        state = pack("model", self.model.state_dict())
        state |= pack("optimizer", optimizer_state(self.optimizer, dict(self.model.named_parameters())))
        if self.rival is not None:
            state |= pack("rival", self.rival.state_dict())
            moments = optimizer_state(self.rival_optimizer, dict(self.rival.named_parameters()))
            state |= pack("rival_optimizer", moments)
            state["camera"] = torch.from_numpy(np.stack([self.camera.offset, self.camera.slope]))
        return state

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self.model.load_state_dict(unpack("model", tensors))
        load_optimizer_state(self.optimizer, dict(self.model.named_parameters()), unpack("optimizer", tensors))
        if self.rival is not None:
            self.rival.load_state_dict(unpack("rival", tensors))
            names = dict(self.rival.named_parameters())
            load_optimizer_state(self.rival_optimizer, names, unpack("rival_optimizer", tensors))
            self.camera = Noise(*tensors["camera"].cpu().numpy())


def _build_discriminator(options: LdmOptions, bands: int, *, seed: int) -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(stream(seed, "ldm discriminator weights").integers(2**63)))
        return Discriminator(bands, options.disc_width)


def _laid_out(picture: Tensor) -> Tensor:
    """Return the tensor with channels last in memory, which is what convolutions are fastest on."""
    return picture.contiguous(memory_format=torch.channels_last)
