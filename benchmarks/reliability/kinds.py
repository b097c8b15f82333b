"""The kinds of input that are damaged: how a valid one is made, and what is tried on damaged copies of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.reliability import cache_inputs, checkpoint_inputs, text_inputs
from benchmarks.reliability.attempts import FAULTS, Attempt, assess, call_in_process, run_in_process
from tests.helpers.damaged_containers import SUFFIXES, find_container_problem
from tests.helpers.damaged_folders import find_folder_problem
from tests.helpers.mutations import Rng


@dataclasses.dataclass(frozen=True)
class InputKind:
    """One kind of input.

    Attributes:
        title: what it is, for people.
        make: writes a valid input to a folder; what it returns is handed to ``attempt``.
        attempt: writes a damaged copy to an empty folder, and returns what came of reading it.
    """

    title: str
    make: Callable[[Path], Any]
    attempt: Callable[[Any, Path, Rng], Attempt]


def _make_text_kind(name: str, title: str) -> InputKind:
    def attempt(valid: Mapping[str, Path], folder: Path, rng: Rng) -> Attempt:
        return text_inputs.attempt(name, valid, folder, rng)

    return InputKind(title, text_inputs.write_valid_files, attempt)


def _make_kind(title: str, find_problem: Callable[[str, Path, Rng], tuple[str, str]], name: str) -> InputKind:
    """Return a kind by a function that damages and reads an input, and returns the result and what is wrong.

    Then the command ``info`` reads the same input, because libraries may print, too; those that the function uses to
    read it independently are not counted.
    """

    def attempt(_: None, folder: Path, rng: Rng) -> Attempt:
        given = folder / "input"
        given.mkdir()
        result, problem = call_in_process(find_problem, name, given, rng)
        files = sorted(path for path in given.iterdir() if path.suffix == SUFFIXES.get(name))
        command = ["info", str(files[0] if files else given), "-q", "--json"]
        shown = assess(" ".join(command), [run_in_process(*command)], folder / "none")
        if problem:
            return Attempt(command[1], "untidy" if result == "refused" else "wrong number", problem)
        return shown if shown.result in FAULTS else Attempt(shown.command, result)

    return InputKind(title, lambda _: None, attempt)


CONTAINERS = {
    "hseval-hdf5": "hseval's HDF5", "hdf5": "other HDF5", "npz": ".npz", "npy": ".npy", "mat5": ".mat, version 5",
    "mat73": ".mat, version 7.3", "tiff": "TIFF", "envi": "ENVI",
}  # fmt: skip
KINDS: Mapping[str, InputKind] = {
    **{name: _make_kind(title, find_container_problem, name) for name, title in CONTAINERS.items()},
    "table": _make_kind("`cubes.csv`", find_folder_problem, "table"),
    "mask": _make_kind("mask pictures", find_folder_problem, "mask"),
    "wavelengths": InputKind("wavelength files", text_inputs.make_wavelengths, text_inputs.attempt_wavelengths),
    "report": _make_text_kind("report", "reports (`show`, `diff`, `qualify --report`)"),
    "qualify": _make_text_kind("qualify", "results of `qualify`"),
    "results": _make_text_kind("results", "results of `sweep`"),
    "config": _make_text_kind("config", "TOML of options (`--config`)"),
    "plan": _make_text_kind("plan", "TOML of a sweep"),
    "preset": _make_text_kind("preset", "TOML of a training preset"),
    "cache": InputKind("cache: features and hashes", cache_inputs.make_cache, cache_inputs.attempt_cache),
    "outcomes": InputKind("cache: outcomes of `qualify`", cache_inputs.make_outcomes, cache_inputs.attempt_cache),
    "parts": InputKind("chunks of an interrupted `sample`", cache_inputs.make_parts, cache_inputs.attempt_parts),
    "pca": InputKind("checkpoints of `pca`", checkpoint_inputs.make_pca, checkpoint_inputs.attempt),
    "ldm": InputKind("checkpoints of `ldm`", checkpoint_inputs.make_ldm, checkpoint_inputs.attempt),
    "run": InputKind("training runs of `ldm`", checkpoint_inputs.make_run, checkpoint_inputs.attempt),
    "network": InputKind(
        "runs of plugins' networks", checkpoint_inputs.make_network, checkpoint_inputs.attempt_network
    ),
    "encoder": InputKind("weights of `encoder`", checkpoint_inputs.make_encoder, checkpoint_inputs.attempt),
    "sweep": InputKind("folders of a `sweep`", cache_inputs.make_sweep, cache_inputs.attempt_sweep),
}
