"""Damaged files of every format of cubes, read by hseval and by the library made for the format."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import scipy.io
import spectral.io.envi
import tifffile
from numpy.typing import NDArray

from hseval.data.writer import write_set
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError
from tests.helpers.container_bombs import declare_much
from tests.helpers.mutations import Rng, mutate_bytes

NM = np.array([450.0, 500, 550, 600, 650])
CUBES = np.random.default_rng(3).random((3, 5, 12, 10), dtype=np.float32)
CUBE, MASKS = CUBES[0], CUBES[:, 0] > 0.5
SUFFIXES = {
    "hdf5": ".h5", "hseval-hdf5": ".h5", "npz": ".npz", "npy": ".npy", "mat5": ".mat", "mat73": ".mat", "tiff": ".tif",
    "envi": ".hdr",
}  # fmt: skip
HEAD = 1500  # bytes at either end of a file, where most of what is declared stands
DECLARED = (0, 1, 2, 3, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def write_container(kind: str, folder: Path, *, is_compressed: bool = False) -> Path:
    """Write a valid file: one cube, or three in HDF5, with wavelengths and a mask where the format has them."""
    path = folder / f"cube{SUFFIXES[kind]}"
    options = {"compression": "gzip", "shuffle": True} if is_compressed else {}
    content = {"cube": CUBE.transpose(1, 2, 0), "wavelengths": NM, "masks": {"artery": MASKS[0].astype(np.uint8)}}
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file.create_dataset("scan/cubes", data=CUBES, chunks=(1, 5, 6, 10), **options)
            file["wavelengths"] = NM
            file.create_dataset("masks/artery", data=MASKS.astype(np.uint8))
    elif kind == "hseval-hdf5":
        names = ["a", "b", "c"]
        write_set(path, CUBES, wavelengths=NM, masks={"artery": MASKS}, ids=names, groups=names, units="reflectance")
    elif kind == "npz":
        save: Callable[..., None] = np.savez_compressed if is_compressed else np.savez
        save(path, cube=CUBE, wavelengths=NM, **{"masks/artery": MASKS[0]})
    elif kind == "npy":
        np.save(path, CUBE)
    elif kind == "mat5":
        scipy.io.savemat(path, content, do_compression=is_compressed)
    elif kind == "mat73":
        hdf5storage.savemat(path, content, fmt="7.3", store_python_metadata=False)
    elif kind == "tiff":
        tifffile.imwrite(path, CUBE, photometric="minisblack", compression="zlib" if is_compressed else None)
    else:
        metadata = {"wavelength": NM.tolist(), "wavelength units": "Nanometers"}
        spectral.io.envi.save_image(str(path), CUBE.transpose(1, 2, 0), metadata=metadata, force=True)
    return path


def mutate_file(path: Path, rng: Rng) -> None:
    """Change a file in place: one to four bits, numbers or runs of bytes, most of them near its ends; or its length."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(data)))
        if rng.random() < 0.7:
            place = int(rng.integers(min(HEAD, len(data)))) * int(rng.choice([1, -1])) % len(data)
        kind, size = rng.random(), int(rng.choice([1, 2, 4, 8]))
        if kind < 0.4:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind < 0.7:
            place -= place % size
            declared = int(rng.choice(np.array(DECLARED, dtype=object))) % 2 ** (8 * size)
            data[place : place + size] = declared.to_bytes(size, str(rng.choice(["little", "big"])))  # type: ignore[arg-type]
        else:
            data[place : place + size] = bytes([int(rng.integers(256))]) * size
    path.write_bytes(mutate_bytes(bytes(data), rng) if rng.random() < 0.15 else bytes(data))


