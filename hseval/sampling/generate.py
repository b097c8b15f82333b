"""Cubes drawn from a generator, with all that decides them and that their file says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hseval import __version__
from hseval.core.hookspecs import Sample
from hseval.core.options import options_to_dict
from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_checkpoint_hashes


def load_generator(
    generator: Any, checkpoint: Path | None, device: str | None, *, is_device_required: bool = True
) -> None:
    """Load a generator on a device.

    Args:
        generator: built with its options.
        checkpoint: the folder that its fit left; None where there is nothing to fit.
        device: ``"cpu"``, ``"cuda"`` ...; None: the generator's own choice.
        is_device_required: a device that the generator does not use is refused.

    Raises:
        HsevalError: a device is demanded and the generator does not use it; or what ``load`` raises.
    """
    told = f"--device {device}: generator {generator.name!r} does not choose a device to sample on"
    taken = select_accepted_arguments(generator.load, device=device)
    if is_device_required and device is not None and not taken:
        raise HsevalError(told)
    generator.load(checkpoint, **taken)
    if is_device_required and device is not None and not hasattr(generator, "device"):
        raise HsevalError(told)


def collect_metadata(generator: Any, seed: int) -> dict[str, Any]:
    """Return what the file says of all cubes, as SetWriter takes it."""
    with get_plugins().wrap_errors("generator", generator.name):
        return {
            "wavelengths": generator.wavelengths,
            "units": getattr(generator, "units", None),
            "provenance": _collect_provenance(generator, seed),
        }


def collect_inputs(metadata: Mapping[str, Any], file_hashes: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what decides the cubes and all that the file says of them, as JSON can hold it."""
    centres = metadata["wavelengths"]
    return {
        **metadata["provenance"],
        "distribution": get_plugins().get_origin("generator", metadata["provenance"]["generator"]),
        "wavelengths": None if centres is None else np.asarray(centres, dtype=np.float64).tolist(),
        "units": metadata["units"],
        "checkpoint": dict(file_hashes),
    }


def hash_checkpoint(checkpoint: Path | None) -> dict[str, str | None]:
    """Return the hashes of a checkpoint's files; taken before they are read, so that a swap in between is found."""
    return {} if checkpoint is None else compute_checkpoint_hashes(checkpoint)


def generate_samples(generator: Any, count: int, seed: int, **start: int) -> Iterator[Sample]:
    """Yield what the generator draws; what it raises, or yields that is no sample, is told as its own."""
    with get_plugins().wrap_errors("generator", generator.name):
        for cube, masks, name in generator.sample(count, seed=seed, **start):
            yield Sample(np.asarray(cube), {key: np.asarray(mask) for key, mask in masks.items()}, name)


def _collect_provenance(generator: Any, seed: int) -> dict[str, Any]:
    return {
        "generator": generator.name,
        "generator_version": generator.version,
        "options": options_to_dict(getattr(generator, "options", None)),
        "seed": seed,
        "hseval": __version__,
    }
