"""The default features: wavelet scattering of spectral windows, and statistics along the spectrum.

Deterministic, without weights or training, for any bands. docs/extractors.md lists the columns.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hseval.core.options import check_ranges, option
from hseval.data.field_of_view import (
    compute_by_bounding_box,
    compute_canvas_shape,
    compute_pooling_weights,
    erode_fov,
    fill_outside,
    find_valid_pixels,
)
from hseval.extractors.spectral_shape import (
    ENERGY_FLOOR,
    compute_correlations,
    compute_shape_features,
    fisher_z,
    log_ratio,
)
from hseval.extractors.spectral_windows import compute_window_weights
from hseval.extractors.wavelets import apply_wavelets, build_filter_bank, compute_coverage, modulus
from hseval.utils.arrays import Array, BoolArray, Float32Array
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    import torch

    from hseval.extractors.wavelets import WaveletScale

MAX_BATCH_ELEMENTS = 2**19


@dataclasses.dataclass(frozen=True)
class ScatteringOptions:
    """Options of the features, whose number depends on these and on the number of bands alone."""

    scales: int = option(4, "wavelet scales, each twice as coarse as the one before")
    orientations: int = option(4, "wavelet orientations over half a turn")
    windows: int = option(5, "spectral windows that are scattered (at most one per band)")
    nodes: int = option(16, "spectral nodes of the statistics along the spectrum (at most one per band)")

    def __post_init__(self) -> None:
        """Refuse options that define no filter bank."""
        ranges = {"scales": (1, 5), "orientations": (1, 16), "windows": (1, 64), "nodes": (1, 256)}
        check_ranges(self, ranges, owner="extractor 'scattering'")


class Scattering:
    """Texture at several scales, its relation across wavelengths, and the shape of the spectra."""

    name: ClassVar[str] = "scattering"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "wavelet scattering of spectral windows, and statistics along the spectrum"
    reads_structures: ClassVar[bool] = False
    Options = ScatteringOptions

    def __init__(self, options: ScatteringOptions | None = None) -> None:
        self.options = options or ScatteringOptions()
        self.device = "cpu"  # the core may set another torch device

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Float32Array:
        """Return float32 features ``(n, feature)``; cubes and masks as in :class:`hseval.core.protocols.Extractor`.

        The features of cube i depend on its valid pixels alone; they are NaN if it has none.
        """
        if not len(cubes):
            raise HsevalError("extractor 'scattering': expected at least 1 cube, found none")
        compute = functools.partial(self._compute_features, wavelengths)
        return compute_by_bounding_box(compute, cubes, find_valid_pixels(cubes, masks["fov"]))

    def _compute_features(self, wavelengths: Array, cubes: Float32Array, valid: BoolArray) -> Float32Array:
        """Return the features of cubes (n, band, y, x) with one bounding box, batch by batch."""
        import torch

        margin = 2 ** (self.options.scales + 1)
        canvas = compute_canvas_shape(*valid.shape[1:], margin=margin)
        step = max(1, MAX_BATCH_ELEMENTS // (canvas[0] * canvas[1] * self.options.windows))
        with torch.inference_mode():
            batches = [np.s_[i : i + step] for i in range(0, len(cubes), step)]
            return np.concatenate(
                [self._compute_batch_features(cubes[s], erode_fov(valid[s]), wavelengths, canvas) for s in batches]
            )

    def _compute_batch_features(
        self, cubes: Float32Array, valid: BoolArray, wavelengths: Array, canvas: tuple[int, int]
    ) -> Float32Array:
        import torch

        options, count, shape = self.options, len(cubes), cubes.shape[-2:]
        field = torch.from_numpy(valid).to(self.device)
        pixels = torch.from_numpy(np.ascontiguousarray(cubes)).to(self.device)
        pixels = torch.where(field[:, None], pixels, 0).flatten(start_dim=2)
        hats = compute_window_weights(wavelengths, options.nodes, shape="hat")
        smooth = compute_window_weights(wavelengths, options.windows)
        weights = torch.from_numpy(np.concatenate([hats, smooth]).astype(np.float32)).to(self.device)
        projected = (weights @ pixels).reshape(count, -1, *shape)
        size = rms(projected[:, : len(hats)], field).clamp_min(1e-30)
        nodes, windows = (projected / size[..., None, None]).tensor_split([len(hats)], dim=1)
        bank = build_filter_bank(canvas, options.scales, options.orientations, self.device)
        groups = [size.log(), *compute_shape_features(nodes, field.float())]
        spectra = torch.fft.fft2(fill_outside(windows, field, canvas=canvas))
        groups += compute_scattering_features(spectra, bank, compute_scale_weights(field, canvas, bank))
        return torch.cat([group.flatten(start_dim=1) for group in groups], dim=1).float().cpu().numpy()


def rms(values: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Return the root mean square (n, 1) of ``values`` (n, k, y, x), which are 0 outside ``field`` (n, y, x)."""
    total = field.sum(dim=(1, 2)).clamp_min(1) * values.shape[1]
    return (values.square().sum(dim=(1, 2, 3)) / total).sqrt()[:, None]


