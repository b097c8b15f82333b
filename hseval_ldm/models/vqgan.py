"""The autoencoder as a whole: encoder, codebook, decoder, and what turns its output into cubes with masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.core.cubes import FOV
from hseval.utils.random_streams import create_rng
from hseval_ldm.data.normalization import Batch, Normalization
from hseval_ldm.models.autoencoder import Decoder, Encoder
from hseval_ldm.models.codebook import Codebook, Quantized
from hseval_ldm.models.sensor_noise import compute_noise_std
from hseval_ldm.models.tiling import apply_tiled
from hseval_ldm.options import LdmOptions


class Reconstruction(NamedTuple):
    """What the autoencoder gives for a picture.

    Attributes:
        latents: encoder output, ``(n, latent channel, h, w)`` float32.
        quantized: see :class:`~hseval_ldm.models.codebook.Quantized`.
        cubes: normalised, ``(n, band, y, x)`` float32.
        masks: logits, ``(n, structure, y, x)`` float32.
    """

    latents: Tensor
    quantized: Quantized
    cubes: Tensor
    masks: Tensor


class CubeBatch(NamedTuple):
    """Generated cubes, physical ``(n, band, y, x)`` and 0 outside ``field``; masks bool ``(n, structure, y, x)``."""

    cubes: Tensor
    masks: Tensor
    field: Tensor


class Autoencoder(nn.Module):
    """Pictures to latents to codes to pictures.

    Three things that are measured, not learned, are its buffers: the logit above which a mask lies, so that masks keep
    their area (weighted losses make a decoder generous with small structures); the field of view, where it is the same
    in all training cubes and need not be guessed (else nothing); and the sensor's noise
    (:mod:`hseval_ldm.models.sensor_noise`).
    """

    thresholds: Tensor
    common_field: Tensor
    noise_offset: Tensor
    noise_slope: Tensor

    def __init__(self, options: LdmOptions, normalization: Normalization) -> None:
        super().__init__()
        self.normalization = normalization
        self.bands, structures = len(normalization.mean), len(normalization.structures)
        self.compression = options.compression
        shape = {
            "channels": self.bands + structures,
            "latent": options.latent_channels,
            "width": options.width,
            "blocks": options.blocks,
            "compression": options.compression,
            "stem": options.stem,
        }
        self.encoder, self.decoder = Encoder(**shape), Decoder(**shape)
        self.codebook = Codebook(options.codes, options.latent_channels, decay=options.code_decay)
        self.register_buffer("thresholds", torch.zeros(structures))
        self.register_buffer("common_field", torch.zeros(normalization.size, dtype=torch.bool))
        self.register_buffer("noise_offset", torch.zeros(self.bands, dtype=torch.float64))
        self.register_buffer("noise_slope", torch.zeros(self.bands, dtype=torch.float64))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(latent channel, h, w)`` of a whole cube."""
        height, width = (-(-side // self.compression) for side in self.normalization.size)
        return self.codebook.vectors.shape[1], height, width

    def forward(self, network_input: Tensor) -> Reconstruction:
        """Encode, quantise and decode pictures."""
        latents = self.encoder(network_input)
        # The commitment holds all latents: those that no pixel of the field constrains would drift far from every code,
        # and the diffusion model would spend itself on them.
        quantized = self.codebook(latents)
        decoded = self.decoder(quantized.values)
        return Reconstruction(latents, quantized, decoded[:, : self.bands], decoded[:, self.bands :])

    def decode(self, latents: Tensor, *, tile: int = 0) -> tuple[Tensor, Tensor]:
        """Quantise latents and decode them, in tiles of ``tile`` latents if that is not 0; whole cubes' size.

        Returns:
            Normalised cubes ``(n, band, y, x)`` and mask logits ``(n, structure, y, x)``.
        """
        codes = self.codebook.lookup(self.codebook.find_nearest(latents))
        scale, reach = self.compression, self.decoder.receptive_radius
        decoded = apply_tiled(self.decoder, codes, tile=tile, margin=reach, scale=scale)
        height, width = self.normalization.size
        decoded = decoded[..., :height, :width]
        return decoded[:, : self.bands], decoded[:, self.bands :]

    def postprocess(self, cubes: Tensor, logits: Tensor, *, noise: Tensor | None = None) -> CubeBatch:
        """Turn what the decoder gives into cubes as a camera would: physical, noisy, black outside the field.

        Args:
            cubes: normalised ``(n, band, y, x)``.
            logits: of the masks.
            noise: standard normal of the cubes' shape, already scaled by the option ``noise``; None: none.
        """
        masks = logits > self.thresholds[:, None, None]
        field = self._select_field(masks)
        physical = self.normalization.to_physical(cubes)
        if noise is not None:
            physical = physical + self.compute_noise_std(physical) * noise
        physical = torch.where(field, self.normalization.clip(physical), 0.0)
        masks = masks & field
        names = self.normalization.structures
        if FOV in names:
            masks[:, names.index(FOV)] = field[:, 0]
        return CubeBatch(physical, masks, field)

    def _select_field(self, masks: Tensor) -> Tensor:
        """Return the field of view, bool ``(n, 1, y, x)``: the training set's, the generated one, or all."""
        names, count = self.normalization.structures, len(masks)
        if bool(self.common_field.any()):
            return self.common_field.expand(count, 1, -1, -1)
        if FOV in names:
            return masks[:, [names.index(FOV)]]
        return self.common_field.logical_not().expand(count, 1, -1, -1)

    def compute_noise_std(self, physical: Tensor) -> Tensor:
        """Return the sensor noise's standard deviation at each pixel of clean physical cubes."""
        return compute_noise_std(physical, self.noise_offset, self.noise_slope)


def build_autoencoder(options: LdmOptions, normalization: Normalization, *, seed: int = 0) -> Autoencoder:
    """Return an autoencoder whose weights depend on the seed alone; torch's own generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of all GPUs as well.
        torch.default_generator.manual_seed(int(create_rng(seed, "ldm autoencoder weights").integers(2**63)))
        return Autoencoder(options, normalization)


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """Return the batch with sides that are multiples of ``multiple``: more of what lies outside the field."""
    below, right = (-side % multiple for side in batch.cubes.shape[-2:])
    if not below and not right:
        return batch
    parts = (functional.pad(part, (0, right, 0, below)) for part in (batch.cubes, batch.masks))
    cubes, masks = parts
    field = functional.pad(batch.field.byte(), (0, right, 0, below)).bool()
    return Batch(cubes, masks, batch.has_mask, field)


def find_valid_tokens(field: Tensor, compression: int) -> Tensor:
    """Return the latents that count, bool ``(n, 1, h, w)``: those with a valid pixel under them."""
    return functional.max_pool2d(field.float(), compression) > 0
