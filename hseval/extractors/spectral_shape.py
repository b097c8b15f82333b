"""Statistics along the spectrum at its full resolution: levels, slopes, curvature, and how bands go together.

The images at a fixed number of spectral nodes are described by moments of their pixels and of the differences
between neighbouring pixels. Every statistic is a logarithm of a ratio or Fisher's z of a correlation, so that
rows are near Gaussian and no unit of the input survives, but in the first column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LEVEL_FLOOR = 1e-3  # a level below this share of the cube's rms counts as dark, not as a ratio
ENERGY_FLOOR = 1e-5  # deviations and amplitudes below this share of the cube's rms count as none
SHRINK = 0.02  # correlations are shrunk by this share: near 1 only noise differs, and Fisher's z would see nothing else


def shape_features(nodes: torch.Tensor, valid: torch.Tensor) -> list[torch.Tensor]:
    """Return feature groups, each ``(n, features)``.

    Args:
        nodes: float ``(n, k, y, x)``, images at the spectral nodes relative to the cube's rms; 0 outside ``valid``.
        valid: float ``(n, y, x)``, 1 where a pixel counts and 0 elsewhere.
    """
    mean, centred = _centred(nodes, valid)
    covariance = _covariance(centred, valid.sum(dim=(1, 2)))
    fine, down, across = _differences(nodes, valid)
    level = soft_log(mean, LEVEL_FLOOR)
    spread = _deviation(covariance)
    return [
        level,
        level.diff(dim=1),
        level.diff(dim=1, n=2),
        (spread + ENERGY_FLOOR).log() - level,
        log_ratio(_deviation(fine), spread),
        log_ratio(_deviation(down), _deviation(across)),
        skewness(centred, valid, spread),
        *along_spectrum(correlations(covariance)),
        *neighbours(correlations(fine)),
    ]


def soft_log(level: torch.Tensor, floor: float) -> torch.Tensor:
    """Return log of ``level`` where it is well above ``floor``, flattening to finite values at 0 and below."""
    return (0.5 * (level + (level.square() + 4 * floor**2).sqrt()).clamp_min(1e-2 * floor)).log()


def log_ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Return log(above / below) of amplitudes relative to the cube's rms, both lifted by a floor."""
    return ((above + ENERGY_FLOOR) / (below + ENERGY_FLOOR)).log()


def fisher(correlation: torch.Tensor) -> torch.Tensor:
    """Return Fisher's z, whose spread does not depend on the correlation, of correlations shrunk by ``SHRINK``."""
    return (correlation.clamp(-1, 1) * (1 - SHRINK)).atanh()


def skewness(centred: torch.Tensor, valid: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    """Return the skewness of each node's pixels, (n, k), through asinh: thin dark lines pull it down."""
    third = centred.pow(3).sum(dim=(2, 3)) / valid.sum(dim=(1, 2)).clamp_min(1)[:, None]
    return (third / (spread + ENERGY_FLOOR).pow(3)).asinh()


def correlations(covariance: torch.Tensor) -> torch.Tensor:
    """Return the correlations of covariances (..., k, k) relative to the cube's rms, variances lifted by a floor."""
    scale = (covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0) + ENERGY_FLOOR**2).rsqrt()
    return covariance * scale[..., :, None] * scale[..., None, :]


def neighbours(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return Fisher's z of the correlations (n, k, k) of nodes one and two apart; none where there are too few."""
    return [fisher(matrix.diagonal(lag, dim1=-2, dim2=-1)) for lag in (1, 2) if lag < matrix.shape[-1]]


def along_spectrum(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return :func:`neighbours`, and the log of the share of each node that all others together do not explain."""
    import torch

    unit = torch.eye(matrix.shape[-1], dtype=torch.float64, device=matrix.device)
    shrunk = (1 - SHRINK) * (1 - unit) * matrix.double() + unit
    unexplained = -torch.linalg.inv(shrunk).diagonal(dim1=-2, dim2=-1).log()
    return [*neighbours(matrix), unexplained.to(matrix.dtype)]


def _centred(nodes: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = valid.sum(dim=(1, 2)).clamp_min(1)[:, None]
    mean = nodes.sum(dim=(2, 3)) / total
    return mean, (nodes - mean[:, :, None, None]) * valid[:, None]


def _covariance(values: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """Return second moments (n, k, k) of ``values`` (n, k, y, x), which are 0 where they do not count."""
    flat = values.flatten(start_dim=2)
    return flat @ flat.transpose(1, 2) / count.clamp_min(1)[:, None, None]


def _deviation(covariance: torch.Tensor) -> torch.Tensor:
    return covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def _differences(nodes: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return second moments (n, k, k) of differences between neighbours: down and across together, and each."""
    parts = []
    for axis in (-2, -1):
        size = valid.shape[axis] - 1
        pairs = valid.narrow(axis, 1, size) * valid.narrow(axis, 0, size)
        parts.append((nodes.diff(dim=axis) * pairs[:, None], pairs.sum(dim=(1, 2))))
    down, across = (_covariance(*part) for part in parts)
    return 0.5 * (down + across), down, across
