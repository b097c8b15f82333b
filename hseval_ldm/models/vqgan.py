"""The autoencoder as a whole: encoder, codebook, decoder, and what turns its output into cubes with masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.core.cubes import FIELD
from hseval.utils.random_streams import stream
from hseval_ldm.data.normalization import Batch, Normalisation
from hseval_ldm.models.autoencoder import Decoder, Encoder
from hseval_ldm.models.codebook import Codebook, Quantised
from hseval_ldm.models.sensor_noise import deviation_at
from hseval_ldm.models.tiling import tiled
from hseval_ldm.options import LdmOptions


class Reconstruction(NamedTuple):
    """What the autoencoder gives for a picture.

    Attributes:
        latents: encoder output, ``(n, latent channel, h, w)`` float32.
        quantised: see :class:`~hseval_ldm.models.codebook.Quantised`.
        cubes: normalised, ``(n, band, y, x)`` float32.
        masks: logits, ``(n, structure, y, x)`` float32.
    """

    latents: Tensor
    quantised: Quantised
    cubes: Tensor
    masks: Tensor


class Finished(NamedTuple):
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

    def __init__(self, options: LdmOptions, normalisation: Normalisation) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.bands, structures = len(normalisation.mean), len(normalisation.structures)
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
        self.register_buffer("common_field", torch.zeros(normalisation.size, dtype=torch.bool))
        self.register_buffer("noise_offset", torch.zeros(self.bands, dtype=torch.float64))
        self.register_buffer("noise_slope", torch.zeros(self.bands, dtype=torch.float64))

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(latent channel, h, w)`` of a whole cube."""
        height, width = (-(-side // self.compression) for side in self.normalisation.size)
        return self.codebook.vectors.shape[1], height, width

    def forward(self, picture: Tensor) -> Reconstruction:
        """Encode, quantise and decode pictures."""
        latents = self.encoder(picture)
        # The commitment holds all latents: those that no pixel of the field constrains would drift far from every code,
        # and the diffusion model would spend itself on them.
        quantised = self.codebook(latents)
        decoded = self.decoder(quantised.values)
        return Reconstruction(latents, quantised, decoded[:, : self.bands], decoded[:, self.bands :])

    def decode(self, latents: Tensor, *, tile: int = 0) -> tuple[Tensor, Tensor]:
        """Quantise latents and decode them, in tiles of ``tile`` latents if that is not 0; whole cubes' size.

        Returns:
            Normalised cubes ``(n, band, y, x)`` and mask logits ``(n, structure, y, x)``.
        """
        codes = self.codebook.lookup(self.codebook.nearest(latents))
        scale, reach = self.compression, self.decoder.reach
        decoded = tiled(self.decoder, codes, tile=tile, reach=reach, scale=scale)
        height, width = self.normalisation.size
        decoded = decoded[..., :height, :width]
        return decoded[:, : self.bands], decoded[:, self.bands :]

    def finished(self, cubes: Tensor, logits: Tensor, *, noise: Tensor | None = None) -> Finished:
        """Turn what the decoder gives into cubes as a camera would: physical, noisy, black outside the field.

        Args:
            cubes: normalised ``(n, band, y, x)``.
            logits: of the masks.
            noise: standard normal of the cubes' shape, already scaled by the option ``noise``; None: none.
        """
        masks = logits > self.thresholds[:, None, None]
        field = self._field_of(masks)
        physical = self.normalisation.to_physical(cubes)
        if noise is not None:
            physical = physical + self.noise_deviation(physical) * noise
        physical = torch.where(field, self.normalisation.clipped(physical), 0.0)
        masks = masks & field
        names = self.normalisation.structures
        if FIELD in names:
            masks[:, names.index(FIELD)] = field[:, 0]
        return Finished(physical, masks, field)

    def _field_of(self, masks: Tensor) -> Tensor:
        """Return the field of view, bool ``(n, 1, y, x)``: the training set's, the generated one, or all."""
        names, count = self.normalisation.structures, len(masks)
        if bool(self.common_field.any()):
            return self.common_field.expand(count, 1, -1, -1)
        if FIELD in names:
            return masks[:, [names.index(FIELD)]]
        return self.common_field.logical_not().expand(count, 1, -1, -1)

    def noise_deviation(self, physical: Tensor) -> Tensor:
        """Return the sensor noise's standard deviation at each pixel of clean physical cubes."""
        return deviation_at(physical, self.noise_offset, self.noise_slope)


def build_autoencoder(options: LdmOptions, normalisation: Normalisation, *, seed: int = 0) -> Autoencoder:
    """Return an autoencoder whose weights depend on the seed alone; torch's own generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of all GPUs as well.
        torch.default_generator.manual_seed(int(stream(seed, "ldm autoencoder weights").integers(2**63)))
        return Autoencoder(options, normalisation)


def padded(batch: Batch, multiple: int) -> Batch:
    """Return the batch with sides that are multiples of ``multiple``: more of what lies outside the field."""
    below, right = (-side % multiple for side in batch.cubes.shape[-2:])
    if not below and not right:
        return batch
    parts = (functional.pad(part, (0, right, 0, below)) for part in (batch.cubes, batch.masks))
    cubes, masks = parts
    field = functional.pad(batch.field.byte(), (0, right, 0, below)).bool()
    return Batch(cubes, masks, batch.known, field)


def tokens_of(field: Tensor, compression: int) -> Tensor:
    """Return the latents that count, bool ``(n, 1, h, w)``: those with a valid pixel under them."""
    return functional.max_pool2d(field.float(), compression) > 0
