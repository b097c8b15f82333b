"""The autoencoder that a diffusion model was trained with: its latents are incompatible with any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn

from hseval.generator_kit import BEST
from hseval.plugin import HsevalError, write_text
from hseval_ldm.training.checkpoints import get_checkpoints

LINEAGE_FILE = "autoencoder.json"


def hash_weights(model: nn.Module) -> str:
    """Return a hash of a network's weights and buffers."""
    digest, state = hashlib.sha256(), model.state_dict()
    for name in sorted(state):
        content = state[name].cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(name.encode() + content.tobytes())
    return digest.hexdigest()


def record_autoencoder(run: Path, digest: str) -> None:
    """Record that a run's diffusion model is trained with the autoencoder of this digest.

    Raises:
        HsevalError: its training started with another one; or the record can't be written.
    """
    if get_checkpoints(run / "diffusion").exist():
        check_autoencoder(run, digest)
    else:
        (run / "diffusion").mkdir(exist_ok=True)
        write_text(run / "diffusion" / LINEAGE_FILE, json.dumps({"autoencoder": digest}) + "\n")


def check_autoencoder(run: Path, digest: str) -> None:
    """Raise HsevalError if a run's diffusion model was trained with another autoencoder than that of this digest."""
    path = run / "diffusion" / LINEAGE_FILE
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["autoencoder"]
    except FileNotFoundError:
        return  # the run was copied without the file: nothing to compare
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise HsevalError(f"{path}: can't be read ({error!r}); restore it, or {_format_retrain_hint(run)}") from error
    if recorded != digest:
        current = get_checkpoints(run / "autoencoder").get_path(BEST)
        mismatch = f"{run / 'diffusion'}: was trained with another autoencoder than that in {current}"
        raise HsevalError(f"{mismatch}; {_format_retrain_hint(run)}")


def _format_retrain_hint(run: Path) -> str:
    return f"remove {run / 'diffusion'}, then train it again with hseval train-ldm --resume --stage diffusion"
