"""The contract of readers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import Cube, CubeSet, SetInfo
from hseval.testing.contract import CheckRecord, Contract
from hseval.utils.plural import format_count

UNCLAIMED_NAME = "notes.surely-not-a-cube"


def check_reader(reader: Any, path: str | Path) -> CheckRecord:
    """Check a reader's class (or an instance) on ``path``, a file or folder that it can open.

    Checked: its name, summary and ``claims``; headers agree with the pixels; cubes are float32 with bool masks; ids are
    unique, wavelengths ascend; the set can be sent to another process; and a truncated file is refused with one line.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("reader", reader)
    contract.check_attributes()
    built = contract.build()
    contract.get_method(built, "claims", "claims(self, path) -> bool")
    open_method = contract.get_method(built, "open", "open(self, path, *, layout=None, wavelengths=None) -> CubeSet")
    contract.check_keyword_only(open_method, ("layout", "wavelengths"))
    path = Path(path)
    contract.require(path.exists(), f"there is no {str(path)!r} to check it on; write a small file in the test first")
    _check_claims(contract, built, path)
    cubes = built.open(path)
    _check_headers(contract, cubes)
    for index in {0, len(cubes) - 1}:
        _check_cube(contract, cubes, index)
    copy = contract.copy_by_pickling(cubes, "its set")
    contract.require(_is_equal(copy[0], cubes[0]), "its set reads other cubes in a worker process (after pickling)")
    if path.is_file():
        _check_truncated_file(contract, built, path)
    else:
        contract.skip("a truncated file", "the path is a folder")
    return contract.get_record()


def _check_claims(contract: Contract, reader: Any, path: Path) -> None:
    contract.require(
        reader.claims(path) is True, f"claims({path.name!r}) is not True, although the reader has to open it"
    )
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / UNCLAIMED_NAME
        with contract.explain_errors(
            "claims raises {error} at a path that does not exist; it is called for every path of every command, and "
            "has to return False for what it can't read"
        ):
            claimed = reader.claims(other)
        contract.require(claimed is False, f"does not return False for a path that does not exist ({UNCLAIMED_NAME!r})")
        other.write_text("nothing that any reader opens\n")
        contract.require(
            reader.claims(other) is False, f"claims {UNCLAIMED_NAME!r}, a line of text; check its first bytes"
        )


def _check_headers(contract: Contract, cubes: Any) -> None:
    require = contract.require
    require(isinstance(cubes, CubeSet), f"open returns {type(cubes).__name__}; expected a subclass of hseval.CubeSet")
    require(
        isinstance(getattr(cubes, "info", None), SetInfo),
        "its set has no info; a CubeSet sets self.info = hseval.plugin.SetInfo(location, ids, wavelengths)",
    )
    info, count = cubes.info, len(cubes)
    require(count > 0, "opens an empty set; raise hseval.HsevalError if there are no cubes")
    require(len(set(info.ids)) == count, "its ids are not unique; reports name cubes by them")
    require(all(isinstance(id, str) for id in info.ids), "its ids are not str")
    centers = np.asarray(info.wavelengths)
    bands = cubes.shape(0)[0]
    require(
        centers.dtype == np.float64 and centers.shape == (bands,),
        f"its wavelengths are {centers.dtype} {centers.shape} for {format_count(bands, 'band')}; "
        "expected float64 (band,)",
    )
    require((np.diff(centers) > 0).all(), "its wavelengths do not ascend; sort them together with the bands")
    require(
        list(info.structures) == sorted(set(info.structures)), "its structures are not sorted, or contain duplicates"
    )
    for name, values in {"groups": info.groups, **info.labels}.items():
        require(values is None or len(values) == count, f"{name!r} does not have one entry per cube ({count})")
    recipes = {(cubes.sources(index), cubes.recipe(index)) for index in range(count)}
    require(
        len(recipes) == count or not cubes.sources(0),
        "two cubes share sources and recipe; recipe(i) has to identify a cube in its file, or the cache mixes them up",
    )
    missing = [source for index in range(count) for source in cubes.sources(index) if not Path(source).is_file()]
    require(not missing, f"its sources name {missing[:1]}, which is no file; the cache detects changed cubes by them")


def _check_cube(contract: Contract, cubes: CubeSet, index: int) -> None:
    require, cube = contract.require, cubes[index]
    require(isinstance(cube, Cube), f"read returns {type(cube).__name__}; expected hseval.Cube")
    require(cube.data.dtype == np.float32, f"cube {index} is {cube.data.dtype}; expected float32")
    require(
        cube.data.shape == cubes.shape(index),
        f"cube {index} has shape {cube.data.shape}, but {cubes.shape(index)} by its header; expected (band, y, x)",
    )
    require(cube.id == cubes.ids[index], f"cube {index} has the id {cube.id!r}, but {cubes.ids[index]!r} in the set")
    require(set(cube.masks) <= set(cubes.structures), f"cube {index} has masks that the set's structures do not list")
    for name, mask in cube.masks.items():
        contract.check_mask(name, mask, cube.data.shape[1:])
    masks = cubes.read_masks(index)
    require(
        set(masks) == set(cube.masks) and all(np.array_equal(masks[name], cube.masks[name]) for name in masks),
        f"read_masks({index}) differs from the masks of read({index})",
    )
    require(_is_equal(cube, cubes[index]), f"cube {index} differs when it is read again")


def _check_truncated_file(contract: Contract, reader: Any, path: Path) -> None:
    """Truncate the file to half: opening or reading it has to fail with one line."""

    def read_all() -> None:
        for _ in reader.open(truncated):
            pass

    with tempfile.TemporaryDirectory() as folder:
        truncated = Path(folder) / path.name
        content = path.read_bytes()
        truncated.write_bytes(content[: len(content) // 2])
        contract.check_refuses(read_all, "a truncated file")


def _is_equal(a: Cube, b: Cube) -> bool:
    return np.array_equal(a.data, b.data, equal_nan=True) and a.id == b.id
