"""The contract checks of readers: each broken reader gets its own message."""

# ruff: noqa: ANN001, ANN003, ANN201, ANN202 - plugins as third parties write them, most of them broken on purpose

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hseval import HsevalError
from hseval.core.plugin_manager import get_plugins
from hseval.testing import ContractError, check_reader, make_example_set
from tests.helpers.sets import save_set


@pytest.fixture
def file(tmp_path) -> Path:
    return save_set(tmp_path / "set.h5", make_example_set(3))


def make_reader(change_set=lambda cubes: cubes, **methods):
    """Return the HDF5 reader's class with changed sets and methods."""
    base = get_plugins().find("reader", "hdf5")

    class ChangedReader(base):
        def open(self, path, *, layout=None, wavelengths=None):
            return change_set(super().open(path, layout=layout, wavelengths=wavelengths))

    for name, method in methods.items():
        setattr(ChangedReader, name, method)
    return ChangedReader


def change_info(**changes):
    def change(cubes):
        cubes.info = dataclasses.replace(cubes.info, **changes)
        return cubes

    return change


def change_cube(**changes):
    def change(cubes):
        read = cubes.read
        cubes.read = lambda index: dataclasses.replace(read(index), **changes)
        return cubes

    return change


def add_open_file(cubes):
    cubes.handle = Path(__file__).open()  # noqa: SIM115
    return cubes


def share_recipe(cubes):
    cubes.recipe = lambda index: "0"
    return cubes


def swallow_errors(self, path, *, layout=None, wavelengths=None):
    try:
        return get_plugins().find("reader", "hdf5")().open(path)
    except HsevalError:
        return make_example_set(1)


def raise_os_error(self, path, *, layout=None, wavelengths=None):
    try:
        return get_plugins().find("reader", "hdf5")().open(path)
    except HsevalError as error:
        raise OSError("bad file") from error


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda: make_reader(claims=lambda self, path: False), "is not True, although the reader has to open it"),
        (lambda: make_reader(claims=lambda self, path: True), "does not return False for a path that does not exist"),
        (lambda: make_reader(claims=lambda self, path: path.exists()), "a line of text; check its first bytes"),
        (lambda: make_reader(open=lambda self, path: None), "does not take 'layout'"),
        (lambda: make_reader(lambda cubes: cubes.subset([])), "opens an empty set"),
        (lambda: make_reader(list), "open returns list"),
        (lambda: make_reader(change_info(ids=("a", "a", "b"))), "ids are not unique"),
        (lambda: make_reader(change_info(wavelengths=np.arange(6.0)[::-1])), "do not ascend"),
        (lambda: make_reader(change_info(wavelengths=np.arange(5.0))), "for 6 bands"),
        (lambda: make_reader(change_info(structures=("fov", "disc"))), "structures are not sorted"),
        (lambda: make_reader(change_info(groups=("one",))), "'groups' does not have one entry per cube"),
        (lambda: make_reader(share_recipe), "two cubes share sources and recipe"),
        (lambda: make_reader(change_cube(data=np.zeros((6, 48, 48)))), "is float64; expected float32"),
        (lambda: make_reader(change_cube(data=np.zeros((48, 48, 6), np.float32))), r"has shape \(48, 48, 6\)"),
        (lambda: make_reader(change_cube(id="other")), "has the id 'other'"),
        (lambda: make_reader(change_cube(masks={"fov": np.ones((48, 48))})), "mask 'fov' is float64"),
        (lambda: make_reader(change_cube(masks={"sea": np.ones((48, 48), bool)})), "do not list"),
        (lambda: make_reader(change_cube(masks={})), r"read_masks\(0\) differs"),
        (lambda: make_reader(add_open_file), "can't be sent to a worker process"),
        (lambda: make_reader(open=swallow_errors), "a truncated file: nothing was raised"),
        (lambda: make_reader(open=raise_os_error), "a truncated file: raised OSError"),
    ],
)
def test_the_error_for_a_broken_reader_names_the_fault(reader, message, file):
    with pytest.raises(ContractError, match=message):
        check_reader(reader(), file)
