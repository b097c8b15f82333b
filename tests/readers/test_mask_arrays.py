"""Masks under their own names in a container: which arrays are masks, and notes on the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io

from hseval.pipeline.open import open_set

NM = np.array([450.0, 500, 550, 600, 650])
CUBE = np.random.default_rng(3).random((5, 12, 10), dtype=np.float32)
ARTERY, FOV = CUBE[0] > 0.5, CUBE[1] > 0.1
DEPTH = CUBE[2].astype(np.float32)
LABELS = (CUBE[3] * 4).astype(np.uint8)


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def write_h5(path: Path, arrays: dict[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def write_mat5(path: Path, arrays: dict[str, Any]) -> None:
    scipy.io.savemat(path, arrays)


def write_mat73(path: Path, arrays: dict[str, Any]) -> None:
    hdf5storage.savemat(path, arrays, fmt="7.3", store_python_metadata=False)


WRITERS = [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat5), (".mat", write_mat73)]
containers = pytest.mark.parametrize(("suffix", "write"), WRITERS)
Write = Callable[[Path, dict[str, Any]], None]


@containers
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
@pytest.mark.parametrize("layout", ["byx", "yxb"])
def test_an_image_of_zeros_and_ones_is_a_mask_under_its_own_name(
    tmp_path: Path, suffix: str, write: Write, dtype: Any, layout: str
) -> None:
    path = tmp_path / f"eye{suffix}"
    cube = CUBE if layout == "byx" else CUBE.transpose(1, 2, 0)
    write(path, {"cube": cube, "wavelengths": NM, "artery": ARTERY.astype(dtype), "fov": FOV.astype(dtype)})
    opened = open_set(path)
    assert opened.structures == ("artery", "fov") and opened.info.notes == ()
    np.testing.assert_array_equal(opened[0].masks["artery"], ARTERY)
    np.testing.assert_array_equal(opened.read_masks(0)["fov"], FOV)
    assert "masks artery,fov" in opened.recipe(0)


@containers
def test_maps_and_label_images_are_not_masks_and_get_a_note(tmp_path: Path, suffix: str, write: Write) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path, {"cube": CUBE, "wavelengths": NM, "artery": ARTERY, "labels": LABELS, "depth": DEPTH})
    opened = open_set(path)
    assert opened.structures == ("artery",)
    assert opened.info.notes == ("arrays depth, labels not read (a mask is bool or 0/1)",)


@containers
def test_arrays_of_another_shape_are_ignored_without_a_note(tmp_path: Path, suffix: str, write: Write) -> None:
    path = tmp_path / f"eye{suffix}"
    others = {"transposed": ARTERY.T, "part": ARTERY[1:], "bands": ARTERY[:5], "dark": CUBE[:, :, 0], "gain": NM}
    write(path, {"cube": CUBE, "wavelengths": NM, **others})
    opened = open_set(path)
    assert opened.structures == () and opened.info.notes == ()


@containers
def test_the_axis_order_decides_which_arrays_have_the_spatial_size(tmp_path: Path, suffix: str, write: Write) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path, {"cube": CUBE[:, :, :5], "one": CUBE[0, :, :5] > 0.5, "two": CUBE[:, :, 0] > 0.5})
    assert open_set(path, layout="byx").structures == ("one",)
    assert open_set(path, layout="yxb").structures == ("two",)


@containers
def test_a_prefixed_mask_has_priority_over_an_array_of_the_same_name(tmp_path: Path, suffix: str, write: Write) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path, {"cube": CUBE, "wavelengths": NM, "artery": FOV, "mask_artery": ARTERY})
    opened = open_set(path)
    np.testing.assert_array_equal(opened[0].masks["artery"], ARTERY)
    assert opened.info.notes == ("array artery not read (a mask of that name is already in masks/ or mask_)",)


@pytest.mark.parametrize("write", [write_mat5, write_mat73])
def test_matlab_doubles_of_zeros_and_ones_are_masks(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.mat", {"cube": CUBE, "wavelengths": NM, "artery": ARTERY.astype(float), "depth": DEPTH})
    opened = open_set(tmp_path / "a.mat")
    np.testing.assert_array_equal(opened[0].masks["artery"], ARTERY)
    assert opened.info.notes == ("array depth not read (a mask is bool or 0/1)",)


def test_a_mask_in_the_cubes_group_is_named_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_h5(path, {"scan/cube": CUBE, "wavelengths": NM, "scan/artery": ARTERY, "drawn/fov": FOV})
    assert open_set(path).structures == ("artery", "drawn/fov")


def test_masks_are_found_in_each_file_of_a_folder(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"cube": CUBE, "wavelengths": NM, "artery": ARTERY})
    write_npz(tmp_path / "b.npz", {"cube": CUBE[:, 1:], "wavelengths": NM, "artery": ARTERY[1:], "depth": DEPTH[1:]})
    opened = open_set(tmp_path)
    assert opened.structures == ("artery",)
    assert opened.info.notes == ("array depth not read (a mask is bool or 0/1)",)
    np.testing.assert_array_equal(opened[1].masks["artery"], ARTERY[1:])


@pytest.mark.parametrize(("suffix", "write"), WRITERS[:2])
def test_with_several_cubes_only_prefixed_masks_are_read_and_others_get_a_note(
    tmp_path: Path, suffix: str, write: Write
) -> None:
    path = tmp_path / f"set{suffix}"
    masks = np.stack([ARTERY, FOV])
    write(path, {"cubes": np.stack([CUBE, CUBE]), "wavelengths": NM, "masks/artery": masks, "vein": masks})
    opened = open_set(path)
    assert opened.structures == ("artery",)
    assert opened.info.notes == ("array vein not read (masks of several cubes are called masks/NAME or mask_NAME)",)


def test_a_long_list_of_arrays_is_shortened(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"cube": CUBE, "wavelengths": NM, **{f"m{i}": DEPTH for i in range(9)}})
    assert open_set(tmp_path / "a.npz").info.notes == (
        "arrays m0, m1, m2, m3, m4, m5 and 3 more not read (a mask is bool or 0/1)",
    )
