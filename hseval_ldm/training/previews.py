"""Pictures during training: held-out cubes beside their reconstructions, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hseval.core.cubes import FIELD
from hseval_ldm.data.batches import whole
from hseval_ldm.data.normalization import Normalisation
from hseval_ldm.models.vqgan import Autoencoder, Finished
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.contact_sheet import grid
from hseval_ldm.training.evaluation import Autocast, Judge

PAIRS = 4
SAMPLES = 8


@torch.no_grad()
def show_reconstructions(model: Autoencoder, judge: Judge, options: LdmOptions, autocast: Autocast, out: Path) -> None:
    """Draw pairs of a held-out cube and its reconstruction."""
    count = min(PAIRS, judge.count)
    if not count:
        return
    batch = whole(judge.held_out, np.arange(count), options, judge.ranks.device)
    with autocast():
        picture = batch.picture().contiguous(memory_format=torch.channels_last)
        made = model(picture)
    height, width = judge.normalisation.size
    ours = model.finished(made.cubes[..., :height, :width], made.masks[..., :height, :width])
    real = Finished(judge.normalisation.to_physical(batch.cubes), batch.masks > 0, batch.field)
    both = ((theirs[..., :height, :width], decoded) for theirs, decoded in zip(real, ours, strict=True))
    pairs = Finished(*(torch.stack(pair, dim=1).flatten(0, 1) for pair in both))
    titles = [title for number in range(count) for title in (f"real {number}", f"decoded {number}")]
    show(pairs, judge.normalisation, titles, out)


def show(made: Finished, normalisation: Normalisation, titles: Sequence[str], out: Path) -> None:
    """Draw cubes as a contact sheet."""
    names = normalisation.structures
    masks = {name: made.masks[:, at].cpu().numpy() for at, name in enumerate(names) if name != FIELD}
    cubes, field = made.cubes.float().cpu().numpy(), made.field[:, 0].cpu().numpy()
    grid(cubes, normalisation.wavelengths, out=out, columns=titles, field=field, masks=masks)
