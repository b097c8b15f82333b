"""The features of a fitted network: moments of its prediction residuals, by wavelength.

The residuals are described, not the network's inner features: on phantom eyes with small faults the latter were nearly
insensitive, and their number drowned the response of the residuals (docs/extractors.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hseval.data.field_of_view import compute_pooling_weights
from hseval.extractors.encoder.network import LATTICES, PHASES, Lattice, Network, build_hidden_mask
from hseval.extractors.encoder.preprocessing import EncoderInput

SUPPORT = 5  # px around a pixel that have to be valid, nearly all of them, for it to count fully
AMPLITUDE_FLOOR = 1e-2  # amplitudes below this count as none (residuals: in units of the fit's own)
GRADIENT_FLOOR = 1e-4  # in standard deviations of a node: residuals and slopes below this have no direction
SHRINKAGE = 0.02  # correlations are shrunk by this share before Fisher's z


def compute_features(network: Network, inputs: EncoderInput, covered_nodes: Tensor) -> Tensor:
    """Return float32 features ``(n, feature)``: level, then each lattice's residuals, then displacement.

    Args:
        network: fitted.
        inputs: node images and field.
        covered_nodes: bool ``(node,)``, nodes that the cubes' bands cover; columns of others are 0.
    """
    weight = compute_pixel_weights(inputs.field)
    groups = list(compute_mean_and_log_std(inputs.images, weight))
    residuals = [compute_residuals(network, inputs.images, covered_nodes, lattice) for lattice in LATTICES]
    for residual, rms in zip(residuals, network.residual_rms, strict=True):
        groups += compute_residual_moments(residual / rms[:, None, None], weight)
    # Only of predictions between nodes: there a displaced band has the residual of a displaced image.
    groups += compute_displacement_correlations(residuals[0], inputs.images - residuals[0], weight)
    column_masks = [
        covered_nodes if group.shape[1] == len(covered_nodes) else covered_nodes[1:] & covered_nodes[:-1]
        for group in groups
    ]
    return torch.cat([torch.where(mask, group, 0) for mask, group in zip(column_masks, groups, strict=True)], dim=1)


def compute_pixel_weights(field: Tensor) -> Tensor:
    """Return weights ``(n, y, x)``, summing to 1, of the pixels of fields ``(n, y, x)``: less near the rim."""
    share = functional.avg_pool2d(field[:, None].float(), SUPPORT, stride=1, padding=SUPPORT // 2)[:, 0]
    return compute_pooling_weights(torch.where(field, share, 0))


def compute_residuals(network: Network, images: Tensor, covered_nodes: Tensor, lattice: Lattice) -> Tensor:
    """Return images less their predictions ``(n, node, y, x)``, each value predicted while a lattice hides it."""
    nodes, shape = images.shape[1], (images.shape[2], images.shape[3])
    residual = torch.zeros_like(images)
    for phase in range(PHASES):
        hidden = build_hidden_mask(lattice, phase, nodes, shape).to(images.device)
        visible = (~hidden & covered_nodes[:, None, None]).to(images.dtype).expand_as(images)
        residual = torch.where(hidden, images - network(images, visible), residual)
    return residual


def compute_mean_and_log_std(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log standard deviation ``(n, node)`` of values ``(n, node, y, x)``, weighted by ``(n, y, x)``."""
    mean = (values * weight[:, None]).sum(dim=(2, 3))
    centered = values - mean[..., None, None]
    power = (centered.square() * weight[:, None]).sum(dim=(2, 3))
    return mean, 0.5 * (power + AMPLITUDE_FLOOR**2).log()


def compute_residual_moments(residual: Tensor, weight: Tensor) -> list[Tensor]:
    """Return by node mean and log standard deviation of residuals, and correlations down, across and along the nodes.

    Args:
        residual: ``(n, node, y, x)``, in units of the residual rms on the fit's cubes.
        weight: ``(n, y, x)``, summing to 1.
    """
    mean, log_std = compute_mean_and_log_std(residual, weight)
    unit = (residual - mean[..., None, None]) * (-log_std).exp()[..., None, None]
    groups = [mean.asinh(), log_std]
    for axis in (-2, -1):
        size = residual.shape[axis] - 1
        pair = (weight.narrow(axis, 0, size) * weight.narrow(axis, 1, size)).sqrt()[:, None]
        product = unit.narrow(axis, 0, size) * unit.narrow(axis, 1, size)
        groups.append(fisher_z((product * pair).sum(dim=(2, 3)) / pair.sum(dim=(2, 3)).clamp_min(1e-12)))
    along = (unit[:, 1:] * unit[:, :-1] * weight[:, None]).sum(dim=(2, 3))
    return [*groups, fisher_z(along)]


def compute_displacement_correlations(residual: Tensor, predicted: Tensor, weight: Tensor) -> list[Tensor]:
    """Return by node the correlation of residuals with the slope of the prediction, down and across.

    A band displaced by d leaves a residual of -d times the slope (the first term of Taylor's series).

    Args:
        residual: ``(n, node, y, x)``.
        predicted: the same shape.
        weight: ``(n, y, x)``, summing to 1.
    """
    groups = []
    for axis in (-2, -1):
        size = residual.shape[axis] - 2
        inner = weight.narrow(axis, 1, size)
        inner = (inner / inner.sum(dim=(1, 2), keepdim=True).clamp_min(1e-12))[:, None]
        slope = 0.5 * (predicted.narrow(axis, 2, size) - predicted.narrow(axis, 0, size))
        core = residual.narrow(axis, 1, size)
        powers = [(image.square() * inner).sum(dim=(2, 3)) + GRADIENT_FLOOR**2 for image in (core, slope)]
        groups.append(fisher_z((core * slope * inner).sum(dim=(2, 3)) * (powers[0] * powers[1]).rsqrt()))
    return groups


def fisher_z(correlation: Tensor) -> Tensor:
    """Return Fisher's z of correlations shrunk by ``SHRINKAGE``."""
    return (correlation.clamp(-1, 1) * (1 - SHRINKAGE)).atanh()
