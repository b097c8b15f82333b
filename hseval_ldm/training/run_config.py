"""RUN/config.json: the settings of a run, and the checks of those that may not change when it is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hseval import __version__
from hseval.generator_kit import StageCheckpoints, convert_record, load_json
from hseval.plugin import CubeSet, HsevalError, build_options, options_to_dict, write_text
from hseval_ldm.options import COMMAND_OPTIONS, LdmOptions

RUN_FORMAT, RUN_FORMAT_WITHOUT_HASH = "hseval-ldm-run-2", "hseval-ldm-run-1"
CONFIG_FILE = "config.json"
TRAINER_NAME = "ldm"  # in the name of the file that records the training set

# The options that determine a stage's networks or the order of its data: fixed once the stage has a checkpoint.
FIXED_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "features": ("held_out", "flip", "crop", "features_width", "ae_batch"),
    "autoencoder": (
        "held_out", "flip", "crop", "ae_batch", "model", "compression", "latent_channels", "width", "blocks", "stem",
        "codes", "disc_width",
    ),
    "diffusion": ("held_out", "flip", "ldm_batch", "base", "multipliers", "unet_blocks", "timesteps"),
}  # fmt: skip


def get_checkpoints(folder: Path) -> StageCheckpoints:
    """Return the checkpoints in the folder of a stage."""
    return StageCheckpoints(folder, "hseval-ldm-checkpoint-1", create_hint="create it with hseval train-ldm")


# Attributes of RunConfig and their keys in the file, which stay so that earlier runs can be read.
RECORD_KEYS: Mapping[str, str] = {
    "seed": "seed", "normalization": "normalisation", "held_out": "held_out", "data_hash": "data",
    "location": "location",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The content of the file.

    Attributes:
        options: all, with preset and defaults resolved.
        seed: of the training.
        normalization: the record of :class:`~hseval_ldm.data.normalization.Normalization`.
        held_out: ids of the cubes that were not trained on.
        data_hash: hash of the ids of the set, in order.
        location: of the set when the run was started.
    """

    options: LdmOptions
    seed: int
    normalization: Mapping[str, Any]
    held_out: Sequence[str]
    data_hash: str
    location: str

    def write(self, run: Path) -> None:
        """Write the file atomically."""
        options = {name: value for name, value in options_to_dict(self.options).items() if name not in COMMAND_OPTIONS}
        record = {"format": RUN_FORMAT, "hseval": __version__, "options": options}
        record |= {key: getattr(self, name) for name, key in RECORD_KEYS.items()}
        record = json.loads(json.dumps(record))  # as it comes back from the file
        write_text(run / CONFIG_FILE, json.dumps({**record, "sha256": _hash_record(record)}, indent=1) + "\n")


def read_config(run: Path) -> RunConfig:
    """Read a run's configuration.

    Raises:
        HsevalError: it is missing, damaged, or of another format.
    """
    path, hint = run / CONFIG_FILE, "train again, or restore the file"
    if run.is_file():
        raise HsevalError(f"{run}: is a file; expected the folder of a run of hseval train-ldm")
    if not path.exists():
        raise HsevalError(f"{run}: holds no {CONFIG_FILE}, so it is not a run of ldm; create one with hseval train-ldm")
    record = load_json(path, "the configuration of a run of ldm")
    if not isinstance(record, dict) or record.get("format") not in (RUN_FORMAT, RUN_FORMAT_WITHOUT_HASH):
        raise HsevalError(f"{path}: its format is not supported; expected {RUN_FORMAT}; {hint}")
    if record["format"] == RUN_FORMAT and record.pop("sha256", None) != _hash_record(record):
        raise HsevalError(f"{path}: changed since it was written (its sha256 differs); {hint}")
    named = {name: record[key] for name, key in {**RECORD_KEYS, "options": "options"}.items() if key in record}
    fields = dataclasses.asdict(convert_record(named, _ConfigRecord, path))
    return RunConfig(build_options(_OptionsOwner, fields.pop("options"), owner=str(path)), **fields)


def _hash_record(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class _ConfigRecord:
    """The types of what :class:`RunConfig` gets from the file."""

    options: dict[str, Any]
    seed: int
    normalization: dict[str, Any]
    held_out: list[str]
    data_hash: str
    location: str


class _OptionsOwner:
    Options = LdmOptions


def hash_ids(data: CubeSet) -> str:
    """Return a hash that identifies a training set without reading pixels."""
    return hashlib.sha256(json.dumps([list(data.ids), data.groups]).encode()).hexdigest()


def merge_resumed_options(
    saved: RunConfig, requested: LdmOptions, *, seed: int, data_hash: str, run: Path
) -> LdmOptions:
    """Return the options of a resumed run: the saved ones, updated by the explicit ones that may change.

    Raises:
        HsevalError: the seed, the training set or a fixed option differs.
    """
    if data_hash != saved.data_hash:
        mismatch = f"was trained on another set ({saved.location}: its ids or groups differ)"
        raise HsevalError(f"{run}: {mismatch}; --resume requires the same set")
    if seed != saved.seed:
        raise HsevalError(f"{run}: was started with --seed {saved.seed}, not {seed}; --resume requires the same seed")
    stored, changes = options_to_dict(saved.options), {}
    started = [names for stage, names in FIXED_OPTIONS.items() if get_checkpoints(run / stage).exist()]
    fixed = {"held_out"}.union(*started)
    is_new_preset = requested.preset != saved.options.preset
    names = requested.explicit_names | (set(requested.preset_names) if is_new_preset else set())
    for name in sorted(names):
        value = getattr(requested, name)
        if name in fixed and value != getattr(saved.options, name):
            mismatch = f"was started with {name}={getattr(saved.options, name)}, not {value}"
            raise HsevalError(f"{run}: {mismatch}; omit {name} to resume, or train into another folder")
        changes[name] = value
    return LdmOptions(**(stored | changes))
