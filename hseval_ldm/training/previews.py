"""Preview images during training: held-out cubes next to their reconstructions, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hseval.generator_kit import save_contact_sheet
from hseval.plugin import FOV, ArraySet
from hseval_ldm.data.batches import load_whole_cubes
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.vqgan import Autoencoder, CubeBatch
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.evaluation import Autocast, HeldOutEvaluator

MAX_PREVIEW_PAIRS = 4
PREVIEW_SAMPLES = 8


@torch.no_grad()
def save_reconstruction_preview(
    model: Autoencoder, evaluator: HeldOutEvaluator, options: LdmOptions, autocast: Autocast, out: Path
) -> None:
    """Save a contact sheet of pairs of a held-out cube and its reconstruction."""
    count = min(MAX_PREVIEW_PAIRS, evaluator.count)
    if not count:
        return
    batch = load_whole_cubes(evaluator.held_out, np.arange(count), options, evaluator.ranks.device)
    with autocast():
        reconstruction = model(batch.to_network_input())
    height, width = evaluator.normalization.size
    cubes, logits = (images[..., :height, :width] for images in (reconstruction.cubes, reconstruction.masks))
    decoded = model.postprocess(cubes, logits)
    real = CubeBatch(evaluator.normalization.to_physical(batch.cubes), batch.masks > 0, batch.field)
    cropped = (images[..., :height, :width] for images in real)
    pairs = CubeBatch(*(torch.stack(pair, dim=1).flatten(0, 1) for pair in zip(cropped, decoded, strict=True)))
    titles = [title for number in range(count) for title in (f"real {number}", f"decoded {number}")]
    save_cube_preview(pairs, evaluator.normalization, titles, out)


def save_cube_preview(batch: CubeBatch, normalization: Normalization, titles: Sequence[str], out: Path) -> None:
    """Save a contact sheet of cubes."""
    masks = {name: batch.masks[:, index].cpu().numpy() for index, name in enumerate(normalization.structures)}
    cubes = ArraySet(
        batch.cubes.float().cpu().numpy(),
        wavelengths=normalization.wavelengths,
        masks=masks | {FOV: batch.field[:, 0].cpu().numpy()},
        ids=titles,
        location=out.stem,
    )
    save_contact_sheet(cubes, out)
