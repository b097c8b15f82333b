"""hseval's HDF5 format: content, refused files, and lazy reading."""

import multiprocessing
import os
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
def hseval_file(tmp_path: Path) -> Path:
    """Return a complete file in hseval's format."""
    path = tmp_path / "hseval.h5"
    write_set(
        path, CUBES, wavelengths=NM, masks=MASKS, ids=["a", "b", "c", "d"], groups=["p", "p", "q", "q"],
        labels={"diagnosis": ["x", "y", "x", "y"], "age": [61, 62, 63, 64]}, units="reflectance",
        provenance={"generator": "test", "seed": 3},
    )  # fmt: skip
    return path


def edit(path: Path, change: Callable[[h5py.File], Any]) -> None:
    """Modify a file in place."""
    with h5py.File(path, "r+") as file:
        change(file)


def replace_dataset(path: Path, name: str, values: Any) -> None:
    """Replace a dataset."""
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file[name] = values


def assert_refused(path: Path, message: str) -> None:
    """Assert that opening fails with one line that contains ``message``."""
    with pytest.raises(HsevalError) as refusal:
        open_set(path)
    assert message in str(refusal.value), str(refusal.value)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_everything_written_is_read_back(hseval_file: Path) -> None:
    opened = open_set(hseval_file)
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
    assert opened.sources(0) == (hseval_file,) and opened.recipe(0) != opened.recipe(1)


def test_one_cube_is_one_uncompressed_chunk(hseval_file: Path) -> None:
    with h5py.File(hseval_file) as file:
        assert file["cubes"].chunks == (1, 5, 12, 10) and file["cubes"].compression is None
        assert file["masks/artery"].dtype == np.uint8 and file["masks/artery"].chunks == (1, 12, 10)
        assert dict(file.attrs) == {
            "format": "hseval-cubes", "version": 1, "provenance": '{"generator": "test", "seed": 3}',
        }  # fmt: skip


def test_bands_out_of_order_are_sorted_with_a_note_and_change_the_recipe(hseval_file: Path) -> None:
    before = open_set(hseval_file).recipe(1)
    replace_dataset(hseval_file, "wavelengths", NM[[1, 0, 2, 3, 4]])
    opened = open_set(hseval_file)
    np.testing.assert_array_equal(opened[1].data, CUBES[1][[1, 0, 2, 3, 4]])
    assert "out of order" in opened.info.notes[0] and opened.recipe(1) != before


def test_given_wavelengths_replace_the_files_with_a_note(hseval_file: Path) -> None:
    opened = open_set(hseval_file, wavelengths="500:900:5")
    assert opened.wavelengths.tolist() == [500, 600, 700, 800, 900]
    assert opened.info.notes == ("the given wavelengths replace those in the file",)
    with pytest.raises(HsevalError, match=r"hseval.h5: 16 wavelengths, but 5 bands"):
        open_set(hseval_file, wavelengths="450:905:16")


def test_the_format_states_its_axes(hseval_file: Path) -> None:
    opened = open_set(hseval_file, layout="yxb")
    np.testing.assert_array_equal(opened[0].data, CUBES[0])
    assert opened.info.notes == ("layout yxb not applied: hseval-cubes states (n, band, y, x)",)


