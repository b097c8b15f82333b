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
from hseval.core.options import as_dict, build_options
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval_ldm.options import ONE_COMMAND, LdmOptions
from hseval_ldm.training.checkpoint import exists

FORMAT = "hseval-ldm-run-1"
FILE = "config.json"

# What decides the shape of a stage's networks or the order of its data: fixed once the stage has a checkpoint.
FIXED: Mapping[str, tuple[str, ...]] = {
    "features": ("held_out", "flip", "crop", "features_width", "ae_batch"),
    "autoencoder": (
        "held_out", "flip", "crop", "ae_batch", "model", "compression", "latent_channels", "width", "blocks", "stem",
        "codes", "disc_width",
    ),
    "diffusion": ("held_out", "flip", "ldm_batch", "base", "multipliers", "unet_blocks", "timesteps"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """A run's options, seed and normalisation, as the file holds them.

    Attributes:
        options: resolved.
        seed: of the training.
        normalisation: the record of :class:`~hseval_ldm.data.normalization.Normalisation`.
        held_out: ids of the cubes that were not trained on.
        data: hash of the ids of the set, in order.
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
        kept = {name: value for name, value in as_dict(self.options).items() if name not in ONE_COMMAND}
        record = {"format": FORMAT, "hseval": __version__, "options": kept} | record
        write_text(run / FILE, json.dumps(record, indent=1) + "\n")


def read_config(run: Path) -> Config:
    """Read a run's configuration.

    Raises:
        HsevalError: it is missing, damaged, or of another format.
    """
    path = run / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise HsevalError(f"{run}: holds no {FILE}, so it is no run of ldm; hseval train-ldm makes one") from error
    except NotADirectoryError as error:
        raise HsevalError(f"{run}: is a file; expected the folder of a run, as hseval train-ldm makes it") from error
    except (OSError, ValueError) as error:
        raise HsevalError(f"{path}: can't be read ({error}); train again, or restore the file") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise HsevalError(f"{path}: is of no format that this version reads ({FORMAT} expected)")
    try:
        parts = {name: record[name] for name in ("seed", "normalisation", "held_out", "data", "location", "options")}
    except KeyError as error:
        raise HsevalError(f"{path}: {error.args[0]!r} is missing; train again, or restore the file") from error
    parts["options"] = build_options(_Declared, parts["options"], owner=str(path))
    return Config(**parts)


class _Declared:
    Options = LdmOptions


def hash_of_ids(data: CubeSet) -> str:
    """Return what tells one training set from another without reading pixels."""
    return hashlib.sha256(json.dumps([data.ids, data.groups]).encode()).hexdigest()


def going_on(saved: Config, given: LdmOptions, *, seed: int, data: str, run: Path) -> LdmOptions:
    """Return the options of a run that goes on: the saved ones, and those that were given anew and may change.

    Raises:
        HsevalError: a seed, a training set or an option that may not differ.
    """
    if data != saved.data:
        raise HsevalError(f"{run}: was trained on another set ({saved.location}: its ids or groups differ); "
                          "--resume takes the same one")  # fmt: skip
    if seed != saved.seed:
        raise HsevalError(f"{run}: was started with --seed {saved.seed}, now {seed}; --resume takes the same one")
    before, changes = as_dict(saved.options), {}
    fixed = {"held_out"}.union(*(names for stage, names in FIXED.items() if exists(run / stage)))
    chosen = given.given | (set(given.of_preset) if given.preset != saved.options.preset else set())
    for name in sorted(chosen):
        value = getattr(given, name)
        if name in fixed and value != getattr(saved.options, name):
            told = f"{name} was {getattr(saved.options, name)}, now {value}"
            raise HsevalError(f"{run}: {told}; leave it out to go on, or train into another folder")
        changes[name] = value
    return LdmOptions(**(before | changes))
