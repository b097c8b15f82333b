"""The complete autoencoder: encoder, codebook, decoder, and the conversion of its output to cubes with masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from hseval.plugin import FOV, create_rng, fork_torch_rng
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.autoencoder import Decoder, Encoder, apply_tiled
from hseval_ldm.models.codebook import Codebook, Quantized
from hseval_ldm.models.sensor_noise import compute_noise_std
from hseval_ldm.options import LdmOptions


class Reconstruction(NamedTuple):
    """The autoencoder's output for a batch of images.

    Attributes:
        latents: encoder output, ``(n, latent channel, h, w)`` float32.
        quantized: see :class:`~hseval_ldm.models.codebook.Quantized`.
        cubes: normalized, ``(n, band, y, x)`` float32.
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


def join_cubes(batches: Sequence[CubeBatch]) -> CubeBatch:
    """Return several batches as one."""
    return CubeBatch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


class Autoencoder(nn.Module):
    """A VQ-GAN of images: bands, and masks as further channels.

    Its buffers are measured, not learned: the threshold of each mask's logits that preserves the area of the masks
    (weighted losses make a decoder overestimate small structures); the field of view, if it is the same in all training
    cubes (else all False); and the sensor's noise (:mod:`hseval_ldm.models.sensor_noise`).
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
        """Encode, quantize and decode images."""
        latents = self.encoder(network_input)
        # The commitment loss covers all latents: those outside the field would drift far from every code, and the
        # diffusion model would spend its capacity on them.
        quantized = self.codebook(latents)
        decoded = self.decoder(quantized.values)
        return Reconstruction(latents, quantized, decoded[:, : self.bands], decoded[:, self.bands :])

    def decode(self, latents: Tensor, *, tile: int = 0) -> tuple[Tensor, Tensor]:
        """Quantize latents and decode them to whole cubes, in tiles of ``tile`` latents if that is not 0.

        Returns:
            Normalized cubes ``(n, band, y, x)`` and mask logits ``(n, structure, y, x)``.
        """
        codes = self.codebook.lookup(self.codebook.find_nearest(latents))
        margin = self.decoder.receptive_radius
        decoded = apply_tiled(self.decoder, codes, tile=tile, margin=margin, scale=self.compression)
        height, width = self.normalization.size
        decoded = decoded[..., :height, :width]
        return decoded[:, : self.bands], decoded[:, self.bands :]

    def postprocess(self, cubes: Tensor, logits: Tensor, *, noise: Tensor | None = None) -> CubeBatch:
        """Convert the decoder's output to cubes like a sensor's: physical, noisy, 0 outside the field.

        ``cubes`` are normalized ``(n, band, y, x)``; ``noise`` is standard normal of their shape, scaled by the option
        ``noise``; None: no noise.
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
    """Return an autoencoder whose weights depend on the seed alone; torch's own generator is unchanged."""
    with fork_torch_rng(int(create_rng(seed, "ldm autoencoder weights").integers(2**63))):
        return Autoencoder(options, normalization)


def find_valid_tokens(field: Tensor, compression: int) -> Tensor:
    """Return the valid latents, bool ``(n, 1, h, w)``: those that cover a valid pixel."""
    return functional.max_pool2d(field.float(), compression) > 0
