"""The house format: what it holds, what it refuses, and how lazily it is read."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hseval.data.writer import write_set
from hseval.pipeline.open import open_set
from hseval.readers.hdf5_hseval import HsevalHdf5Set
from hseval.utils.errors import HsevalError

NM = np.array([450.0, 500, 550, 600, 650])
CUBES = np.random.default_rng(3).random((4, 5, 12, 10), dtype=np.float32)
MASKS = {"artery": CUBES[:, 0] > 0.5, "fov": CUBES[:, 1] > 0.1}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A complete file in the house format."""
    path = tmp_path / "house.h5"
    write_set(
        path, CUBES, wavelengths=NM, masks=MASKS, ids=["a", "b", "c", "d"], groups=["p", "p", "q", "q"],
        labels={"diagnosis": ["x", "y", "x", "y"], "age": [61, 62, 63, 64]}, units="reflectance",
        provenance={"generator": "test", "seed": 3},
    )  # fmt: skip
    return path


def edit(path: Path, change: Callable[[h5py.File], Any]) -> None:
    """Change a file in place."""
    with h5py.File(path, "r+") as file:
        change(file)


def replace(path: Path, name: str, values: Any) -> None:
    """Replace a dataset."""
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file[name] = values


def refused(path: Path, message: str) -> None:
    """Assert that opening fails with one line that holds ``message``."""
    with pytest.raises(HsevalError) as told:
        open_set(path)
    assert message in str(told.value), str(told.value)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_everything_written_is_read_back(house: Path) -> None:
    opened = open_set(house)
    assert isinstance(opened, HsevalHdf5Set)
    info = opened.info
    assert info.ids == ("a", "b", "c", "d") and info.groups == ("p", "p", "q", "q")
    assert info.labels == {"age": [61, 62, 63, 64], "diagnosis": ["x", "y", "x", "y"]}
    assert info.units == "reflectance" and info.provenance == {"generator": "test", "seed": 3}
    assert info.structures == ("artery", "fov") and info.notes == () and info.wavelengths.tolist() == NM.tolist()
    for index, cube in enumerate(opened):
        np.testing.assert_array_equal(cube.data, CUBES[index])
        np.testing.assert_array_equal(cube.masks["artery"], MASKS["artery"][index])
        assert cube.group == info.groups[index] and cube.masks["fov"].dtype == bool
    np.testing.assert_array_equal(opened.read_masks(2)["fov"], MASKS["fov"][2])
    assert opened.sources(0) == (house,) and opened.recipe(0) != opened.recipe(1)


def test_one_cube_is_one_uncompressed_chunk(house: Path) -> None:
    with h5py.File(house) as file:
        assert file["cubes"].chunks == (1, 5, 12, 10) and file["cubes"].compression is None
        assert file["masks/artery"].dtype == np.uint8 and file["masks/artery"].chunks == (1, 12, 10)
        assert dict(file.attrs) == {
            "format": "hseval-cubes", "version": 1, "provenance": '{"generator": "test", "seed": 3}',
        }  # fmt: skip


def test_bands_out_of_order_are_sorted_with_a_note_and_change_the_recipe(house: Path) -> None:
    before = open_set(house).recipe(1)
    replace(house, "wavelengths", NM[[1, 0, 2, 3, 4]])
    opened = open_set(house)
    np.testing.assert_array_equal(opened[1].data, CUBES[1][[1, 0, 2, 3, 4]])
    assert "out of order" in opened.info.notes[0] and opened.recipe(1) != before


def test_given_wavelengths_replace_the_files_with_a_note(house: Path) -> None:
    opened = open_set(house, wavelengths="500:900:5")
    assert opened.wavelengths.tolist() == [500, 600, 700, 800, 900]
    assert opened.info.notes == ("the given wavelengths replace those in the file",)
    with pytest.raises(HsevalError, match=r"house.h5: 16 wavelengths, but 5 bands"):
        open_set(house, wavelengths="450:905:16")


