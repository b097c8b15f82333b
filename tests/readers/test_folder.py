"""Folders of single cubes: sidecar files, mixed files, and the choice of the reader."""

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from subprocess import CalledProcessError
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
from hseval.readers.sidecar_files import read_mask_image
from hseval.utils.errors import HsevalError
from tests.helpers.damaged_folders import encode_png, find_folder_problem

NM = np.array([450.0, 500, 550, 600, 650])
CUBES = np.random.default_rng(3).random((3, 5, 12, 10), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three .npy cubes with wavelengths."""
    path = tmp_path / "real"
    path.mkdir()
    for name, cube in zip("abc", CUBES, strict=True):
        np.save(path / f"{name}.npy", cube)
    (path / "wavelengths.txt").write_text("\n".join(map(str, NM)))
    return path


def add_mask(folder: Path, structure: str, stem: str, mask: Any) -> None:
    (folder / "masks" / structure).mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(folder / "masks" / structure / f"{stem}.png")


def assert_refused(path: Path, message: str, **options: Any) -> None:
    """Assert that opening or reading fails with one line that contains ``message``."""
    with pytest.raises(HsevalError) as refusal:
        list(open_set(path, **options))
    assert message in str(refusal.value), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_a_set_in_the_order_of_file_names(folder: Path) -> None:
    opened = open_set(folder)
    assert opened.ids == ("a", "b", "c") and opened.wavelengths.tolist() == NM.tolist()
    for cube, expected in zip(opened, CUBES, strict=True):
        np.testing.assert_array_equal(cube.data, expected)
    assert opened.info.notes == ()


def test_a_wavelengths_file_determines_axis_and_band_order(folder: Path) -> None:
    for name, cube in zip("abc", CUBES, strict=True):
        np.save(folder / f"{name}.npy", cube.transpose(1, 2, 0))
    (folder / "wavelengths.txt").write_text(" ".join(map(str, NM[::-1])))
    opened = open_set(folder)
    np.testing.assert_array_equal(opened[1].data, CUBES[1][::-1])
    assert folder / "wavelengths.txt" in opened.sources(1)
    assert opened.recipe(1).startswith("npy [0] yxb bands 4,3,2,1,0")


def test_given_wavelengths_replace_the_wavelengths_file_with_a_note(folder: Path) -> None:
    opened = open_set(folder, wavelengths=NM + 100)
    assert opened.wavelengths.tolist() == (NM + 100).tolist()
    assert opened.info.notes == ("the given wavelengths replace those of the files",)


def test_wavelengths_that_contradict_the_files_are_refused(folder: Path) -> None:
    for path in folder.glob("*.npy"):
        np.savez(path.with_suffix(".npz"), cube=np.load(path), wavelengths=NM + 1)
        path.unlink()
    assert_refused(folder, "its wavelengths and those of wavelengths.txt differ; give the right ones by --wavelengths")
    assert open_set(folder, wavelengths=NM).wavelengths.tolist() == NM.tolist()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_mask_images_are_true_wherever_they_are_not_black(folder: Path, dtype: Any) -> None:
    masks = CUBES[:, 0] > 0.5
    for name, mask in zip("abc", masks, strict=True):
        add_mask(folder, "artery", name, mask if dtype is bool else mask.astype(dtype) * 7)
    opened = open_set(folder)
    assert opened.structures == ("artery",)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(opened[index].masks["artery"], mask)
    assert folder / "masks" / "artery" / "b.png" in opened.sources(1)


def test_color_images_are_masks_too(folder: Path) -> None:
    image = np.zeros((12, 10, 3), np.uint8)
    image[3:5, 2:4, 2] = 1
    add_mask(folder, "vein", "a", image)
    np.testing.assert_array_equal(open_set(folder)[0].masks["vein"], image.any(axis=2))


def test_missing_mask_images_and_those_without_a_cube_get_a_note(folder: Path) -> None:
    add_mask(folder, "artery", "a", np.ones((12, 10), np.uint8))
    add_mask(folder, "artery", "typo", np.ones((12, 10), np.uint8))
    opened = open_set(folder)
    assert "artery" in opened[0].masks and "artery" not in opened[1].masks
    assert opened.info.notes == (
        "masks/artery: 1 image without a cube of that name (typo.png)",
        "masks/artery: 2 of 3 cubes without an image",
    )


def test_a_mask_of_another_shape_or_an_unreadable_one_is_refused(folder: Path) -> None:
    add_mask(folder, "artery", "b", np.ones((10, 12), np.uint8))
    assert_refused(folder, "b.png: a mask of 10 x 12 pixels, but the cube has 12 x 10")
    (folder / "masks" / "artery" / "b.png").write_bytes(b"no image")
    assert_refused(folder, "b.png: can't be read as a PNG image: UnidentifiedImageError")


def test_a_table_provides_groups_and_labels(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group,diagnosis\nc,q,ill\na,p,well\nb,p,ill\n")
    opened = open_set(folder)
    assert opened.groups == ("p", "p", "q") and opened.labels == {"diagnosis": ["well", "ill", "ill"]}
    assert opened[2].group == "q" and folder / "cubes.csv" in opened.sources(0)


def test_a_table_without_ids_or_without_a_cube_is_refused(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,p\n")
    assert_refused(folder, "cubes.csv: no row for 2 cubes, such as 'b'")
    (folder / "cubes.csv").write_text("name,group\na,p\n")
    assert_refused(folder, "cubes.csv: has no column 'id'")


def test_a_cube_without_a_group_is_its_own_group_with_a_note(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,\nb,p\nc,  \n")
    opened = open_set(folder)
    assert opened.groups == ("", "p", "") and opened[0].group == ""
    assert opened.info.notes == ("cubes.csv: 2 of 3 cubes without a group: each is its own group",)
    assert inspect_set(opened).groups == 3
    (folder / "cubes.csv").write_text("id,group\na,p\nb,p\nc,q\n")
    assert open_set(folder).info.notes == ()


def test_a_repeated_id_or_column_of_a_table_is_refused_by_name(folder: Path) -> None:
    (folder / "cubes.csv").write_text("id,group\na,p\nb,p\na,q\n")
    assert_refused(folder, "cubes.csv: the id 'a' occurs 2 times; once expected")
    (folder / "cubes.csv").write_text("id,group\na,p\na,p\na,q\nb,p\nb,p\n")
    assert_refused(folder, "cubes.csv: the id 'a' occurs 3 times (and 1 other too); once expected")
    (folder / "cubes.csv").write_text("id,group,id\na,p,1\nb,p,2\nc,p,3\n")
    assert_refused(folder, "cubes.csv: the column 'id' occurs 2 times; once expected")
    (folder / "cubes.csv").write_text("id,group,,\na,p,,\nb,p,,\nc,q,,\n,,,\n,,,\n")  # as spreadsheets pad them
    assert open_set(folder).groups == ("p", "p", "q")


def test_a_folder_with_a_cubes_suffix_is_refused_and_not_ignored(folder: Path) -> None:
    (folder / "c1.npy").mkdir()
    assert_refused(folder, "c1.npy: a folder with the suffix of npy files; a file expected")


def test_a_single_file_ignores_sidecar_files(folder: Path) -> None:
    opened = open_set(folder / "a.npy")
    assert len(opened) == 1 and not opened.info.wavelengths_known and opened.sources(0) == (folder / "a.npy",)


def test_mixed_sizes_are_read_and_mixed_band_counts_are_refused(folder: Path) -> None:
    np.save(folder / "d.npy", CUBES[0][:, :6])
    opened = open_set(folder)
    assert [opened.shape(index) for index in (0, 3)] == [(5, 12, 10), (5, 6, 10)] and opened[3].data.shape == (5, 6, 10)
    np.save(folder / "e.npy", CUBES[0][:4])
    assert_refused(folder, "e.npy: 4 bands, but a.npy has 5: the cubes of a set need the same bands")


def test_a_mixed_file_whose_header_was_not_checked_is_refused_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileset, "MAX_EAGER_HEADERS", 1)
    np.save(folder / "d.npy", CUBES[0][:4])
    opened = open_set(folder)
    with pytest.raises(HsevalError, match=r"d.npy: 4 bands, but a.npy has 5"):
        opened[3]


def test_files_with_different_wavelengths_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    np.savez(other / "a.npz", cube=CUBES[0], wavelengths=NM)
    np.savez(other / "b.npz", cube=CUBES[1], wavelengths=NM + 0.2)
    assert_refused(other, "b.npz: its wavelengths differ from those of a.npz by more than 0.1 nm")
    np.savez(other / "b.npz", cube=CUBES[1][::-1], wavelengths=NM[::-1])
    np.testing.assert_array_equal(open_set(other)[1].data, CUBES[1])  # each file's own band order


def test_a_file_of_many_cubes_in_a_folder_is_refused(folder: Path) -> None:
    np.save(folder / "d.npy", CUBES)
    assert_refused(folder, "d.npy: holds 3 cubes; in a folder, expected one cube per file")


def test_mixed_formats_in_a_folder_are_refused(folder: Path) -> None:
    np.savez(folder / "d.npz", cube=CUBES[0])
    assert_refused(folder, "cubes of several formats (3 npy and 1 npz); expected one format per folder")


def test_folders_without_cubes_are_refused_with_what_is_expected(tmp_path: Path) -> None:
    assert_refused(tmp_path, "an empty folder; cubes expected, with names ending in .npy, .npz, .h5")
    (tmp_path / "notes.txt").write_text("x")
    assert_refused(tmp_path, "holds no cubes, only .txt; cubes expected")


def test_a_missing_path_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.h5", "none.h5: no such file or folder")
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert_refused(
        tmp_path / "a.jpg", "a.jpg: no reader for this kind of file; expected a folder or a name ending in .npy"
    )


def test_hidden_files_are_ignored(folder: Path) -> None:
    (folder / ".half.npy").write_bytes(b"half written")
    assert len(open_set(folder)) == 3


def test_a_truncated_file_whose_header_was_not_checked_is_refused_when_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fileset, "MAX_EAGER_HEADERS", 1)
    (folder / "c.npy").write_bytes((folder / "c.npy").read_bytes()[:-10])
    opened = open_set(folder)
    with pytest.raises(HsevalError, match=r"c.npy: truncated"):
        opened[2]


def read_first_value(opened: CubeSet, index: int) -> float:
    return float(opened[index].data[0, 0, 0])


def test_a_folder_is_read_from_several_processes(folder: Path) -> None:
    opened = open_set(folder)
    with ProcessPoolExecutor(2) as pool:
        values = list(pool.map(read_first_value, [opened] * 6, [0, 1, 2] * 2))
    assert values == [float(cube[0, 0, 0]) for cube in CUBES] * 2
    assert pickle.loads(pickle.dumps(opened)).recipe(1) == opened.recipe(1)


def test_a_set_is_returned_unchanged_and_an_array_becomes_a_set() -> None:
    opened = open_set(CUBES, wavelengths=NM[::-1])
    assert isinstance(opened, ArraySet) and open_set(opened) is opened
    np.testing.assert_array_equal(opened[0].data, CUBES[0][::-1])
    transposed = open_set(CUBES.transpose(0, 2, 3, 1), layout="yxb")
    np.testing.assert_array_equal(transposed[2].data, CUBES[2])
    assert not transposed.info.wavelengths_known
    with pytest.raises(HsevalError, match=r"array of shape \(5, 12, 10\) and type float32; numbers \(n, band, y, x\)"):
        open_set(CUBES[0])


class RawReader:
    """A third-party reader."""

    name: ClassVar[str] = "raw"
    summary: ClassVar[str] = "files with suffix .raw3 and, unusually, .npy"

    def claims(self, path: Path) -> bool:
        return path.suffix in (".raw3", ".npy")

    def open(self, path: Path, *, layout: str | None = None, wavelengths: Any = None) -> CubeSet:
        return ArraySet(CUBES, wavelengths=NM, location=str(path))


class SecondRawReader(RawReader):
    name: ClassVar[str] = "raw-two"


class FailingReader(RawReader):
    name: ClassVar[str] = "failing"

    def claims(self, path: Path) -> bool:
        raise RuntimeError("broken")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PluginManager]]:
    """Return a function that registers readers in addition to the built-in ones."""
    import hseval.builtin

    def register_readers(*readers: type) -> PluginManager:
        plugins = PluginManager()
        plugins.register(hseval.builtin, name="built-in", distribution=BUILTIN_DISTRIBUTION)
        for reader in readers:
            hook = hookimpl(specname="hseval_readers")(lambda reader=reader: [reader])
            plugin = type("Plugin", (), {"hseval_readers": staticmethod(hook)})()
            plugins.register(plugin, name=reader.name, distribution=f"hseval-{reader.name}")
        monkeypatch.setattr("hseval.pipeline.open.get_plugins", lambda: plugins)
        return plugins

    yield register_readers


def test_third_party_readers_have_priority_over_built_in_ones(
    folder: Path, registry: Callable[..., PluginManager]
) -> None:
    registry(RawReader)
    assert isinstance(open_set(folder / "a.npy"), ArraySet)
    assert len(open_set(folder)) == 3


def test_two_third_party_readers_that_claim_one_path_are_named(
    folder: Path, registry: Callable[..., PluginManager]
) -> None:
    registry(RawReader, SecondRawReader)
    assert_refused(folder / "a.npy", "claimed by the readers 'raw' of hseval-raw and 'raw-two' of hseval-raw-two")


def test_a_reader_that_fails_in_claims_is_listed_and_the_others_work(
    folder: Path, registry: Callable[..., PluginManager]
) -> None:
    plugins = registry(FailingReader)
    assert len(open_set(folder)) == 3
    assert [entry.error for entry in plugins.broken_plugins] == ["reader 'failing': claims: RuntimeError: broken"]


def test_links_to_cubes_and_masks_are_followed(folder: Path, tmp_path: Path) -> None:
    add_mask(folder, "artery", "a", np.ones((12, 10), np.uint8))
    links = tmp_path / "links"
    links.mkdir()
    for name in ("a.npy", "b.npy", "masks", "wavelengths.txt"):
        (links / name).symlink_to(folder / name)
    opened = open_set(links)
    assert (
        opened.ids == ("a", "b") and opened.info.wavelengths_known and opened.info.notes[0].startswith("masks/artery")
    )
    np.testing.assert_array_equal(opened[1].data, CUBES[1])
    assert opened[0].masks["artery"].all()


def test_a_link_that_leads_nowhere_costs_its_cube_and_a_note(folder: Path) -> None:
    for name in "def":
        (folder / f"{name}.npy").symlink_to(folder / "none.npy")
    (folder / "g.npy").symlink_to(folder / "g.npy")
    opened = open_set(folder)
    assert opened.ids == ("a", "b", "c")
    nowhere = "a link that leads nowhere"
    assert opened.info.notes == (
        f"4 cubes left out: d.npy ({nowhere}), e.npy ({nowhere}), f.npy ({nowhere}) and 1 more",
    )
    for name in "abc":
        (folder / f"{name}.npy").unlink()
    assert_refused(folder, f"none of its cubes can be opened: d.npy ({nowhere})")


def test_an_envi_header_whose_raw_file_is_a_link_that_leads_nowhere_costs_one_cube(tmp_path: Path) -> None:
    import spectral

    for name in ("a", "b"):
        spectral.envi.save_image(str(tmp_path / f"{name}.hdr"), CUBES[0].transpose(1, 2, 0), ext="raw")
    (tmp_path / "b.raw").unlink()
    (tmp_path / "b.raw").symlink_to(tmp_path / "gone.raw")
    opened = open_set(tmp_path)
    assert opened.ids == ("a",)
    assert opened.info.notes[-1] == "1 cube left out: b.hdr (b.raw: a link that leads nowhere)"


def test_a_loop_of_folders_ends(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    (folder / "masks").mkdir()
    (folder / "masks" / "all").symlink_to(folder)
    assert len(open_set(folder)) == 3


def test_mask_links_that_lead_nowhere_are_noted(folder: Path) -> None:
    add_mask(folder, "artery", "a", np.ones((12, 10), np.uint8))
    (folder / "masks" / "artery" / "b.png").symlink_to(folder / "none")
    (folder / "masks" / "vein").symlink_to(folder / "none")
    opened = open_set(folder)
    nowhere = "a link that leads nowhere"
    assert opened.info.notes == (
        f"masks left out: masks/artery/b.png ({nowhere}), masks/vein ({nowhere})",
        "masks/artery: 2 of 3 cubes without an image",
    )
    assert opened.structures == ("artery",) and opened[1].masks == {}


@pytest.mark.parametrize("name", ["wavelengths.txt", "cubes.csv"])
def test_a_link_to_a_missing_table_or_list_of_wavelengths_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "none")
    assert_refused(folder, "no such file")


def test_a_mask_image_starts_no_program(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    programs, trace = tmp_path / "bin", tmp_path / "trace"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\necho started >> {trace}\nexit 1\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = folder / "masks" / "artery" / "a.png"
    path.parent.mkdir(parents=True)
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 12\n%%EndComments\nshowpage\n%%EOF\n")
    assert_refused(folder, "a.png: can't be read as a PNG image: UnidentifiedImageError")
    assert not trace.exists()
    with pytest.raises(CalledProcessError), Image.open(path) as image:  # the trap works
        image.load()
    assert trace.exists()


@pytest.mark.parametrize("format_name", ["BMP", "GIF", "JPEG", "PPM", "TGA", "TIFF", "WEBP"])
def test_a_mask_image_of_another_format_is_refused(folder: Path, format_name: str) -> None:
    path = folder / "masks" / "artery" / "a.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (10, 12), 255).save(path, format_name)
    assert_refused(folder, "a.png: can't be read as a PNG image")


def test_palettes_transparency_and_16_bits_of_gray_are_masks(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    mask = CUBES[0, 0] > 0.5
    indexed = Image.fromarray(np.where(mask, 2, 1).astype(np.uint8), "P")
    indexed.putpalette([9, 9, 9, 0, 0, 0, 0, 0, 1])
    (folder / "masks" / "artery").mkdir(parents=True)
    path = folder / "masks" / "artery" / "a.png"
    opaque = np.dstack([mask.astype(np.uint8), np.zeros((12, 10), np.uint8)])
    for image, options in (
        (indexed, {"transparency": bytes([0, 9, 0])}),
        (Image.fromarray(opaque, "LA"), {}),  # transparent everywhere
        (Image.fromarray(mask.astype(np.uint16)), {}),
    ):
        image.save(path, **options)
        np.testing.assert_array_equal(open_set(folder)[0].masks["artery"], mask)
    assert not recwarn.list


def test_what_pillow_reads_in_part_is_refused(folder: Path) -> None:
    frames = [Image.new("L", (10, 12), value) for value in (0, 255)]
    (folder / "masks" / "artery").mkdir(parents=True)
    path = folder / "masks" / "artery" / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert_refused(folder, "a.png: an animation; a mask of one image expected")
    path.write_bytes(encode_png(np.ones((12, 10), bool), bits=16, channels=3))
    assert_refused(folder, "a.png: 16-bit colors or transparency; 8 bits, or 16 bits of gray expected")


def test_a_huge_mask_image_is_refused_by_its_header(folder: Path) -> None:
    (folder / "masks" / "artery").mkdir(parents=True)
    path = folder / "masks" / "artery" / "a.png"
    Image.new("1", (11_000, 12_000)).save(path)  # 132 million pixels in 16 kB
    assert_refused(folder, "a.png: a mask of 12000 x 11000 pixels, but the cube has 12 x 10")


def test_a_flipped_bit_of_a_mask_image_is_found(folder: Path) -> None:
    mask = CUBES[0, 0] > 0.5
    add_mask(folder, "artery", "a", mask.astype(np.uint8))
    path = folder / "masks" / "artery" / "a.png"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            found = read_mask_image(path, (12, 10))
        except HsevalError:
            continue
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("kind", ["table", "mask"])
def test_a_damaged_table_or_mask_is_refused_or_read_as_another_program_reads_it(kind: str, tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        result, problem = find_folder_problem(kind, folder, np.random.default_rng([13, number]))
        assert not problem, f"{kind} {number}: {result}: {problem}"


def test_tables_that_declare_much_are_refused(folder: Path) -> None:
    table = folder / "cubes.csv"
    table.write_text(",".join(["id", *map(str, range(10**6))]) + "\n")
    assert_refused(folder, "cubes.csv: has 1000001 columns; at most 1000 expected")
    with table.open("wb") as handle:
        handle.truncate(10**9)
    assert_refused(folder, "cubes.csv: has 1000000000 bytes; at most 16777216 expected")
    table.write_text("id,x\n" + "a," + "x" * 200_000)
    assert_refused(folder, "cubes.csv: can't be read as a table: field larger than field limit")
    table.write_text('id,x\na,1\nb,2\nc,"3\n')
    assert_refused(folder, "cubes.csv: can't be read as a table: unexpected end of data")
    table.write_text("id,x\na,1\nb,2\nc,3\n", encoding="utf-16")
    assert_refused(folder, "cubes.csv: can't be read as a table: not UTF-8 text: it has null bytes")


def test_lists_of_wavelengths_that_declare_much_are_refused(folder: Path) -> None:
    path = folder / "wavelengths.txt"
    path.write_text(" ".join(["500"] * 10**6))
    assert_refused(folder, "wavelengths.txt: has 3999999 bytes; at most 1048576 expected")
    path.write_text("9" * 10**6)
    assert_refused(folder, "a.npy: 1 wavelength, but axes (5, 12, 10)")
    path.write_text("450 " + "x" * 10**6)
    assert_refused(folder, "wavelengths.txt: line 1: 'xxx")
    path.write_text("450 500", encoding="utf-16-le")
    assert_refused(folder, "wavelengths.txt: wavelengths can't be read: not UTF-8 text: it has null bytes")


def test_scale_factors_that_float32_lacks_are_refused(tmp_path: Path) -> None:
    import spectral

    def save(factor: str) -> None:
        metadata = {"reflectance scale factor": factor}
        image = CUBES[0].transpose(1, 2, 0)
        spectral.envi.save_image(str(tmp_path / "a.hdr"), image, ext="raw", force=True, metadata=metadata)

    for factor in ("1e-320", "1e-40", "1e300", "-1e-320"):
        save(factor)
        assert_refused(tmp_path, f"a.hdr: a scale factor of {float(factor)}; a number from 1e-30 to 1e+30 expected")
    for factor in ("1e-20", "-2", "0"):
        save(factor)
        expected = CUBES[0] / np.float32(float(factor) or 1)
        np.testing.assert_array_equal(open_set(tmp_path)[0].data, expected)


def test_a_file_that_is_written_to_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    for index in range(3):
        np.save(tmp_path / f"{index}.npy", np.full((4, 8, 8), index + 1.0, np.float32))
    cubes = open_set(tmp_path)
    np.save(tmp_path / "1.npy", np.full((4, 8, 8), 9.0, np.float32))
    assert (cubes[0].data == 1).all() and (cubes[2].data == 3).all()
    with pytest.raises(HsevalError, match=r"1\.npy: has changed since it was opened"):
        cubes.read(1)


def test_structures_of_later_files_are_structures_of_the_set(tmp_path: Path) -> None:
    cube = np.ones((4, 8, 8), np.float32)
    np.savez(tmp_path / "a.npz", cube=cube)
    np.savez(tmp_path / "b.npz", cube=cube, mask_vein=np.eye(8, dtype=bool))
    cubes = open_set(tmp_path)
    assert cubes.structures == ("vein",)
    assert "vein" not in cubes[0].masks and (cubes[1].masks["vein"] == np.eye(8, dtype=bool)).all()
