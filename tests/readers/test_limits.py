"""Small files that declare much are refused before anything is allocated; large sets stay cheap to open."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from hseval.core.cubes import IndexIds
from hseval.data.format import check_unique_ids
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError
from tests.helpers.container_bombs import KINDS, get_bombs
from tests.helpers.damaged_containers import CUBE, CUBES, MASKS, find_container_problem, write_container

MIB = 2**20
MEASURE = """
import json, resource, sys, time
import h5py, numpy, scipy.io, spectral.io.envi, tifffile
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError
limit = 8 * 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
def measure_peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
open_set(sys.argv[1])[0]  # what libraries load at the first use
for path in sys.argv[2:]:
    before, start = measure_peak(), time.monotonic()
    try:
        opened = open_set(path, layout="yxb" if path.endswith(".mat") else None)
        opened_after = time.monotonic() - start
        cube = opened[len(opened) - 1]
        outcome = f"{len(opened)} cubes, {len(cube.masks)} masks"
    except HsevalError as error:
        outcome, opened_after = f"refused: {error}", 0
    took = time.monotonic() - start
    print(json.dumps([path, outcome, took, opened_after, measure_peak() - before]))
"""


def measure(folder: Path, *paths: Path) -> list[list[Any]]:
    """Open files in a process of their own; return each path, the outcome, seconds, seconds of opening, and bytes."""
    np.save(folder / "first.npy", CUBE)
    command = [sys.executable, "-c", MEASURE, str(folder / "first.npy"), *map(str, paths)]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert finished.returncode == 0 and not finished.stderr, finished.stderr[-2000:]
    return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_small_files_that_declare_much_are_refused_within_memory_and_time(tmp_path: Path, kind: str) -> None:
    paths = [write(tmp_path) for write in get_bombs(kind)]
    outcomes = measure(tmp_path, *paths)
    assert [Path(outcome[0]) for outcome in outcomes] == paths
    for path, outcome, took, _, peak in outcomes:
        assert outcome.startswith("refused: ") and len(outcome.splitlines()) == 1, (path, outcome)
        assert took < 10 and peak < 1024 * MIB, (path, outcome, took, peak)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_refused_in_one_line_or_read_as_the_formats_library_reads_them(
    tmp_path: Path, kind: str
) -> None:
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        rng = np.random.default_rng([13, zlib.crc32(kind.encode()), number])
        outcome, problem = find_container_problem(kind, folder, rng)
        assert not problem, (kind, number, outcome, problem)


def test_a_million_cubes_open_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / "plain.h5", tmp_path / "house.h5"]
    for path in paths:
        with h5py.File(path, "w") as file:
            file.create_dataset("cubes", data=np.ones((10**6, 2, 3, 3), np.uint8), chunks=(1000, 2, 3, 3))
            if path.stem == "house":
                file.attrs.update(format="hseval-cubes", version=1)
    for path, outcome, _, opened_after, peak in measure(tmp_path, *paths):
        assert outcome == "1000000 cubes, 0 masks" and opened_after < 1 and peak < 100 * MIB, (path, opened_after, peak)


def test_ids_of_cubes_without_names_are_a_sequence_of_text() -> None:
    ids = IndexIds(10**7)
    assert len(ids) == 10**7 and ids[0] == "000000" and ids[-1] == "9999999" and ids[2:4] == ("000002", "000003")
    assert IndexIds(2) == ("000000", "000001") and tuple(IndexIds(2)) == IndexIds(2) and IndexIds(2) != ("a", "b")
    assert np.array(IndexIds(2)).tolist() == ["000000", "000001"] and list(IndexIds(1)) == ["000000"]
    with pytest.raises(IndexError):
        IndexIds(2)[2]


def test_a_repeated_id_is_found_in_one_pass() -> None:
    start = time.monotonic()
    with pytest.raises(HsevalError, match="'last' occurs more than once"):
        check_unique_ids([*map(str, range(200_000)), "last", "last"], location="set")
    assert time.monotonic() - start < 1


def test_twenty_thousand_masks_open_the_archive_once_a_cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, mask = tmp_path / "many.npz", np.eye(3, 4, dtype=bool)
    np.savez(path, cube=np.ones((2, 3, 4), np.float32), **{f"masks/m{number}": mask for number in range(20_000)})
    opened_paths: list[Any] = []
    open_archive: Callable[..., None] = zipfile.ZipFile.__init__

    def count_openings(self: zipfile.ZipFile, file: Any, *args: Any, **options: Any) -> None:
        opened_paths.append(file)
        open_archive(self, file, *args, **options)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", count_openings)
    opened = open_set(path)
    assert len(opened_paths) == 1 and len(opened.structures) == 20_000
    masks = opened.read_masks(0)
    assert len(opened_paths) == 2 and len(masks) == 20_000
    np.testing.assert_array_equal(masks["m19999"], mask)


def test_a_set_in_one_member_of_an_archive_is_expanded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, cubes=CUBES, **{"masks/artery": MASKS})
    opened, expanded = open_set(path), []
    read_array = np.lib.format.read_array

    def count_arrays(*args: Any, **options: Any) -> Any:
        expanded.append(1)
        return read_array(*args, **options)

    monkeypatch.setattr(np.lib.format, "read_array", count_arrays)
    for index, cube in enumerate(opened):
        np.testing.assert_array_equal(cube.data, CUBES[index])
        np.testing.assert_array_equal(cube.masks["artery"], MASKS[index])
    assert len(expanded) == 2
    np.savez_compressed(path, cubes=CUBES[::-1], **{"masks/artery": MASKS})
    np.testing.assert_array_equal(open_set(path)[0].data, CUBES[2])


@pytest.mark.parametrize("chunks", [True, None])
@pytest.mark.parametrize("attributes", [{}, {"format": "hseval-cubes", "version": 1}])
def test_cubes_that_were_never_written_are_refused_and_not_read_as_zeros(
    tmp_path: Path, chunks: bool | None, attributes: dict[str, Any]
) -> None:
    path = tmp_path / "killed.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        cubes = file.create_dataset("cubes", CUBES.shape, "f4", chunks=(1, 5, 12, 10) if chunks else None)
        if chunks:
            cubes[:2] = CUBES[:2]
    found = "2 of 3 chunks" if chunks else "0 of 7200 bytes"
    with pytest.raises(HsevalError, match=f"killed.h5: cubes: {found} are stored; the file was not written to its end"):
        open_set(path)


def test_masks_of_cubes_without_the_structure_need_not_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "part.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(format="hseval-cubes", version=1)
        file["cubes"] = CUBES
        masks = file.create_dataset("masks/artery", MASKS.shape, "u1", chunks=(1, 12, 10), compression="gzip")
        masks[1] = MASKS[1]
    opened = open_set(path)
    np.testing.assert_array_equal(opened.read_masks(1)["artery"], MASKS[1])
    assert not opened.read_masks(0)["artery"].any()


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"compression": "lzf", "shuffle": True},
                                     {"compression": "gzip", "fletcher32": True}])  # fmt: skip
def test_large_compressed_chunks_of_real_values_are_read(tmp_path: Path, filters: dict[str, Any]) -> None:
    values = np.random.default_rng(1).integers(0, 40, (2, 4, 700, 700), dtype=np.uint8)  # chunks beyond the free size
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("cubes", data=values, chunks=(1, 4, 700, 700), **filters)
    np.testing.assert_array_equal(open_set(tmp_path / "large.h5")[1].data, values[1])


@pytest.mark.parametrize(
    "values",
    [
        np.full((12, 10), "artery"), np.full((12, 10), np.datetime64("2020-01-01")), np.ones((12, 10), complex),
        np.ones((12, 10), [("a", "u1"), ("b", "f4")]), np.full((12, 10), None),
    ],
    ids=["text", "dates", "complex", "records", "objects"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["npz", "hdf5", "mat5"])
def test_masks_that_are_no_numbers_are_refused_in_one_line(tmp_path: Path, kind: str, values: Any) -> None:
    path = write_container(kind, tmp_path)
    if kind == "npz":
        np.savez(path, cube=CUBE, **{"masks/artery": values})
    elif kind == "hdf5":
        stored = values.astype("S") if values.dtype.kind in "UMO" else values
        with h5py.File(path, "r+") as file:
            del file["masks/artery"]
            file["masks/artery"] = stored
    else:
        import scipy.io

        stored = np.full((12, 10), {"a": 1}) if values.dtype.kind in "MO" else values
        scipy.io.savemat(path, {"cube": CUBE, "masks": {"artery": stored}})
    with pytest.raises(HsevalError) as refusal:
        open_set(path)[0]
    message = str(refusal.value)
    assert path.name in message and len(message.splitlines()) == 1, message
    assert "numbers expected" in message or "pickled" in message, message


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "<u8", ">u8", "?", "f2", np.longdouble, "i1"])
@pytest.mark.parametrize("kind", ["npz", "hdf5", "npy"])
def test_values_of_every_numeric_type_are_read_as_they_are(tmp_path: Path, kind: str, dtype: Any) -> None:
    values = np.arange(5 * 12 * 10).reshape(5, 12, 10) % 100
    stored = values.astype(dtype)
    if stored.dtype.kind == "u":
        stored = stored + np.array(2**63, stored.dtype)
    path = tmp_path / {"npz": "c.npz", "hdf5": "c.h5", "npy": "c.npy"}[kind]
    if kind == "npz":
        np.savez(path, cube=stored)
    elif kind == "npy":
        np.save(path, stored)
    else:
        with h5py.File(path, "w") as file:
            file["cube"] = stored
    np.testing.assert_array_equal(open_set(path)[0].data, stored.astype(np.float32))


def test_complex_matlab_cubes_are_refused_and_do_not_lose_their_imaginary_part(tmp_path: Path) -> None:
    import scipy.io

    scipy.io.savemat(tmp_path / "c.mat", {"cube": CUBE + 1j})
    with pytest.raises(HsevalError, match=r"c.mat: cube: complex values; real numbers expected"):
        open_set(tmp_path / "c.mat", layout="yxb")[0]


def test_links_of_the_machines_user_are_followed(tmp_path: Path) -> None:
    for kind in KINDS:
        folder = tmp_path / kind
        (folder / "elsewhere").mkdir(parents=True)
        path = write_container(kind, folder / "elsewhere")
        for source in (folder / "elsewhere").iterdir():
            (folder / source.name).symlink_to(source)
        np.testing.assert_array_equal(open_set(folder / path.name)[0].data, CUBE)


def test_metadata_of_a_tiff_open_no_other_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "other.ome.tif", 2 * CUBE, ome=True, metadata={"axes": "CYX"})
    path = tmp_path / "main.ome.tif"
    tifffile.imwrite(path, CUBE, ome=True, metadata={"axes": "CYX"})
    place = b'<TiffData IFD="0" PlaneCount="5"/>'
    data = path.read_bytes()
    assert place in data
    description = tifffile.TiffFile(path).pages[0].tags["ImageDescription"]
    link = '<TiffData IFD="0" PlaneCount="5"><UUID FileName="other.ome.tif">urn:uuid:1</UUID></TiffData>'
    text = description.value.replace(place.decode(), link)
    tifffile.imwrite(path, CUBE, description=text.encode(), metadata=None)
    try:
        values = open_set(path)[0].data
    except HsevalError as error:
        assert len(str(error).splitlines()) == 1
    else:
        np.testing.assert_array_equal(values, CUBE)
