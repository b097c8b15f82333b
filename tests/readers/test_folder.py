"""Folders of single cubes: what stands beside them, what they have to share, and which reader opens what."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from hseval.core.cubes import ArraySet, CubeSet
from hseval.core.hookspecs import hookimpl
from hseval.core.plugin_manager import BUILTIN_DISTRIBUTION, PluginManager
from hseval.inspection.inspect import inspect_set
from hseval.pipeline.open import open_set
from hseval.readers import fileset
from hseval.utils.errors import HsevalError

NM = np.array([450.0, 500, 550, 600, 650])
CUBES = np.random.default_rng(3).random((3, 5, 12, 10), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cubes as .npy with wavelengths."""
    path = tmp_path / "real"
    path.mkdir()
    for name, cube in zip("abc", CUBES, strict=True):
        np.save(path / f"{name}.npy", cube)
    (path / "wavelengths.txt").write_text("\n".join(map(str, NM)))
    return path


def add_mask(folder: Path, structure: str, stem: str, mask: Any) -> None:
    (folder / "masks" / structure).mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(folder / "masks" / structure / f"{stem}.png")


def refused(path: Path, message: str, **given: Any) -> None:
    """Assert that opening, or reading, fails with one line that holds ``message``."""
    with pytest.raises(HsevalError) as told:
        list(open_set(path, **given))
    assert message in str(told.value), str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_is_a_set_in_the_order_of_its_names(folder: Path) -> None:
    opened = open_set(folder)
    assert opened.ids == ("a", "b", "c") and opened.wavelengths.tolist() == NM.tolist()
    for cube, expected in zip(opened, CUBES, strict=True):
        np.testing.assert_array_equal(cube.data, expected)
    assert opened.info.notes == ()


def test_wavelengths_beside_the_cubes_settle_axis_and_band_order(folder: Path) -> None:
    for name, cube in zip("abc", CUBES, strict=True):
        np.save(folder / f"{name}.npy", cube.transpose(1, 2, 0))
    (folder / "wavelengths.txt").write_text(" ".join(map(str, NM[::-1])))
    opened = open_set(folder)
    np.testing.assert_array_equal(opened[1].data, CUBES[1][::-1])
    assert folder / "wavelengths.txt" in opened.sources(1)
    assert opened.recipe(1).startswith("npy [0] yxb bands 4,3,2,1,0")


def test_given_wavelengths_replace_those_beside_the_cubes_with_a_note(folder: Path) -> None:
    opened = open_set(folder, wavelengths=NM + 100)
    assert opened.wavelengths.tolist() == (NM + 100).tolist()
    assert opened.info.notes == ("the given wavelengths replace those that the files bring",)


def test_wavelengths_that_contradict_the_files_are_refused(folder: Path) -> None:
    for path in folder.glob("*.npy"):
        np.savez(path.with_suffix(".npz"), cube=np.load(path), wavelengths=NM + 1)
        path.unlink()
    refused(folder, "its wavelengths and those of wavelengths.txt differ; say which hold by --wavelengths")
    assert open_set(folder, wavelengths=NM).wavelengths.tolist() == NM.tolist()


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16])
def test_masks_beside_the_cubes_are_true_wherever_they_are_not_black(folder: Path, kind: Any) -> None:
    masks = CUBES[:, 0] > 0.5
    for name, mask in zip("abc", masks, strict=True):
        add_mask(folder, "artery", name, mask if kind is bool else mask.astype(kind) * 7)
    opened = open_set(folder)
    assert opened.structures == ("artery",)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(opened[index].masks["artery"], mask)
    assert folder / "masks" / "artery" / "b.png" in opened.sources(1)


def test_colour_pictures_are_masks_too(folder: Path) -> None:
    picture = np.zeros((12, 10, 3), np.uint8)
    picture[3:5, 2:4, 2] = 1
    add_mask(folder, "vein", "a", picture)
    np.testing.assert_array_equal(open_set(folder)[0].masks["vein"], picture.any(axis=2))


def test_a_missing_mask_and_one_without_a_cube_are_noted(folder: Path) -> None:
    add_mask(folder, "artery", "a", np.ones((12, 10), np.uint8))
    add_mask(folder, "artery", "typo", np.ones((12, 10), np.uint8))
    opened = open_set(folder)
    assert "artery" in opened[0].masks and "artery" not in opened[1].masks
    assert opened.info.notes == (
        "masks/artery: 1 pictures without a cube of that name (typo.png)",
        "masks/artery: 2 of 3 cubes have no picture",
    )


