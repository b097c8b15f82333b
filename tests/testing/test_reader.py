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
from tests.helpers.sets import saved


@pytest.fixture
def file(tmp_path) -> Path:
    return saved(tmp_path / "set.h5", make_example_set(3))


def reader_with(change_set=lambda cubes: cubes, **methods):
    """Return the HDF5 reader's class with some of it replaced."""
    sound = get_plugins().find("reader", "hdf5")

    class Changed(sound):
        def open(self, path, *, layout=None, wavelengths=None):
            return change_set(super().open(path, layout=layout, wavelengths=wavelengths))

    for name, method in methods.items():
        setattr(Changed, name, method)
    return Changed


def with_info(**changes):
    def change(cubes):
        cubes.info = dataclasses.replace(cubes.info, **changes)
        return cubes

    return change


def with_cube(**changes):
    def change(cubes):
        read = cubes.read
        cubes.read = lambda index: dataclasses.replace(read(index), **changes)
        return cubes

    return change


def with_open_file(cubes):
    cubes.handle = Path(__file__).open()  # noqa: SIM115
    return cubes


def with_one_recipe(cubes):
    cubes.recipe = lambda index: "0"
    return cubes


def swallow_errors(self, path, *, layout=None, wavelengths=None):
    try:
        return get_plugins().find("reader", "hdf5")().open(path)
    except HsevalError:
        return make_example_set(1)


def raw_errors(self, path, *, layout=None, wavelengths=None):
    try:
        return get_plugins().find("reader", "hdf5")().open(path)
    except HsevalError as error:
        raise OSError("bad file") from error


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda: reader_with(claims=lambda self, path: False), "is not True, though it is to open it"),
        (lambda: reader_with(claims=lambda self, path: True), "does not say False to a path that does not exist"),
        (lambda: reader_with(claims=lambda self, path: path.exists()), "a line of text; look at its bytes"),
        (lambda: reader_with(open=lambda self, path: None), "does not take 'layout'"),
        (lambda: reader_with(lambda cubes: cubes.subset([])), "opens an empty set"),
        (lambda: reader_with(list), "open returns list"),
        (lambda: reader_with(with_info(ids=("a", "a", "b"))), "ids are not unique"),
        (lambda: reader_with(with_info(wavelengths=np.arange(6.0)[::-1])), "do not ascend"),
        (lambda: reader_with(with_info(wavelengths=np.arange(5.0))), "for 6 bands"),
        (lambda: reader_with(with_info(structures=("fov", "disc"))), "structures are not sorted"),
        (lambda: reader_with(with_info(groups=("one",))), "'groups' does not have one entry a cube"),
        (lambda: reader_with(with_one_recipe), "two cubes share sources and recipe"),
        (lambda: reader_with(with_cube(data=np.zeros((6, 48, 48)))), "is float64; cubes are float32"),
        (lambda: reader_with(with_cube(data=np.zeros((48, 48, 6), np.float32))), r"has shape \(48, 48, 6\)"),
        (lambda: reader_with(with_cube(id="other")), "calls itself 'other'"),
        (lambda: reader_with(with_cube(masks={"fov": np.ones((48, 48))})), "mask 'fov' is float64"),
        (lambda: reader_with(with_cube(masks={"sea": np.ones((48, 48), bool)})), "do not list"),
        (lambda: reader_with(with_cube(masks={})), r"read_masks\(0\) differs"),
        (lambda: reader_with(with_open_file), "can't be sent to a worker process"),
        (lambda: reader_with(open=swallow_errors), "a file cut in half: nothing was raised"),
        (lambda: reader_with(open=raw_errors), "a file cut in half: raised OSError"),
    ],
)
def test_a_broken_reader_is_told_what_is_wrong(reader, message, file):
    with pytest.raises(ContractError, match=message):
        check_reader(reader(), file)
