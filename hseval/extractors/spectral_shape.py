"""Statistics along the spectrum at its full resolution: levels, slopes, curvature, and how bands go together.

The images at a fixed number of spectral nodes are described by moments of their pixels and of the differences
between neighbouring pixels. Every statistic is a logarithm of a ratio or Fisher's z of a correlation, so that
rows are near Gaussian and no unit of the input survives, but in the first column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LEVEL_FLOOR = 1e-2  # a level below this share of the cube's rms counts as dark, not as a ratio
ENERGY_FLOOR = 1e-5  # deviations below this share of the cube's rms count as none
LIMIT = 0.9999  # correlations are cut here: Fisher's z stays below 5
RIDGE = 1e-4  # added to correlation matrices before they are inverted


def shape_features(nodes: torch.Tensor, valid: torch.Tensor, size: torch.Tensor) -> list[torch.Tensor]:
    """Return feature groups, each ``(n, features)``.

    Args:
        nodes: float ``(n, k, y, x)``, images at the spectral nodes; 0 outside ``valid``.
        valid: float ``(n, y, x)``, 1 where a pixel counts and 0 elsewhere.
        size: ``(n, 1)``, the cubes' rms value.
    """
    mean, centred = _centred(nodes, valid)
    fine, rows, columns = _differences(nodes, valid)
    covariance = _covariance(centred, valid.sum(dim=(1, 2)))
    level = soft_log(mean / size, LEVEL_FLOOR)
    spread, grain = _deviation(covariance), _deviation(fine)
    return [
        level,
        level.diff(dim=1),
        level.diff(dim=1, n=2),
        log_ratio(spread, size) - level,
        log_ratio(grain, spread, size),
        log_ratio(_deviation(rows), _deviation(columns), size),
        skewness(centred, valid, spread, size),
        *_along_spectrum(covariance, size),
        *_along_spectrum(fine, size),
    ]


def soft_log(ratio: torch.Tensor, floor: float) -> torch.Tensor:
    """Return log of ``ratio`` where it is well above ``floor``, flattening to a finite value below it and at 0."""
    return (0.5 * (ratio + (ratio.square() + 4 * floor**2).sqrt())).log()


def log_ratio(above: torch.Tensor, below: torch.Tensor, size: torch.Tensor | None = None) -> torch.Tensor:
    """Return log(above / below), both of them lifted by a floor relative to ``size`` (default ``below``)."""
    floor = ENERGY_FLOOR * (below if size is None else size)
    return ((above + floor) / (below + floor)).log()


def fisher(correlation: torch.Tensor) -> torch.Tensor:
    """Return Fisher's z, whose spread does not depend on the correlation."""
    return correlation.clamp(-LIMIT, LIMIT).atanh()


def skewness(
    centred: torch.Tensor, valid: torch.Tensor, spread: torch.Tensor, size: torch.Tensor
) -> torch.Tensor:
    """Return the skewness of each node's pixels, (n, k), through asinh: thin dark lines pull it down."""
    third = centred.pow(3).sum(dim=(2, 3)) / valid.sum(dim=(1, 2)).clamp_min(1)[:, None]
    return (third / (spread + ENERGY_FLOOR * size).pow(3)).asinh()


def correlations(covariance: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Return the correlation matrices of ``covariance`` (..., k, k), variances lifted by ``floor`` (broadcast)."""
    variance = covariance.diagonal(dim1=-2, dim2=-1) + floor
    scale = variance.clamp_min(1e-30).rsqrt()
    return covariance * scale[..., :, None] * scale[..., None, :]


def _along_spectrum(covariance: torch.Tensor, size: torch.Tensor) -> list[torch.Tensor]:
    """Return correlations of nodes one and two apart, and the share of each that its fellows do not explain."""
    import torch

    matrix = correlations(covariance, (ENERGY_FLOOR * size).square())
    nodes = matrix.shape[-1]
    apart = [fisher(matrix.diagonal(lag, dim1=-2, dim2=-1)) for lag in (1, 2) if lag < nodes]
    ridge = torch.eye(nodes, dtype=torch.float64, device=matrix.device) * (1 + RIDGE)
    off = matrix.double() * (1 - torch.eye(nodes, dtype=torch.float64, device=matrix.device))
    unexplained = -torch.linalg.inv(off + ridge).diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).log()
    return [*apart, unexplained.to(matrix.dtype)] if nodes > 1 else apart


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
