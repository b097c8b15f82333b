"""The contract of readers."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet, SetInfo
from hseval.testing.contract import Contract, ContractError
from hseval.utils.errors import format_error

UNCLAIMED_NAME = "notes.surely-not-a-cube"


def check_reader(reader: Any, path: str | Path) -> None:
    """Check a reader's class (or an instance) on ``path``, a file or folder that it can open.

    Checked: its name, summary and ``claims``; what the headers tell agrees with the pixels; cubes are float32
    with bool masks; ids are unique, wavelengths ascend; the set travels to another process; and a file that was
    cut in half is refused with one line.

    Raises:
        ContractError: what was found, and what the contract asks.
    """
    contract = Contract("reader", reader)
    contract.check_attributes()
    built = contract.build(reader)
    contract.get_method(built, "claims", "claims(self, path) -> bool")
    opening = contract.get_method(built, "open", "open(self, path, *, layout=None, wavelengths=None) -> CubeSet")
    contract.check_keyword_only(opening, ("layout", "wavelengths"))
    path = Path(path)
    contract.require(path.exists(), f"there is no {str(path)!r} to check it on; write a small file in the test first")
    _check_claims(contract, built, path)
    cubes = built.open(path)
    _check_headers(contract, cubes)
    for index in {0, len(cubes) - 1}:
        _check_cube(contract, cubes, index)
    _check_pickling(contract, cubes)
    if path.is_file():
        _check_truncated_file(contract, built, path)


def _check_claims(contract: Contract, reader: Any, path: Path) -> None:
    contract.require(reader.claims(path) is True, f"claims({path.name!r}) is not True, though it is to open it")
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / UNCLAIMED_NAME
        try:
            claimed = reader.claims(other)
        except Exception as error:
            raise ContractError(
                f"{contract.subject}: claims raises {format_error(error)} at a path that does not exist; it is asked about "
                "every path of every command, so it says False to what it can't look at"
            ) from error
        contract.require(claimed is False, f"does not say False to a path that does not exist ({UNCLAIMED_NAME!r})")
        other.write_text("nothing that any reader knows\n")
        contract.require(reader.claims(other) is False, f"claims {UNCLAIMED_NAME!r}, a line of text; look at its bytes")


def _check_headers(contract: Contract, cubes: Any) -> None:
    require = contract.require
    require(isinstance(cubes, CubeSet), f"open returns {type(cubes).__name__}; expected a subclass of hseval.CubeSet")
    require(
        isinstance(getattr(cubes, "info", None), SetInfo),
        "its set has no info; a CubeSet sets self.info = hseval.core.cubes.SetInfo(location, ids, wavelengths)",
    )
    info, count = cubes.info, len(cubes)
    require(count > 0, "opens an empty set; raise hseval.HsevalError where there are no cubes")
    require(len(set(info.ids)) == count, "its ids are not unique; reports name cubes by them")
    require(all(isinstance(name, str) for name in info.ids), "its ids are no str")
    centres = np.asarray(info.wavelengths)
    bands = cubes.shape(0)[0]
    require(
        centres.dtype == np.float64 and centres.shape == (bands,),
        f"its wavelengths are {centres.dtype} {centres.shape} for {bands} bands; expected float64 (band,)",
    )
    require((np.diff(centres) > 0).all(), "its wavelengths do not ascend; sort them together with the bands")
    require(list(info.structures) == sorted(set(info.structures)), "its structures are not sorted, or named twice")
    for what, values in {"groups": info.groups, **info.labels}.items():
        require(values is None or len(values) == count, f"{what!r} does not have one entry a cube ({count})")
    recipes = {(cubes.sources(index), cubes.recipe(index)) for index in range(count)}
    require(
        len(recipes) == count or not cubes.sources(0),
        "two cubes share sources and recipe; recipe(i) says which cube of a file it is, or the cache mixes them up",
    )
    missing = [source for index in range(count) for source in cubes.sources(index) if not Path(source).is_file()]
    require(not missing, f"its sources name {missing[:1]}, no file; the cache tells a changed cube by them")


def _check_cube(contract: Contract, cubes: CubeSet, index: int) -> None:
    require, cube = contract.require, cubes[index]
    require(isinstance(cube, Cube), f"read returns {type(cube).__name__}; expected hseval.Cube")
    require(cube.data.dtype == np.float32, f"cube {index} is {cube.data.dtype}; cubes are float32")
    require(
        cube.data.shape == cubes.shape(index),
        f"cube {index} has shape {cube.data.shape}, and {cubes.shape(index)} by its header; expected (band, y, x)",
    )
    require(cube.id == cubes.ids[index], f"cube {index} calls itself {cube.id!r}, the set {cubes.ids[index]!r}")
    require(set(cube.masks) <= set(cubes.structures), f"cube {index} has masks that the set's structures do not list")
    for name, mask in cube.masks.items():
        require(
            mask.dtype == np.bool_ and mask.shape == cube.data.shape[1:],
            f"mask {name!r} is {mask.dtype} {mask.shape}; expected bool {cube.data.shape[1:]}, as (y, x)",
        )
    apart = cubes.read_masks(index)
    require(
        set(apart) == set(cube.masks) and all(np.array_equal(apart[name], cube.masks[name]) for name in apart),
        f"read_masks({index}) differs from the masks that read({index}) brings",
    )
    require(_is_equal(cube, cubes[index]), f"cube {index} is another one when it is read again")


def _check_pickling(contract: Contract, cubes: CubeSet) -> None:
    try:
        copy = pickle.loads(pickle.dumps(cubes))  # our own bytes, as multiprocessing would send them
    except Exception as error:
        raise ContractError(
            f"{contract.subject}: its set can't be sent to a worker process ({error}); keep open files out of its state"
        ) from error
    contract.require(_is_equal(copy[0], cubes[0]), "its set reads another cube once it was sent to a worker process")


def _check_truncated_file(contract: Contract, reader: Any, path: Path) -> None:
    """Cut the file in half: opening it, or reading from it, has to fail with one line."""

    def read_all() -> None:
        for _ in reader.open(damaged):
            pass

    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        whole = path.read_bytes()
        damaged.write_bytes(whole[: len(whole) // 2])
        contract.check_refuses(read_all, "a file cut in half")


def _is_equal(one: Cube, other: Cube) -> bool:
    return np.array_equal(one.data, other.data, equal_nan=True) and one.id == other.id
