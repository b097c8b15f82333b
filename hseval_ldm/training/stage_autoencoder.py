"""The second stage: the autoencoder, alone (VQ-VAE) or against a discriminator (VQ-GAN)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.generator_kit import (
    Ranks,
    get_optimizer_state,
    load_optimizer_state,
    pack_state,
    unpack_state,
    update_parameters,
)
from hseval.plugin import HsevalError, create_rng, fork_torch_rng
from hseval_ldm.data.batches import BatchLoader, load_whole_cubes
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Batch
from hseval_ldm.data.prefetch import Prefetcher
from hseval_ldm.models import losses
from hseval_ldm.models.discriminator import Discriminator, compute_patch_weight
from hseval_ldm.models.kmeans import kmeans
from hseval_ldm.models.perceptual import PerceptualEncoder
from hseval_ldm.models.sensor_noise import SensorNoise
from hseval_ldm.models.vqgan import Autoencoder, Reconstruction, find_valid_tokens
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.calibration import calibrate, measure_noise
from hseval_ldm.training.evaluation import HeldOutEvaluator, evaluate_reconstruction, save_reconstruction_preview
from hseval_ldm.training.optimizer import build_adamw, compute_learning_rate, wrap_network
from hseval_ldm.utils.precision import build_autocast

ENCODING_BATCH_SIZE = 32  # cubes encoded together for k-means
NOISE_CUBES = 32  # cubes from which the noise that the discriminator's generated cubes get is measured every epoch
CALIBRATION_CUBES = 256  # training cubes on which masks and noise are measured for samples


class AutoencoderStage:
    """Trains :class:`~hseval_ldm.models.vqgan.Autoencoder`; see :class:`~hseval.generator_kit.Stage`."""

    name = "autoencoder"
    memory_option = "ae_batch"
    loss_option = "ae_lr or adversarial"

    def __init__(
        self,
        options: LdmOptions,
        data: CubeDataset,
        model: Autoencoder,
        *,
        perceptual_encoder: PerceptualEncoder | None,
        evaluator: HeldOutEvaluator,
        ranks: Ranks,
        seed: int,
    ) -> None:
        self.options, self.data, self.evaluator, self.ranks, self.seed = options, data, evaluator, ranks, seed
        self.steps, self.batch_size = options.ae_steps, options.ae_batch
        self.epoch_steps = max(1, len(data) // options.ae_batch)
        self.model = model.to(ranks.device).to(memory_format=torch.channels_last)
        self.network = wrap_network(self.model, ranks, compiled=options.compile)
        self.optimizer = build_adamw(self.model.parameters(), ranks.device)
        self.perceptual_encoder = (
            None if perceptual_encoder is None else perceptual_encoder.to(ranks.device).eval().requires_grad_(False)
        )
        self.discriminator: Discriminator | None = None
        if options.model == "vqgan":
            self.discriminator = _build_discriminator(options, self.model.bands, seed=seed).to(ranks.device)
            self.discriminator_network = wrap_network(self.discriminator, ranks)
            self.discriminator_optimizer = build_adamw(self.discriminator.parameters(), ranks.device, beta1=0.5)
        # For the discriminator's generated cubes; evaluate measures the noise of samples.
        self.sensor_noise = SensorNoise.zeros(self.model.bands)
        self.discriminator_start_step = round(options.disc_start * self.steps)
        self.autocast = build_autocast(options.precision, ranks.device)
        self.batch_loader = BatchLoader(data, options, ranks, seed=seed, name="autoencoder")
        self.prefetcher = Prefetcher(self.batch_loader.load_with_weights, self.steps, workers=options.loaders)

    # Start of an epoch.

    def start_epoch(self, epoch: int) -> Mapping[str, float]:
        """Set the codebook by k-means, and measure the noise once adversarial training has started."""
        schedule = self.options.kmeans
        metrics = self._cluster_codebook(epoch) if schedule == "every" or (schedule == "first" and epoch == 0) else {}
        if self.discriminator is not None and (epoch + 1) * self.epoch_steps > self.discriminator_start_step:
            self.sensor_noise = measure_noise(self.model, self._reconstruct_training_cubes(NOISE_CUBES))
        return metrics

    def _cluster_codebook(self, epoch: int) -> dict[str, float]:
        codebook = self.model.codebook
        indices = create_rng(self.seed, "kmeans cubes").permutation(len(self.data))[: self.options.kmeans_cubes]
        part = self.ranks.get_local_range(len(indices))
        local_indices, starts = indices[part.start : part.stop], range(0, len(part), ENCODING_BATCH_SIZE)
        latents = [self._encode_tokens(local_indices[start : start + ENCODING_BATCH_SIZE]) for start in starts]
        result = kmeans(
            lambda: latents,
            codes=self.options.codes,
            initial_centers=codebook.vectors if bool(codebook.initialised) else None,
            iterations=self.options.kmeans_iterations,
            ranks=self.ranks,
            seed=int(create_rng(self.seed, "kmeans", epoch).integers(2**63)),  # never seed + epoch
        )
        codebook.set_clusters(result, tokens=float(result.counts.sum()) / len(indices) * self.batch_size)
        return {"kmeans_distortion": result.distortion}

    @torch.no_grad()
    def _encode_tokens(self, indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Return the latents inside the field of some cubes, ``(token, latent channel)``."""
        batch = load_whole_cubes(self.data, indices, self.options, self.ranks.device)
        with self.autocast():
            latents: Tensor = self.model.encoder(batch.to_network_input())
        inside = find_valid_tokens(batch.field, self.options.compression)[:, 0]
        return latents.movedim(1, -1)[inside].float()

    # One step.

    def step(self, step: int) -> Mapping[str, Tensor]:
        """Do one step of the autoencoder and, once adversarial training has started, of the discriminator."""
        cpu_batch, cpu_weight = self.prefetcher.get(step)
        batch = cpu_batch.to(self.ranks.device, non_blocking=True)
        weight = cpu_weight.to(self.ranks.device, non_blocking=True)
        tokens = find_valid_tokens(batch.field, self.options.compression)
        network_input = batch.to_network_input()
        if not step:  # k-means may be off
            with torch.no_grad(), self.autocast():
                latents = self.model.encoder(network_input)
            self.model.codebook.initialize(latents, tokens, ranks=self.ranks, step=0, seed=self.seed)
        with self.autocast():
            reconstruction = self.network(network_input)
        is_adversarial = self.discriminator is not None and step >= self.discriminator_start_step
        terms = self._compute_reconstruction_terms(reconstruction, batch, weight)
        loss = self._sum_weighted_terms(terms)
        generated = self._add_sensor_noise(reconstruction.cubes, batch.field, step) if is_adversarial else None
        if generated is not None:
            loss = loss + self._compute_adversarial_term(loss, generated, batch.field, terms)
        loss = loss + self.options.commitment * terms["commitment"]
        rate = compute_learning_rate(step, self.steps, self.options.ae_lr)
        update_parameters(self.optimizer, loss, self.model, learning_rate=rate)
        latents, indices = reconstruction.latents.detach(), reconstruction.quantized.indices
        self.model.codebook.update(latents, indices, tokens, ranks=self.ranks, step=step, seed=self.seed)
        if generated is not None:
            terms["discriminator"] = self._train_discriminator(batch.cubes, generated.detach(), batch.field)
        return {name: term.detach() for name, term in terms.items()}

    def _compute_reconstruction_terms(
        self, reconstruction: Reconstruction, batch: Batch, weight: Tensor
    ) -> dict[str, Tensor]:
        physical = self.model.normalization.to_physical
        pixels, fine = losses.pixel_losses(reconstruction.cubes, batch.cubes, weight, batch.field)
        angle = losses.spectral_angle(physical(reconstruction.cubes), physical(batch.cubes))
        mask_weight = torch.where(batch.field, weight, 1.0)
        terms = {
            "l1": pixels,
            "fine": fine,
            "angle": losses.compute_field_mean(angle, batch.field),
            "masks": losses.mask_loss(reconstruction.masks, batch.masks, batch.has_mask, mask_weight),
            "commitment": reconstruction.quantized.commitment / self.options.latent_channels,
        }
        if self.perceptual_encoder is not None:
            with self.autocast():
                features = self.perceptual_encoder(reconstruction.cubes * batch.field)
                targets = self.perceptual_encoder(batch.cubes)
            terms["perceptual"] = losses.perceptual_loss(features, targets, batch.field)
        return terms

    def _sum_weighted_terms(self, terms: Mapping[str, Tensor]) -> Tensor:
        options = self.options
        weights = {"l1": 1.0, "fine": options.fine, "angle": options.angle, "masks": options.masks}
        weights["perceptual"] = options.perceptual
        return torch.stack([weight * terms[name] for name, weight in weights.items() if name in terms]).sum()

    # The discriminator.

    def _add_sensor_noise(self, cubes: Tensor, field: Tensor, step: int) -> Tensor:
        """Return reconstructions with sensor noise, so that its absence does not identify them."""
        generator = torch.Generator(self.ranks.device)
        generator.manual_seed(int(create_rng(self.seed, "camera", step).integers(2**63)))
        shape = (self.options.ae_batch, *cubes.shape[1:])
        noise = torch.randn(shape, generator=generator, device=cubes.device)[self.batch_loader.local_slice]
        normalization = self.model.normalization
        std = self.sensor_noise.compute_std(normalization.to_physical(cubes.detach()))
        scale = torch.as_tensor(normalization.std, dtype=cubes.dtype, device=cubes.device)[:, None, None]
        return (cubes + noise * std / scale) * field

    def _compute_adversarial_term(
        self, loss: Tensor, generated: Tensor, field: Tensor, terms: dict[str, Tensor]
    ) -> Tensor:
        assert self.discriminator is not None
        self.discriminator.requires_grad_(False)
        term = losses.hinge_generator_loss(self.discriminator(generated, field), compute_patch_weight(field))
        self.discriminator.requires_grad_(True)
        weight = losses.compute_adaptive_weight(loss, term, self.model.decoder.last.weight, self.ranks)
        terms |= {"adversarial": term, "adaptive_weight": weight}
        return self.options.adversarial * weight * term

    def _train_discriminator(self, real: Tensor, generated: Tensor, field: Tensor) -> Tensor:
        assert self.discriminator is not None
        logits = self.discriminator_network(torch.cat([real, generated]), torch.cat([field, field]))
        real_logits, generated_logits = logits.chunk(2)
        loss = losses.hinge_discriminator_loss(real_logits, generated_logits, compute_patch_weight(field))
        update_parameters(self.discriminator_optimizer, loss, self.discriminator, learning_rate=self.options.disc_lr)
        return loss

    # Held-out cubes.

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Calibrate masks and noise on training cubes; return metrics and scores of held-out ones."""
        calibrate(self.model, self._reconstruct_training_cubes(CALIBRATION_CUBES))
        return evaluate_reconstruction(self.model, self.evaluator, self.options, self.autocast)

    def save_preview(self, step: int, out: Path) -> None:
        """Save held-out cubes next to their reconstructions."""
        save_reconstruction_preview(self.model, self.evaluator, self.options, self.autocast, out)

    def _reconstruct_training_cubes(self, count: int) -> Iterator[tuple[Batch, Reconstruction]]:
        """Yield the first training cubes and their reconstructions, in batches."""
        for start in range(0, min(count, len(self.data)), 16):
            indices = np.arange(start, min(start + 16, len(self.data), count))
            batch = load_whole_cubes(self.data, indices, self.options, self.ranks.device)
            with torch.no_grad(), self.autocast():
                reconstruction = self.model(batch.to_network_input())
            if not bool(reconstruction.cubes.isfinite().all()):
                raise HsevalError("a reconstruction is not finite")
            yield batch, reconstruction

    # State.

    def close(self) -> None:
        """Stop the threads that prepare batches."""
        self.prefetcher.close()

    def get_state(self) -> Mapping[str, Tensor]:
        """Return weights, codebook statistics and both optimizers' moments."""
        state = pack_state("model", self.model.state_dict())
        state |= pack_state("optimizer", get_optimizer_state(self.optimizer, self.model))
        if self.discriminator is not None:
            state |= pack_state("rival", self.discriminator.state_dict())
            moments = get_optimizer_state(self.discriminator_optimizer, self.discriminator)
            state |= pack_state("rival_optimizer", moments)
            state["camera"] = torch.from_numpy(np.stack([self.sensor_noise.offset, self.sensor_noise.slope]))
        return state

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a result of :meth:`get_state`."""
        self.model.load_state_dict(unpack_state("model", tensors))
        load_optimizer_state(self.optimizer, self.model, unpack_state("optimizer", tensors))
        if self.discriminator is not None:
            self.discriminator.load_state_dict(unpack_state("rival", tensors))
            moments = unpack_state("rival_optimizer", tensors)
            load_optimizer_state(self.discriminator_optimizer, self.discriminator, moments)
            self.sensor_noise = SensorNoise(*tensors["camera"].cpu().numpy())


def _build_discriminator(options: LdmOptions, bands: int, *, seed: int) -> Discriminator:
    with fork_torch_rng(int(create_rng(seed, "ldm discriminator weights").integers(2**63))):
        return Discriminator(bands, options.disc_width)
