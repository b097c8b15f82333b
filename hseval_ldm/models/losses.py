"""Loss terms of a reconstruction. Every term is a mean over cubes of a mean over each cube's field.

Means of per-cube means can be averaged over ranks as over a batch, and pixels outside the field are excluded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hseval.generator_kit import Ranks

EPSILON = 1e-6
# Bound of the adaptive weight. Esser et al. 2021 allow 1e4; but a gradient that is small because the discriminator
# is still untrained is noise, and scaled up to the size of the others it undoes them (measured: L1 up by a quarter).
MAX_ADAPTIVE_WEIGHT = 1.0


def compute_field_mean(values: Tensor, field: Tensor) -> Tensor:
    """Return the mean over cubes of the mean of ``values`` ``(n, c, y, x)`` over ``field`` ``(n, 1, y, x)``.

    ``field`` may hold weights; a cube whose weights are all 0 counts as 0.
    """
    weight = field.to(values.dtype)
    total = (values * weight).sum(dim=(1, 2, 3))
    return (total / (weight.sum(dim=(1, 2, 3)) * values.shape[1]).clamp_min(EPSILON)).mean()


def compute_local_mean(images: Tensor, field: Tensor, size: int = 5) -> Tensor:
    """Return means over the field's pixels in a ``size`` x ``size`` window, ``(n, c, y, x)``; 0 outside the field."""
    inside = field.to(images.dtype)
    total = functional.avg_pool2d(images * inside, size, 1, size // 2)
    return total / functional.avg_pool2d(inside, size, 1, size // 2).clamp_min(EPSILON) * inside


def pixel_losses(cubes: Tensor, target: Tensor, weight: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Return two weighted L1 terms: of the residual, and of the residual less its local mean.

    The second term measures detail finer than 5 pixels. A plain L1 is dominated by smooth regions; a missing vessel of
    one or two pixels raises both terms. ``cubes`` and ``target`` are normalized ``(n, band, y, x)``; ``weight`` ``(n,
    1, y, x)`` has mean 1 over ``field`` (bool, the same shape) and is 0 outside.
    """
    residual = (cubes - target) * field
    fine = residual - compute_local_mean(residual, field)
    return compute_field_mean(residual.abs(), weight), compute_field_mean(fine.abs(), weight)


def spectral_angle(cubes: Tensor, target: Tensor) -> Tensor:
    """Return the angle between spectra, radians ``(n, 1, y, x)``, of physical cubes ``(n, band, y, x)``.

    By Kahan's formula, which is precise and has a gradient at small angles, unlike the arc cosine. A spectrum below a
    millionth of the real cube's brightest is rounding and has no direction: its angle is 0 here, with no gradient, and
    only the other terms apply.
    """
    norms = [c.norm(dim=1, keepdim=True) for c in (cubes, target)]
    min_norm = EPSILON * norms[1].amax(dim=(2, 3), keepdim=True)
    has_direction = (norms[0] > min_norm) & (norms[1] > min_norm)
    u, v = (c / torch.where(has_direction, norm, 1.0) for c, norm in zip((cubes, target), norms, strict=True))
    difference, total = ((w.square().sum(dim=1, keepdim=True) + EPSILON**2).sqrt() for w in (u - v, u + v))
    return torch.where(has_direction, 2 * torch.atan2(difference, total), 0.0)


def mask_loss(logits: Tensor, masks: Tensor, has_mask: Tensor, weight: Tensor) -> Tensor:
    """Return the binary cross-entropy of masks plus one minus their soft Dice (Milletari et al. 2016).

    ``logits`` and ``masks`` (0 or 1) are ``(n, structure, y, x)``. Masks where ``has_mask``, bool ``(n, structure)``,
    is False are excluded, and pixels where ``weight`` ``(n, 1, y, x)`` is 0.
    """
    if not masks.shape[1]:
        return logits.new_zeros(())
    is_known = has_mask.to(logits.dtype)[:, :, None, None]
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    predicted, real = ((layer * is_known) * (weight > 0) for layer in (logits.sigmoid(), masks))
    dice = (2 * (predicted * real).sum(dim=(2, 3)) + 1) / (predicted.sum(dim=(2, 3)) + real.sum(dim=(2, 3)) + 1)
    return compute_field_mean(entropy * is_known, weight) + (1 - dice).mean()


def hinge_discriminator_loss(real: Tensor, generated: Tensor, weight: Tensor) -> Tensor:
    """Return the discriminator's hinge loss (Lim and Ye 2017) of logits ``(n, 1, h, w)``, weighted by patch."""
    return 0.5 * (
        compute_field_mean(functional.relu(1 - real), weight)
        + compute_field_mean(functional.relu(1 + generated), weight)
    )


def hinge_generator_loss(generated: Tensor, weight: Tensor) -> Tensor:
    """Return the decoder's adversarial loss: minus the mean logit."""
    return -compute_field_mean(generated, weight)


def perceptual_loss(features: Sequence[Tensor], targets: Sequence[Tensor], field: Tensor) -> Tensor:
    """Return the mean over levels of the squared distance of unit feature vectors.

    After Zhang et al. 2018, without the LPIPS weights. Each level uses the pixels that lie entirely inside
    the field.
    """
    terms = []
    for level, target in zip(features, targets, strict=True):
        inside = find_inside_patches(field, level.shape[-2:])
        units = [f / (f.square().sum(dim=1, keepdim=True) + EPSILON).sqrt() for f in (level, target)]
        terms.append(compute_field_mean((units[0] - units[1]).square().sum(dim=1, keepdim=True), inside))
    return torch.stack(terms).mean()


def find_inside_patches(field: Tensor, size: Sequence[int]) -> Tensor:
    """Return float ``(n, 1, h, w)``: 1 where a cell of a grid of ``size`` lies wholly inside the field."""
    return (functional.adaptive_avg_pool2d(field.float(), (size[0], size[1])) > 1 - EPSILON).float()


def compute_adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor, ranks: Ranks) -> Tensor:
    """Return |gradient of reconstruction| / |gradient of adversarial| at the decoder's last layer.

    Esser et al. 2021, eq. 7. The gradients are averaged over ranks before their norms are taken, because a norm of
    means is not a mean of norms.
    """
    terms = (reconstruction, adversarial)
    gradients = [torch.autograd.grad(term, last_weight, retain_graph=True)[0].float() for term in terms]
    ranks.mean_(*gradients)
    ratio: Tensor = gradients[0].norm() / (gradients[1].norm() + EPSILON)
    return ratio.clamp(0, MAX_ADAPTIVE_WEIGHT).detach()