def find_container_problem(kind: str, folder: Path, rng: Rng) -> tuple[str, str]:
    """Read a damaged file of a kind; return what came of it, ``"refused"`` or ``"read"``, and what is wrong.

    Expected: a refusal in one line, or the pixels and masks that the format's own library reads in the same file.
    """
    if rng.random() < 0.1:
        path = declare_much(kind, folder, rng)
    else:
        path = write_container(kind, folder, is_compressed=bool(rng.random() < 0.5))
        mutate_file(path.with_suffix(".img") if kind == "envi" and rng.random() < 0.2 else path, rng)
    try:
        opened = open_set(path, layout="yxb" if kind == "mat73" and path.stem != "cube" else None)
        index = int(rng.integers(len(opened)))
        cube = opened[index]
    except HsevalError as error:
        is_tidy = len(str(error).splitlines()) == 1 and str(folder) in str(error) and len(str(error)) < 1000
        return "refused", "" if is_tidy else f"refused with {error!s:.300}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays = READERS[kind](path, index)
    except Exception as error:  # noqa: BLE001 - libraries raise many types
        return "read", f"{opened.info.notes} read, but the library raises {error!r:.200}"
    if not any(_is_same_cube(cube.data, array, index) for array in arrays.values()):
        return "read", f"a cube of {cube.data.shape} that is none of {[array.shape for array in arrays.values()]}"
    for name, mask in cube.masks.items():
        if not any(_is_same_mask(mask, array, index) for array in arrays.values()):
            return "read", f"mask {name!r} is none of the file's arrays"
    return "read", ""


def _is_same_cube(cube: NDArray[Any], stored: NDArray[Any], index: int) -> bool:
    """Return whether a cube is that of an array, with its axes and bands in any order."""
    array = stored[index] if stored.ndim == 4 and index < len(stored) else stored
    if array.ndim != 3:
        return False
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    return any(
        moved.shape == cube.shape and _sort_bands(moved) == _sort_bands(cube)
        for moved in (values, values.transpose(2, 0, 1))
    )


def _sort_bands(cube: NDArray[np.float32]) -> list[bytes]:
    return sorted(np.where(np.isnan(band), np.float32(np.nan), band).tobytes() for band in cube)


def _is_same_mask(mask: NDArray[np.bool_], stored: NDArray[Any], index: int) -> bool:
    array = stored[index] if stored.ndim == 3 and index < len(stored) else stored
    return array.shape == mask.shape and bool(((array > 0) == mask).all())


def _read_hdf5(path: Path, index: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}

    def visit(name: str, target: Any) -> None:
        if isinstance(target, h5py.Dataset) and target.shape is not None and target.dtype.kind in "fiub":
            with contextlib.suppress(OSError):  # only some of its arrays are damaged, or some of their chunks
                arrays[name] = target[index] if target.ndim >= 3 else target[()]
            with contextlib.suppress(OSError, ValueError):
                arrays[f"all of {name}"] = target[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return arrays


def _read_npz(path: Path, index: int) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name.removesuffix(".npy")] for name in names}


def _read_mat5(path: Path, index: int) -> dict[str, NDArray[Any]]:
    content = {name: value for name, value in scipy.io.loadmat(path).items() if isinstance(value, np.ndarray)}
    masks = content.get("masks", np.zeros(()))
    fields = {f"masks.{name}": masks[name].item() for name in masks.dtype.names or ()}
    return {name: value for name, value in (content | fields).items() if value.dtype.kind in "fiub"}


def _read_mat73(path: Path, index: int) -> dict[str, NDArray[Any]]:
    return {name: array.T for name, array in _read_hdf5(path, index).items()}


def _read_tiff(path: Path, index: int) -> dict[str, NDArray[Any]]:
    with tifffile.TiffFile(path) as file:
        # Another, smaller image in the file may be damaged.
        return {str(number): image.asarray() for number, image in enumerate(file.series) if image.ndim >= 3}


def _read_envi(path: Path, index: int) -> dict[str, NDArray[Any]]:
    image = spectral.io.envi.open(str(path))
    cube = np.array(image.open_memmap(interleave="bsq"), dtype=np.float64)
    if "data ignore value" in image.metadata:
        cube[cube == float(image.metadata["data ignore value"])] = np.nan
    return {"cube": cube / (float(image.metadata.get("reflectance scale factor", 1)) or 1)}


READERS: Mapping[str, Callable[[Path, int], dict[str, NDArray[Any]]]] = {
    "hdf5": _read_hdf5, "hseval-hdf5": _read_hdf5, "npz": _read_npz, "npy": lambda path, index: {"cube": np.load(path)},
    "mat5": _read_mat5, "mat73": _read_mat73, "tiff": _read_tiff, "envi": _read_envi,
}  # fmt: skip