def test_a_house_file_states_its_axes(house: Path) -> None:
    opened = open_set(house, layout="yxb")
    np.testing.assert_array_equal(opened[0].data, CUBES[0])
    assert opened.info.notes == ("layout yxb not applied: hseval-cubes states (n, band, y, x)",)


def test_ids_groups_masks_and_labels_are_optional(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["cubes"] = (CUBES * 1000).astype(np.uint16)
        file.attrs.update(format="hseval-cubes", version=1)
    opened = open_set(tmp_path / "bare.h5")
    assert opened.ids == ("000000", "000001", "000002", "000003") and opened.groups is None
    assert not opened.info.wavelengths_known and "band index stands in" in opened.info.notes[0]
    np.testing.assert_array_equal(opened[1].data, (CUBES[1] * 1000).astype(np.uint16).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("masks/artery", np.zeros((4, 10, 12), np.uint8), "masks/artery of shape (4, 10, 12); (4, 12, 10)"),
        ("masks/artery", np.zeros((4, 12, 10), np.float32), "masks/artery of type float32; uint8 or bool expected"),
        ("wavelengths", NM[1:], "4 wavelengths, but 5 bands"),
        ("wavelengths", NM * np.nan, "the wavelength of band 0 is nan"),
        ("ids", ["a", "b"], "ids of shape (2,), but 4 cubes"),
        ("ids", ["a", "b", "b", "c"], "ids: 'b' occurs more than once"),
        ("groups", ["a", "b", "c"], "groups of shape (3,), but 4 cubes"),
        ("labels/age", np.zeros((4, 2)), "labels/age of shape (4, 2), but 4 cubes"),
        ("cubes", CUBES[0], "cubes of shape (5, 12, 10); (n, band, y, x) expected"),
        ("cubes", CUBES[0, 0], "a 2D image of 12 x 10"),
        ("cubes", CUBES[:0], "an array of shape (0, 5, 12, 10)"),
        ("cubes", CUBES.astype(np.complex64), "values of type complex64; real numbers expected"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(house: Path, name: str, values: Any, message: str) -> None:
    replace(house, name, values)
    refused(house, message)


def test_missing_cubes_a_later_version_and_broken_provenance_are_refused(house: Path) -> None:
    edit(house, lambda file: file.attrs.update(provenance="{"))
    refused(house, "its attribute 'provenance' is no JSON")
    edit(house, lambda file: file.attrs.update(version=2))
    refused(house, "version 2 of hseval-cubes; this hseval reads version 1")
    edit(house, lambda file: (file.attrs.update(version=1), file.__delitem__("cubes")))
    refused(house, "has no dataset 'cubes'")


def test_a_truncated_file_is_refused_at_opening(house: Path) -> None:
    house.write_bytes(house.read_bytes()[:-200])
    refused(house, "truncated: the HDF5 file is shorter than it says itself")


def test_a_damaged_chunk_names_file_and_cube(tmp_path: Path) -> None:
    path = tmp_path / "gzip.h5"
    write_set(path, CUBES, wavelengths=NM, compression="gzip")
    with h5py.File(path) as file:
        where = file["cubes"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = bytes(where.size)
    path.write_bytes(content)
    opened = open_set(path)
    np.testing.assert_array_equal(opened[1].data, CUBES[1])
    with pytest.raises(HsevalError, match=r"gzip.h5: cube 2 \(000002\) can't be read, the file may be") as told:
        opened[2]
    assert "\n" not in str(told.value)


def test_cubes_without_a_group_stand_alone_with_a_note(house: Path) -> None:
    replace(house, "groups", ["p", "", "p", ""])
    opened = open_set(house)
    assert opened.groups == ("p", "", "p", "")
    assert opened.info.notes == ("groups: 2 of 4 cubes have no group: each stands alone",)


@pytest.mark.parametrize("place", ["cubes", "masks/vein", "labels/secret", "anything"])
def test_external_links_are_refused_wherever_they_are(house: Path, tmp_path: Path, place: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["cubes"] = CUBES

    def link(file: h5py.File) -> None:
        if place in file:
            del file[place]
        file[place] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/cubes")

    edit(house, link)
    refused(house, f"{place!r} is an external link: cubes have to be in the file itself")


def test_a_soft_link_through_an_external_one_is_refused(house: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["inner/cubes"] = CUBES

    def link(file: h5py.File) -> None:
        del file["cubes"]
        file["door"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/inner")
        file["cubes"] = h5py.SoftLink("/door/cubes")

    edit(house, link)
    refused(house, "'door' is an external link")


def test_virtual_and_externally_stored_datasets_are_refused(house: Path, tmp_path: Path) -> None:
    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape=(4, 12, 10), dtype="u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "m", shape=(4, 12, 10))
        file.create_virtual_dataset("masks/virtual", layout)

    edit(house, virtual)
    refused(house, "'masks/virtual' is a virtual dataset")
    edit(house, lambda file: file["masks"].__delitem__("virtual"))
    outside = [(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
    edit(house, lambda file: file.create_dataset("masks/raw", (4, 12, 10), "u1", external=outside))
    refused(house, "'masks/raw' keeps its values in another file")


def test_groups_linked_in_a_loop_are_walked_once(house: Path) -> None:
    edit(house, lambda file: file.__setitem__("labels/loop", file["/"]))
    assert len(open_set(house)) == 4


def test_links_inside_the_file_are_followed(house: Path) -> None:
    def link(file: h5py.File) -> None:
        file.move("cubes", "store")
        file["cubes"] = h5py.SoftLink("/store")
        file["masks/vein"] = file["masks/artery"]

    edit(house, link)
    opened = open_set(house)
    np.testing.assert_array_equal(opened[0].data, CUBES[0])
    assert opened.structures == ("artery", "fov", "vein")


def test_another_file_with_one_dataset_of_cubes_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["scans/reflectance"] = CUBES.transpose(0, 2, 3, 1)
        file["wavelengths"] = NM
    opened = open_set(tmp_path / "foreign.h5")
    assert len(opened) == 4 and opened.recipe(1).startswith("HDF5 scans/reflectance[1] yxb")
    np.testing.assert_array_equal(opened[1].data, CUBES[1])


def test_another_file_without_an_obvious_dataset_lists_what_it_has(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["a"], file["b"] = CUBES, CUBES
    refused(tmp_path / "foreign.h5", "holds a (4, 5, 12, 10), b (4, 5, 12, 10); expected exactly one")


def test_hdf5_is_known_by_its_first_bytes_whatever_its_name(house: Path) -> None:
    renamed = house.rename(house.with_suffix(".cubes"))
    assert len(open_set(renamed)) == 4


def test_opening_a_huge_set_reads_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:  # 0.3 TB of cubes of which not one is stored
        file.create_dataset("cubes", (100_000, 16, 224, 224), "f4", chunks=(1, 16, 224, 224))
        file.attrs.update(format="hseval-cubes", version=1)
    opened = open_set(path)
    assert len(opened) == 100_000 and opened.shape(0) == (16, 224, 224)
    assert not opened[99_999].data.any()


def first_value(opened: HsevalHdf5Set, index: int) -> float:
    return float(opened[index].data[0, 0, 0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_set_is_read_from_several_processes(house: Path, method: str) -> None:
    opened = open_set(house)
    opened[0]  # the parent has the file open
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(first_value, [(opened, index) for index in range(4)] * 4)
    assert found == [float(cube[0, 0, 0]) for cube in CUBES] * 4


def test_no_open_file_travels_in_a_pickle(house: Path) -> None:
    opened = open_set(house)
    opened[0]
    travelled = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(travelled[3].data, CUBES[3])
    assert travelled.recipe(3) == opened.recipe(3)


def test_a_file_that_changes_is_still_the_one_that_was_opened(house: Path, tmp_path: Path) -> None:
    opened = open_set(house)
    first = opened[0].data
    write_set(tmp_path / "new.h5", 2 * CUBES, wavelengths=NM)
    (tmp_path / "new.h5").replace(house)
    np.testing.assert_array_equal(opened[0].data, first)
