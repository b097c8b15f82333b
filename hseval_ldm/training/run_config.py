"""RUN/config.json: what a run was started with, and what may be different when it goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hseval import __version__
from hseval.core.cubes import CubeSet
from hseval.core.options import build_options, options_to_dict
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval_ldm.options import COMMAND_OPTIONS, LdmOptions
from hseval_ldm.training.checkpoint import has_checkpoint

RUN_FORMAT = "hseval-ldm-run-1"
CONFIG_FILE = "config.json"

# What decides the shape of a stage's networks or the order of its data: fixed once the stage has a checkpoint.
FIXED_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "features": ("held_out", "flip", "crop", "features_width", "ae_batch"),
    "autoencoder": (
        "held_out", "flip", "crop", "ae_batch", "model", "compression", "latent_channels", "width", "blocks", "stem",
        "codes", "disc_width",
    ),
    "diffusion": ("held_out", "flip", "ldm_batch", "base", "multipliers", "unet_blocks", "timesteps"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A run's options, seed and normalisation, as the file holds them.

    Attributes:
        options: resolved.
        seed: of the training.
        normalization: the record of :class:`~hseval_ldm.data.normalization.Normalization`.
        held_out: ids of the cubes that were not trained on.
        data_hash: hash of the ids of the set, in order.
        location: where the set was.
    """

    options: LdmOptions
    seed: int
    normalisation: Mapping[str, Any]
    held_out: Sequence[str]
    data: str
    location: str

    def write(self, run: Path) -> None:
        """Write the file, whole or not at all."""
        record = {name: getattr(self, name) for name in ("seed", "normalisation", "held_out", "data", "location")}
        kept = {name: value for name, value in options_to_dict(self.options).items() if name not in COMMAND_OPTIONS}
        record = {"format": RUN_FORMAT, "hseval": __version__, "options": kept} | record
        write_text(run / CONFIG_FILE, json.dumps(record, indent=1) + "\n")


def read_config(run: Path) -> RunConfig:
    """Read a run's configuration.

    Raises:
        HsevalError: it is missing, damaged, or of another format.
    """
    path = run / CONFIG_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HsevalError(
            f"{run}: holds no {CONFIG_FILE}, so it is no run of ldm; hseval train-ldm makes one"
        ) from error
    except NotADirectoryError as error:
        raise HsevalError(f"{run}: is a file; expected the folder of a run, as hseval train-ldm makes it") from error
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); train again, or restore the file") from error
    if not isinstance(record, dict) or record.get("format") != RUN_FORMAT:
        raise HsevalError(f"{path}: is of no format that this version reads ({RUN_FORMAT} expected)")
    try:
        parts = {name: record[name] for name in ("seed", "normalisation", "held_out", "data", "location", "options")}
    except KeyError as error:
        raise HsevalError(f"{path}: {error.args[0]!r} is missing; train again, or restore the file") from error
    parts["options"] = build_options(_OptionsOwner, parts["options"], owner=str(path))
    return RunConfig(**parts)


class _OptionsOwner:
    Options = LdmOptions


def hash_ids(data: CubeSet) -> str:
    """Return what tells one training set from another without reading pixels."""
    return hashlib.sha256(json.dumps([data.ids, data.groups]).encode()).hexdigest()


def merge_resumed_options(
    saved: RunConfig, requested: LdmOptions, *, seed: int, data_hash: str, run: Path
) -> LdmOptions:
    """Return the options of a run that goes on: the saved ones, and those that were given anew and may change.

    Raises:
        HsevalError: a seed, a training set or an option that may not differ.
    """
    if data_hash != saved.data:
        raise HsevalError(f"{run}: was trained on another set ({saved.location}: its ids or groups differ); "
                          "--resume takes the same one")  # fmt: skip
    if seed != saved.seed:
        raise HsevalError(f"{run}: was started with --seed {saved.seed}, now {seed}; --resume takes the same one")
    before, changes = options_to_dict(saved.options), {}
    fixed = {"held_out"}.union(*(names for stage, names in FIXED_OPTIONS.items() if has_checkpoint(run / stage)))
    chosen = requested.explicit_names | (
        set(requested.preset_names) if requested.preset != saved.options.preset else set()
    )
    for name in sorted(chosen):
        value = getattr(requested, name)
        if name in fixed and value != getattr(saved.options, name):
            told = f"{name} was {getattr(saved.options, name)}, now {value}"
            raise HsevalError(f"{run}: {told}; leave it out to go on, or train into another folder")
        changes[name] = value
    return LdmOptions(**(before | changes))