def test_a_mask_of_another_shape_or_an_unreadable_one_is_refused(folder: Path) -> None:
    add_mask(folder, "artery", "b", np.ones((10, 12), np.uint8))
    refused(folder, "b.png: a mask of 10 x 12 pixels, but the cube has 12 x 10")
    (folder / "masks" / "artery" / "b.png").write_bytes(b"no picture")
    refused(folder, "b.png: can't be read as a picture")


def test_a_table_brings_groups_and_labels(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group,diagnosis\nc,q,ill\na,p,well\nb,p,ill\n")
    opened = open_set(folder)
    assert opened.groups == ("p", "p", "q") and opened.labels == {"diagnosis": ["well", "ill", "ill"]}
    assert opened[2].group == "q" and folder / "cubes.csv" in opened.sources(0)


def test_a_table_without_ids_or_without_a_cube_is_refused(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,p\n")
    refused(folder, "cubes.csv: 2 cubes have no row, 'b' for one")
    (folder / "cubes.csv").write_text("name,group\na,p\n")
    refused(folder, "cubes.csv: has no column 'id'")


def test_a_cube_without_a_group_stands_alone_with_a_note(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,\nb,p\nc,  \n")
    opened = open_set(folder)
    assert opened.groups == ("", "p", "") and opened[0].group == ""
    assert opened.info.notes == ("cubes.csv: 2 of 3 cubes have no group: each stands alone",)
    assert inspect_set(opened).groups == 3
    (folder / "cubes.csv").write_text("id,group\na,p\nb,p\nc,q\n")
    assert open_set(folder).info.notes == ()


def test_a_table_with_an_id_or_a_column_twice_names_it(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,p\nb,p\na,q\n")
    refused(folder, "cubes.csv: the id 'a' occurs 2 times; once expected")
    (folder / "cubes.csv").write_text("id,group\na,p\na,p\na,q\nb,p\nb,p\n")
    refused(folder, "cubes.csv: the id 'a' occurs 3 times (and 1 others too); once expected")
    (folder / "cubes.csv").write_text("id,group,id\na,p,1\nb,p,2\nc,p,3\n")
    refused(folder, "cubes.csv: the column 'id' occurs 2 times; once expected")
    (folder / "cubes.csv").write_text("id,group,,\na,p,,\nb,p,,\nc,q,,\n,,,\n,,,\n")  # as spreadsheets pad them
    assert open_set(folder).groups == ("p", "p", "q")


def test_a_folder_called_like_a_cube_is_no_cube_left_out_in_silence(folder: Path) -> None:
    (folder / "c1.npy").mkdir()
    refused(folder, "c1.npy: a folder, though its name ends as a file of npy does; a file expected")


def test_a_single_file_stands_alone(folder: Path) -> None:
    opened = open_set(folder / "a.npy")
    assert len(opened) == 1 and not opened.info.wavelengths_known and opened.sources(0) == (folder / "a.npy",)


def test_mixed_sizes_are_a_set_and_mixed_bands_are_not(folder: Path) -> None:
    np.save(folder / "d.npy", CUBES[0][:, :6])
    opened = open_set(folder)
    assert [opened.shape(index) for index in (0, 3)] == [(5, 12, 10), (5, 6, 10)] and opened[3].data.shape == (5, 6, 10)
    np.save(folder / "e.npy", CUBES[0][:4])
    refused(folder, "e.npy: 4 bands, but a.npy has 5: the cubes of a set need the same bands")


def test_a_mixed_file_beyond_those_looked_at_is_found_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileset, "MAX_EAGER_HEADERS", 1)
    np.save(folder / "d.npy", CUBES[0][:4])
    opened = open_set(folder)
    with pytest.raises(HsevalError, match=r"d.npy: 4 bands, but a.npy has 5"):
        opened[3]


def test_files_whose_wavelengths_differ_are_no_set(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    np.savez(other / "a.npz", cube=CUBES[0], wavelengths=NM)
    np.savez(other / "b.npz", cube=CUBES[1], wavelengths=NM + 0.2)
    refused(other, "b.npz: its wavelengths differ from those of a.npz by more than 0.1 nm")
    np.savez(other / "b.npz", cube=CUBES[1][::-1], wavelengths=NM[::-1])
    np.testing.assert_array_equal(open_set(other)[1].data, CUBES[1])  # each file's own band order


def test_a_file_of_many_cubes_does_not_belong_in_a_folder(folder: Path) -> None:
    np.save(folder / "d.npy", CUBES)
    refused(folder, "d.npy: holds 3 cubes; in a folder, one cube a file expected")


def test_formats_do_not_mix_in_a_folder(folder: Path) -> None:
    np.savez(folder / "d.npz", cube=CUBES[0])
    refused(folder, "cubes of several formats (3 npy and 1 npz); one format a folder expected")


def test_an_empty_folder_and_one_without_cubes_say_what_is_expected(tmp_path: Path) -> None:
    refused(tmp_path, "an empty folder; cubes expected, with names ending in .npy, .npz, .h5")
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path, "holds no cubes, only .txt; cubes expected")


def test_a_missing_path_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.h5", "none.h5: no such file or folder")
    (tmp_path / "a.jpg").write_bytes(b"x")
    refused(tmp_path / "a.jpg", "a.jpg: no reader for this kind of file; a folder, or a name ending in .npy")


def test_hidden_files_are_no_cubes(folder: Path) -> None:
    (folder / ".half.npy").write_bytes(b"half written")
    assert len(open_set(folder)) == 3


def test_a_truncated_file_of_a_large_folder_is_named_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileset, "MAX_EAGER_HEADERS", 1)
    (folder / "c.npy").write_bytes((folder / "c.npy").read_bytes()[:-10])
    opened = open_set(folder)
    with pytest.raises(HsevalError, match=r"c.npy: truncated"):
        opened[2]


def first_value(opened: CubeSet, index: int) -> float:
    return float(opened[index].data[0, 0, 0])


def test_a_folder_is_read_from_several_processes(folder: Path) -> None:
    opened = open_set(folder)
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(first_value, [opened] * 6, [0, 1, 2] * 2))
    assert found == [float(cube[0, 0, 0]) for cube in CUBES] * 2
    assert pickle.loads(pickle.dumps(opened)).recipe(1) == opened.recipe(1)


def test_a_set_is_returned_as_it_is_and_an_array_becomes_one() -> None:
    opened = open_set(CUBES, wavelengths=NM[::-1])
    assert isinstance(opened, ArraySet) and open_set(opened) is opened
    np.testing.assert_array_equal(opened[0].data, CUBES[0][::-1])
    turned = open_set(CUBES.transpose(0, 2, 3, 1), layout="yxb")
    np.testing.assert_array_equal(turned[2].data, CUBES[2])
    assert not turned.info.wavelengths_known
    with pytest.raises(HsevalError, match=r"array of shape \(5, 12, 10\) and type float32; numbers \(n, band, y, x\)"):
        open_set(CUBES[0])


class Raw:
    """A third party's reader."""

    name: ClassVar[str] = "raw"
    summary: ClassVar[str] = "files that end in .raw3 and, against custom, .npy"

    def claims(self, path: Path) -> bool:
        return path.suffix in (".raw3", ".npy")

    def open(self, path: Path, *, layout: str | None = None, wavelengths: Any = None) -> CubeSet:
        return ArraySet(CUBES, wavelengths=NM, location=str(path))


class Rival(Raw):
    name: ClassVar[str] = "rival"


class Failing(Raw):
    name: ClassVar[str] = "failing"

    def claims(self, path: Path) -> bool:
        raise RuntimeError("no idea")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PluginManager]]:
    """Register throw-away readers beside the built-in ones."""
    import hseval.builtin

    def build(*readers: type) -> PluginManager:
        loaded = PluginManager()
        loaded.register(hseval.builtin, name="built-in", distribution=BUILTIN_DISTRIBUTION)
        for reader in readers:
            hook = hookimpl(specname="hseval_readers")(lambda reader=reader: [reader])
            plugin = type("Plugin", (), {"hseval_readers": staticmethod(hook)})()
            loaded.register(plugin, name=reader.name, distribution=f"hseval-{reader.name}")
        monkeypatch.setattr("hseval.pipeline.open.get_plugins", lambda: loaded)
        return loaded

    yield build


def test_a_third_partys_reader_is_asked_before_the_built_in_ones(
    folder: Path, registry: Callable[..., PluginManager]
) -> None:
    registry(Raw)
    assert isinstance(open_set(folder / "a.npy"), ArraySet)
    assert len(open_set(folder)) == 3


def test_two_third_parties_that_claim_one_path_are_named(folder: Path, registry: Callable[..., PluginManager]) -> None:
    registry(Raw, Rival)
    refused(folder / "a.npy", "claimed by the readers 'raw' of hseval-raw and 'rival' of hseval-rival")


def test_a_reader_that_fails_to_say_is_listed_and_the_others_work(
    folder: Path, registry: Callable[..., PluginManager]
) -> None:
    loaded = registry(Failing)
    assert len(open_set(folder)) == 3
    assert [entry.error for entry in loaded.broken_plugins] == ["reader 'failing': claims: RuntimeError: no idea"]