def compute_scale_weights(
    field: torch.Tensor, canvas: tuple[int, int], bank: tuple[WaveletScale, ...]
) -> list[torch.Tensor]:
    """Return each scale's pooling weights (n, y, x) on the canvas."""
    import torch

    padded = torch.zeros(len(field), *canvas, device=field.device)
    padded[:, : field.shape[1], : field.shape[2]] = field
    spectra = torch.fft.fft2(padded)
    return [compute_pooling_weights(compute_coverage(spectra, scale)) for scale in bank]


def compute_scattering_features(
    spectra: torch.Tensor, bank: tuple[WaveletScale, ...], pooling: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Return feature groups of orders 1 and 2, each ``(n, ...)``.

    Args:
        spectra: complex ``(n, window, y, x)``, of the filled windows on the canvas, relative to the cube's rms.
        bank: the wavelets, finest first.
        pooling: weights ``(n, y, x)`` of each scale.
    """
    import torch

    groups = []
    for j, (scale, weight) in enumerate(zip(bank, pooling, strict=True)):
        waves = apply_wavelets(spectra, scale)  # (n, window, orientation, y, x)
        first = modulus(waves)
        mean = pool(first, weight)
        groups += compute_first_order(waves, first, mean, weight)
        if j + 1 < len(bank):
            groups += compute_second_order(torch.fft.fft2(first), bank[j + 1 :], pooling[j + 1 :], mean)
    return groups


def pool(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return means of ``values`` (n, ..., y, x) under weights (n, y, x) that sum to 1: (n, ...)."""
    flat = values.reshape(len(values), -1, weight.shape[-2] * weight.shape[-1])
    return (flat @ weight.reshape(len(weight), -1, 1)).reshape(values.shape[:-2])


def compute_first_order(
    waves: torch.Tensor, amplitude: torch.Tensor, mean: torch.Tensor, weight: torch.Tensor
) -> list[torch.Tensor]:
    """Return log mean amplitude, sparsity, polarity, and correlations across windows, of one scale.

    Args:
        waves: complex ``(n, window, orientation, y, x)``.
        amplitude: their modulus.
        mean: its pooled mean ``(n, window, orientation)``.
        weight: ``(n, y, x)``.
    """
    import torch

    power = pool(amplitude.square(), weight) + ENERGY_FLOOR**2
    moments = compute_cross_window_moments(amplitude - mean[..., None, None], weight)
    std = moments.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt().transpose(1, 2)
    polarity = pool(waves.real * amplitude, weight).mean(dim=2) / power.mean(dim=2)
    groups = [(mean + ENERGY_FLOOR).log(), log_ratio(std, mean), polarity]
    if (windows := amplitude.shape[1]) > 1:
        upper = torch.triu_indices(windows, windows, offset=1, device=amplitude.device)
        groups += [
            fisher_z(compute_correlations(moments)[..., upper[0], upper[1]]),
            *compute_coherence(waves, power, weight),
        ]
    return groups


def compute_coherence(waves: torch.Tensor, power: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Return Fisher's z of the coherence of neighboring windows, real and imaginary, (n, window - 1, orientation).

    The imaginary part, a phase between windows, is where a shift of one band against the next shows first.
    """
    cross = pool(waves[:, :-1] * waves[:, 1:].conj(), weight.to(waves.dtype))
    scale = (power[:, :-1] * power[:, 1:]).rsqrt()
    return [fisher_z(cross.real * scale), fisher_z(cross.imag * scale)]


def compute_second_order(
    spectra: torch.Tensor, bank: tuple[WaveletScale, ...], pooling: list[torch.Tensor], mean: torch.Tensor
) -> list[torch.Tensor]:
    """Return log second-order amplitudes relative to the first order's ``mean``, (n, window, angle), by coarser scale.

    They are averaged over the first wavelet's orientation; the columns are the angle between the two wavelets.
    """
    import torch

    index = torch.arange(mean.shape[-1], device=mean.device)
    second = (index[:, None] + index) % len(index)  # orientation, by the first one and the angle between
    groups = []
    for scale, weight in zip(bank, pooling, strict=True):
        amplitude = pool(modulus(apply_wavelets(spectra, scale)), weight)  # (n, window, first, second)
        relative = log_ratio(amplitude, mean[..., None])
        groups.append(relative.gather(-1, second.expand_as(relative)).mean(dim=-2))
    return groups


def compute_cross_window_moments(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return second moments (n, orientation, window, window) of ``values`` (n, window, orientation, y, x)."""
    flat = values.transpose(1, 2).flatten(start_dim=3)
    weighted = flat * weight.flatten(start_dim=1)[:, None, None]
    return weighted @ flat.transpose(-1, -2)
