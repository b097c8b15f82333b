"""Which autoencoder a diffusion model was trained with: the latents of another one mean nothing to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval_ldm.training import checkpoint

LINEAGE_FILE = "autoencoder.json"


def hash_weights(model: nn.Module) -> str:
    """Return a hash of a network's weights and buffers."""
    found, state = hashlib.sha256(), model.state_dict()
    for name in sorted(state):
        content = state[name].cpu().contiguous().flatten().view(torch.uint8).numpy()
        found.update(name.encode() + content.tobytes())
    return found.hexdigest()


def record_autoencoder(run: Path, digest: str) -> None:
    """Note that a run's diffusion model is trained with the autoencoder of this digest.

    Raises:
        HsevalError: it was begun with another one; or the note can't be written.
    """
    if checkpoint.has_checkpoint(run / "diffusion"):
        check_autoencoder(run, digest)
    else:
        (run / "diffusion").mkdir(exist_ok=True)
        write_text(run / "diffusion" / LINEAGE_FILE, json.dumps({"autoencoder": digest}) + "\n")


def check_autoencoder(run: Path, digest: str) -> None:
    """Raise HsevalError if a run's diffusion model was trained with another autoencoder than that of this digest."""
    path = run / "diffusion" / LINEAGE_FILE
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))["autoencoder"]
    except FileNotFoundError:
        return  # copied without it: nothing is known that could be wrong
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise HsevalError(f"{path}: can't be read ({error!r}); restore it, or {_format_retrain_hint(run)}") from error
    if noted != digest:
        now = checkpoint.get_path(run / "autoencoder", checkpoint.BEST)
        raise HsevalError(
            f"{run / 'diffusion'}: was trained with another autoencoder than {now} holds now; {_format_retrain_hint(run)}"
        )


def _format_retrain_hint(run: Path) -> str:
    return f"remove {run / 'diffusion'}, then hseval train-ldm --resume --stage diffusion trains it anew"