def test_ids_groups_masks_and_labels_are_optional(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["cubes"] = (CUBES * 1000).astype(np.uint16)
        file.attrs.update(format="hseval-cubes", version=1)
    opened = open_set(tmp_path / "bare.h5")
    assert opened.ids == ("000000", "000001", "000002", "000003") and opened.groups is None
    assert not opened.info.wavelengths_known and "using band indices" in opened.info.notes[0]
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
def test_malformed_datasets_are_refused_by_name(hseval_file: Path, name: str, values: Any, message: str) -> None:
    replace_dataset(hseval_file, name, values)
    assert_refused(hseval_file, message)


def test_missing_cubes_a_later_version_and_malformed_provenance_are_refused(hseval_file: Path) -> None:
    edit(hseval_file, lambda file: file.attrs.update(provenance="{"))
    assert_refused(hseval_file, "its attribute 'provenance' is not JSON")
    edit(hseval_file, lambda file: file.attrs.update(version=2))
    assert_refused(hseval_file, "version 2 of hseval-cubes; this hseval reads version 1")
    edit(hseval_file, lambda file: (file.attrs.update(version=1), file.__delitem__("cubes")))
    assert_refused(hseval_file, "has no dataset 'cubes'")


def test_a_truncated_file_is_refused_at_opening(hseval_file: Path) -> None:
    hseval_file.write_bytes(hseval_file.read_bytes()[:-200])
    assert_refused(hseval_file, "truncated: the HDF5 file is shorter than its header states")


def test_a_damaged_chunk_names_file_and_cube(tmp_path: Path) -> None:
    path = tmp_path / "gzip.h5"
    write_set(path, CUBES, wavelengths=NM, compression="gzip")
    with h5py.File(path) as file:
        chunk = file["cubes"].id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    opened = open_set(path)
    np.testing.assert_array_equal(opened[1].data, CUBES[1])
    with pytest.raises(HsevalError, match=r"gzip.h5: cube 2 \(000002\) can't be read, the file may be") as refusal:
        opened[2]
    assert "\n" not in str(refusal.value)


def test_cubes_without_a_group_are_their_own_group_with_a_note(hseval_file: Path) -> None:
    replace_dataset(hseval_file, "groups", ["p", "", "p", ""])
    opened = open_set(hseval_file)
    assert opened.groups == ("p", "", "p", "")
    assert opened.info.notes == ("groups: 2 of 4 cubes without a group: each is its own group",)


@pytest.mark.parametrize("name", ["cubes", "masks/vein", "labels/secret", "anything"])
def test_external_links_are_refused_anywhere_in_the_file(hseval_file: Path, tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["cubes"] = CUBES

    def add_link(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/cubes")

    edit(hseval_file, add_link)
    assert_refused(hseval_file, f"{name!r} is an external link; expected all data in the file itself")


def test_a_soft_link_through_an_external_one_is_refused(hseval_file: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["inner/cubes"] = CUBES

    def add_link(file: h5py.File) -> None:
        del file["cubes"]
        file["door"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/inner")
        file["cubes"] = h5py.SoftLink("/door/cubes")

    edit(hseval_file, add_link)
    assert_refused(hseval_file, "'door' is an external link")


def test_virtual_and_externally_stored_datasets_are_refused(hseval_file: Path, tmp_path: Path) -> None:
    def add_virtual_dataset(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape=(4, 12, 10), dtype="u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "m", shape=(4, 12, 10))
        file.create_virtual_dataset("masks/virtual", layout)

    edit(hseval_file, add_virtual_dataset)
    assert_refused(hseval_file, "'masks/virtual' is a virtual dataset")
    edit(hseval_file, lambda file: file["masks"].__delitem__("virtual"))
    external = [(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
    edit(hseval_file, lambda file: file.create_dataset("masks/raw", (4, 12, 10), "u1", external=external))
    assert_refused(hseval_file, "'masks/raw' stores its values in another file")


def test_groups_linked_in_a_loop_are_visited_once(hseval_file: Path) -> None:
    edit(hseval_file, lambda file: file.__setitem__("labels/loop", file["/"]))
    assert len(open_set(hseval_file)) == 4


def test_links_inside_the_file_are_followed(hseval_file: Path) -> None:
    def add_link(file: h5py.File) -> None:
        file.move("cubes", "store")
        file["cubes"] = h5py.SoftLink("/store")
        file["masks/vein"] = file["masks/artery"]

    edit(hseval_file, add_link)
    opened = open_set(hseval_file)
    np.testing.assert_array_equal(opened[0].data, CUBES[0])
    assert opened.structures == ("artery", "fov", "vein")


def test_a_foreign_file_with_one_dataset_of_cubes_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["scans/reflectance"] = CUBES.transpose(0, 2, 3, 1)
        file["wavelengths"] = NM
    opened = open_set(tmp_path / "foreign.h5")
    assert len(opened) == 4 and opened.recipe(1).startswith("HDF5 scans/reflectance[1] yxb")
    np.testing.assert_array_equal(opened[1].data, CUBES[1])


def test_a_foreign_file_with_several_candidates_is_refused_with_a_list(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["a"], file["b"] = CUBES, CUBES
    assert_refused(tmp_path / "foreign.h5", "holds 'a' (4, 5, 12, 10), 'b' (4, 5, 12, 10); expected exactly one")


def test_hdf5_is_recognized_by_its_first_bytes_under_any_name(hseval_file: Path) -> None:
    renamed = hseval_file.rename(hseval_file.with_suffix(".cubes"))
    assert len(open_set(renamed)) == 4


def test_opening_a_huge_set_reads_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:  # 10 GB of cubes, each chunk of which is stored as no valid stream
        cubes = file.create_dataset("cubes", (3000, 16, 224, 224), "f4", chunks=(1, 16, 224, 224), compression="gzip")
        for index in range(3000):
            cubes.id.write_direct_chunk((index, 0, 0, 0), b"not read")
        file.attrs.update(format="hseval-cubes", version=1)
    opened = open_set(path)
    assert len(opened) == 3000 and opened.shape(0) == (16, 224, 224)
    with pytest.raises(HsevalError, match=r"cube 2999 .* can't be read"):
        opened[2999]


def read_first_value(opened: HsevalHdf5Set, index: int) -> float:
    return float(opened[index].data[0, 0, 0])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_set_is_read_from_several_processes(hseval_file: Path, method: str) -> None:
    opened = open_set(hseval_file)
    opened[0]  # the parent has the file open
    with multiprocessing.get_context(method).Pool(2) as pool:
        values = pool.starmap(read_first_value, [(opened, index) for index in range(4)] * 4)
    assert values == [float(cube[0, 0, 0]) for cube in CUBES] * 4


def test_a_pickle_holds_no_open_file(hseval_file: Path) -> None:
    opened = open_set(hseval_file)
    opened[0]
    restored = pickle.loads(pickle.dumps(opened))
    np.testing.assert_array_equal(restored[3].data, CUBES[3])
    assert restored.recipe(3) == opened.recipe(3)


def test_an_open_set_is_unaffected_by_a_replaced_file(hseval_file: Path, tmp_path: Path) -> None:
    opened = open_set(hseval_file)
    first = opened[0].data
    write_set(tmp_path / "new.h5", 2 * CUBES, wavelengths=NM)
    (tmp_path / "new.h5").replace(hseval_file)
    np.testing.assert_array_equal(opened[0].data, first)


def test_a_file_that_is_cut_off_while_it_is_open_is_refused(hseval_file: Path) -> None:
    """HDF5 itself reads zeros there."""
    cubes = open_set(hseval_file)
    assert (cubes[0].data == CUBES[0]).all()
    os.truncate(hseval_file, hseval_file.stat().st_size // 2)
    with pytest.raises(HsevalError, match=r"hseval\.h5: (has changed since it was opened|cube 3 .* can't be read)"):
        cubes.read(3)
    with pytest.raises(HsevalError, match=r"hseval\.h5: (has changed|masks of cube 3 can't be read)"):
        cubes.read_masks(3)
