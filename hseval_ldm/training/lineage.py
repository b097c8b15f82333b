"""Which stages belong together: stages reused from another run, and the autoencoder of a diffusion model.

One autoencoder serves diffusion models of several widths, but its latents are incompatible with any other's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import torch
from torch import nn

from hseval.generator_kit import BEST, check_training_set, read_text, sort_as_recorded
from hseval.plugin import CubeSet, HsevalError, write_text
from hseval_ldm.options import STAGE_OPTIONS, LdmOptions
from hseval_ldm.training.run_config import (
    CONFIG_FILE,
    TRAINER_NAME,
    RunConfig,
    get_checkpoints,
    hash_ids,
    read_config,
)

LINEAGE_FILE = "autoencoder.json"
FIRST_STAGE = next(iter(STAGE_OPTIONS))  # its options, trained or not, determine which cubes all stages hold out


def reuse_stages(source_run: Path, options: LdmOptions, data: CubeSet, out: Path, *, seed: int) -> None:
    """Copy the finished stages of the run ``source_run`` to the folder ``out``, unless it holds a run.

    Checkpoints are hard links where the file system has them: they are replaced, never modified.

    Raises:
        HsevalError: ``source_run`` has another seed, set or options, or an unfinished stage; or the disk is full.
    """
    is_main = int(os.environ.get("RANK", "0")) == 0  # the others wait for it when they join
    if (out / CONFIG_FILE).exists() or not is_main:
        return
    config, data = read_config(source_run), sort_as_recorded(source_run, TRAINER_NAME, data)
    finished = [stage for stage in STAGE_OPTIONS if _is_finished(source_run, stage)]
    _check_data_and_seed(config, options, hash_ids(data), seed, source_run)
    for stage in dict.fromkeys((FIRST_STAGE, *finished)):  # options of an untrained stage are free
        _check_options(config, options, STAGE_OPTIONS[stage], source_run)
    check_training_set(source_run, TRAINER_NAME, data, resume=True)
    out.mkdir(exist_ok=True)
    for stage in finished:
        get_checkpoints(source_run / stage).copy_to(out / stage)
    check_training_set(out, TRAINER_NAME, data, resume=False)
    # Written last: it makes the folder a run.
    dataclasses.replace(config, options=options, location=data.info.location).write(out)


def _check_data_and_seed(config: RunConfig, options: LdmOptions, data_hash: str, seed: int, source_run: Path) -> None:
    if config.data_hash != data_hash:
        raise HsevalError(f"{source_run}: was trained on another set ({config.location}: its ids or groups differ)")
    if config.seed != seed:
        raise HsevalError(f"{source_run}: was trained with seed {config.seed}, not {seed}")


def _check_options(config: RunConfig, options: LdmOptions, names: tuple[str, ...], source_run: Path) -> None:
    for name in names:
        was, now = getattr(config.options, name), getattr(options, name)
        if was != now:
            raise HsevalError(f"{source_run}: was trained with {name}={was}, not {now}; its stages can't be reused")


def _is_finished(source_run: Path, stage: str) -> bool:
    """Return whether the stage was trained; HsevalError if it was started but not finished."""
    checkpoints = get_checkpoints(source_run / stage)
    if not checkpoints.exist():
        return False
    if checkpoints.read_record().get("finished") is not True:
        raise HsevalError(f"{checkpoints.folder}: is not finished; finish it with hseval train-ldm --resume")
    return True


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
        recorded = json.loads(read_text(path))["autoencoder"]
    except FileNotFoundError:
        return  # the run was copied without the file: nothing to compare
    except (OSError, ValueError, LookupError, RecursionError, TypeError) as error:
        raise HsevalError(f"{path}: can't be read ({error!r}); restore it, or {_format_retrain_hint(run)}") from error
    if recorded != digest:
        current = get_checkpoints(run / "autoencoder").get_path(BEST)
        mismatch = f"{run / 'diffusion'}: was trained with another autoencoder than that in {current}"
        raise HsevalError(f"{mismatch}; {_format_retrain_hint(run)}")


def _format_retrain_hint(run: Path) -> str:
    return f"remove {run / 'diffusion'}, then train it again with hseval train-ldm --resume --stage diffusion"
