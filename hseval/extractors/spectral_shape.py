"""Statistics along the spectrum at its full resolution: levels, slopes, curvature, and correlations of bands.

The images at a fixed number of spectral nodes are described by moments of their pixels and of the differences
between neighboring pixels. Every statistic is a logarithm of a ratio or Fisher's z of a correlation, so that
features are nearly Gaussian and, but for the first column, independent of the input's unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LEVEL_FLOOR = 1e-3  # a level below this share of the cube's rms counts as dark, not as a ratio
ENERGY_FLOOR = 1e-5  # standard deviations and amplitudes below this share of the cube's rms count as none
SHRINKAGE = 0.02  # of correlations: near 1 they differ by noise alone, which Fisher's z would magnify


def compute_shape_features(nodes: torch.Tensor, valid: torch.Tensor) -> list[torch.Tensor]:
    """Return feature groups, each ``(n, features)``.

    Args:
        nodes: float ``(n, k, y, x)``, images at the spectral nodes relative to the cube's rms; 0 outside ``valid``.
        valid: float ``(n, y, x)``, 1 where a pixel counts and 0 elsewhere.
    """
    mean, centered = _center(nodes, valid)
    covariance = _compute_second_moments(centered, valid.sum(dim=(1, 2)))
    fine, down, across = _compute_difference_moments(nodes, valid)
    level = soft_log(mean, LEVEL_FLOOR)
    std = _compute_std(covariance)
    return [
        level,
        level.diff(dim=1),
        level.diff(dim=1, n=2),
        (std + ENERGY_FLOOR).log() - level,
        log_ratio(_compute_std(fine), std),
        log_ratio(_compute_std(down), _compute_std(across)),
        skewness(centered, valid, std),
        *compute_spectrum_correlations(compute_correlations(covariance)),
        *compute_neighbor_correlations(compute_correlations(fine)),
    ]


def soft_log(level: torch.Tensor, floor: float) -> torch.Tensor:
    """Return log of ``level`` where it is well above ``floor``, flattening to finite values at 0 and below."""
    return (0.5 * (level + (level.square() + 4 * floor**2).sqrt()).clamp_min(1e-2 * floor)).log()


def log_ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Return log(numerator / denominator) of amplitudes relative to the cube's rms, both lifted by a floor."""
    return ((numerator + ENERGY_FLOOR) / (denominator + ENERGY_FLOOR)).log()


def fisher_z(correlation: torch.Tensor) -> torch.Tensor:
    """Return Fisher's z, which stabilizes the variance, of correlations shrunk by ``SHRINKAGE``."""
    return (correlation.clamp(-1, 1) * (1 - SHRINKAGE)).atanh()


def skewness(centered: torch.Tensor, valid: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return the skewness of each node's pixels, (n, k), through asinh: thin dark lines pull it down."""
    third = centered.pow(3).sum(dim=(2, 3)) / valid.sum(dim=(1, 2)).clamp_min(1)[:, None]
    return (third / (std + ENERGY_FLOOR).pow(3)).asinh()


def compute_correlations(covariance: torch.Tensor) -> torch.Tensor:
    """Return the correlations of covariances (..., k, k) relative to the cube's rms, variances lifted by a floor."""
    scale = (covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0) + ENERGY_FLOOR**2).rsqrt()
    return covariance * scale[..., :, None] * scale[..., None, :]


def compute_neighbor_correlations(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return Fisher's z of the correlations (n, k, k) of nodes at lags 1 and 2, as far as there are enough nodes."""
    return [fisher_z(matrix.diagonal(lag, dim1=-2, dim2=-1)) for lag in (1, 2) if lag < matrix.shape[-1]]


def compute_spectrum_correlations(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return :func:`compute_neighbor_correlations`, and the log of each node's variance unexplained by all others."""
    import torch

    unit = torch.eye(matrix.shape[-1], dtype=torch.float64, device=matrix.device)
    shrunk = (1 - SHRINKAGE) * (1 - unit) * matrix.double() + unit
    unexplained = -torch.linalg.inv(shrunk).diagonal(dim1=-2, dim2=-1).log()
    return [*compute_neighbor_correlations(matrix), unexplained.to(matrix.dtype)]


def _center(nodes: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = valid.sum(dim=(1, 2)).clamp_min(1)[:, None]
    mean = nodes.sum(dim=(2, 3)) / total
    return mean, (nodes - mean[:, :, None, None]) * valid[:, None]


def _compute_second_moments(values: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return second moments (n, k, k) of ``values`` (n, k, y, x), which are 0 at pixels that do not count."""
    flat = values.flatten(start_dim=2)
    return flat @ flat.transpose(1, 2) / count.clamp_min(1)[:, None, None]


def _compute_std(covariance: torch.Tensor) -> torch.Tensor:
    return covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def _compute_difference_moments(
    nodes: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return second moments (n, k, k) of differences between neighbors: of both directions, down, and across."""
    differences = []
    for axis in (-2, -1):
        size = valid.shape[axis] - 1
        pairs = valid.narrow(axis, 1, size) * valid.narrow(axis, 0, size)
        differences.append((nodes.diff(dim=axis) * pairs[:, None], pairs.sum(dim=(1, 2))))
    down, across = (_compute_second_moments(*difference) for difference in differences)
    return 0.5 * (down + across), down, across
