"""Samples of a generator, with the inputs that determine them and the metadata of their file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.capabilities import get_device, get_units
from hseval.core.options import get_option_values
from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
from hseval.core.protocols import Sample
from hseval.utils.disk_reserve import check_free_space
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_checkpoint_hashes
from hseval.utils.version import __version__


def load_generator(
    generator: Any, checkpoint: Path | None, device: str | None, *, is_device_required: bool = True
) -> None:
    """Load a generator on a device.

    Args:
        generator: built with its options.
        checkpoint: the folder of its fit; None where there is nothing to fit.
        device: ``"cpu"``, ``"cuda"`` ...; None: the generator's own choice.
        is_device_required: refuse a device that the generator does not use.

    Raises:
        HsevalError: a device is required and the generator does not use it; or what ``load`` raises.
    """
    refusal = f"--device {device}: generator {generator.name!r} does not choose a device to sample on"
    accepted = select_accepted_arguments(generator.load, device=device)
    if is_device_required and device is not None and not accepted:
        raise HsevalError(refusal)
    generator.load(checkpoint, **accepted)
    if is_device_required and device is not None and get_device(generator) is None:
        raise HsevalError(refusal)


def collect_metadata(generator: Any, seed: int) -> dict[str, Any]:
    """Return the metadata of the file, as SetWriter takes it."""
    with get_plugins().wrap_errors("generator", generator.name):
        return {
            "wavelengths": generator.wavelengths,
            "units": get_units(generator),
            "provenance": _collect_provenance(generator, seed),
        }


def collect_inputs(metadata: Mapping[str, Any], file_hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return all that determines the cubes and their file, as values that JSON can store."""
    wavelengths = metadata["wavelengths"]
    return {
        **metadata["provenance"],
        "distribution": get_plugins().get_origin("generator", metadata["provenance"]["generator"]),
        "wavelengths": None if wavelengths is None else np.asarray(wavelengths, dtype=np.float64).tolist(),
        "units": metadata["units"],
        "checkpoint": dict(file_hashes),
    }


def hash_checkpoint(checkpoint: Path | None) -> dict[str, str]:
    """Return the hashes of a checkpoint's files; take them before reading, so that a swap in between is detected."""
    return {} if checkpoint is None else compute_checkpoint_hashes(checkpoint)


def generate_samples(generator: Any, count: int, seed: int, **start: int) -> Iterator[Sample]:
    """Yield samples of the generator; its errors, and invalid samples, are reported under its name."""
    with get_plugins().wrap_errors("generator", generator.name):
        for cube, masks, name in generator.sample(count, seed=seed, **start):
            yield Sample(np.asarray(cube), {key: np.asarray(mask) for key, mask in masks.items()}, name)


def check_space_for_samples(samples: Iterator[Sample], out: Path, count: int, *, stored: int = 0) -> Iterator[Sample]:
    """Yield samples, after a check that all of them fit on the disk, made with the first of them.

    Args:
        samples: those that follow the stored ones.
        out: file of the set.
        count: number of cubes of the whole set.
        stored: number of cubes that are stored as chunks: these and the new ones are written to ``out`` once more.

    Raises:
        HsevalError: there is too little space; the message says how much is needed and how much is free.
    """
    for number, sample in enumerate(samples):
        if not number:
            size = 4 * sample.cube.size + sum(mask.size for mask in sample.masks.values())
            check_free_space(out, size * (count - stored + (count if stored else 0)))
        yield sample


def _collect_provenance(generator: Any, seed: int) -> dict[str, Any]:
    return {
        "generator": generator.name,
        "generator_version": generator.version,
        "options": get_option_values(generator),
        "seed": seed,
        "hseval": __version__,
    }
