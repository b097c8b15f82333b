"""Each format, written by the library made for it, reads back to the same cube."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io
import spectral.io.envi
import tifffile

from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError

NM = np.array([450.0, 500, 550, 600, 650])
CUBE = np.random.default_rng(3).random((5, 12, 10), dtype=np.float32)
MASK = CUBE[0] > 0.5


def assert_refused(path: Path, message: str, **options: Any) -> None:
    """Assert that opening, or reading the first cube, fails with one line that contains ``message``."""
    with pytest.raises(HsevalError) as refusal:
        open_set(path, **options)[0]
    assert message in str(refusal.value), str(refusal.value)
    assert str(path.name) in str(refusal.value) and "\n" not in str(refusal.value)


def write_npz(path: Path, **changes: Any) -> None:
    np.savez(path, **({"cube": CUBE, "wavelengths": NM, "masks/artery": MASK} | changes))


def write_h5(path: Path, **changes: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in ({"cube": CUBE, "wavelengths": NM, "masks/artery": MASK} | changes).items():
            file[name] = values


def write_mat5(path: Path, **changes: Any) -> None:
    scipy.io.savemat(path, {"cube": CUBE.transpose(1, 2, 0), "wavelengths": NM, "masks": {"artery": MASK}} | changes)


def write_mat73(path: Path, **changes: Any) -> None:
    content = {"cube": CUBE.transpose(1, 2, 0), "wavelengths": NM, "masks": {"artery": MASK}} | changes
    hdf5storage.savemat(path, content, fmt="7.3", store_python_metadata=False)


def write_envi(path: Path, *, data: Any = CUBE, metadata: dict[str, Any] | None = None, **options: Any) -> None:
    header = {"wavelength": NM.tolist(), "wavelength units": "Nanometers"} | (metadata or {})
    spectral.io.envi.save_image(str(path), data.transpose(1, 2, 0), metadata=header, force=True, **options)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat5), (".mat", write_mat73)]
)
def test_containers_provide_cube_wavelengths_and_masks(tmp_path: Path, suffix: str, write: Callable[..., None]) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path)
    opened = open_set(path)
    cube = opened[0]
    np.testing.assert_array_equal(cube.data, CUBE)
    np.testing.assert_array_equal(cube.masks["artery"], MASK)
    assert cube.data.dtype == np.float32 and cube.masks["artery"].dtype == bool and cube.id == "eye"
    assert opened.wavelengths.tolist() == NM.tolist() and opened.structures == ("artery",)
    assert opened.shape(0) == (5, 12, 10) and opened.info.notes == ()


@pytest.mark.parametrize(("suffix", "write"), [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat5)])
def test_wavelengths_out_of_order_sort_the_bands_in_every_container(
    tmp_path: Path, suffix: str, write: Callable[..., None]
) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path, wavelengths=NM[::-1])
    opened = open_set(path)
    np.testing.assert_array_equal(opened[0].data, CUBE[::-1])
    assert "out of order" in opened.info.notes[0] and "bands 4,3,2,1,0" in opened.recipe(0)


@pytest.mark.parametrize(("suffix", "write"), [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat73)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, suffix: str, write: Callable[..., None]) -> None:
    path = tmp_path / f"eye{suffix}"
    masks = {"masks": {"artery": MASK[1:]}} if suffix == ".mat" else {"masks/artery": MASK[1:]}
    write(path, **masks)
    assert_refused(path, "mask 'artery': a mask of 11 x 10 pixels, but the cube has 12 x 10")


def test_npy_holds_one_cube_or_a_set(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", CUBE)
    np.save(tmp_path / "set.npy", np.stack([CUBE, 2 * CUBE]).astype(np.float64))
    assert len(open_set(tmp_path / "one.npy")) == 1
    opened = open_set(tmp_path / "set.npy", wavelengths=NM)
    np.testing.assert_array_equal(opened[1].data, 2 * CUBE)
    assert opened.ids == ("000000", "000001") and opened.recipe(0) != opened.recipe(1)


def test_npy_in_fortran_order_and_yxb_reads_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(CUBE.transpose(1, 2, 0)))
    np.testing.assert_array_equal(open_set(tmp_path / "f.npy", layout="yxb")[0].data, CUBE)


def test_integers_keep_their_values(tmp_path: Path) -> None:
    counts = (CUBE * 60000).astype(np.uint16)
    np.save(tmp_path / "counts.npy", counts.astype(">u2"))
    np.testing.assert_array_equal(open_set(tmp_path / "counts.npy")[0].data, counts.astype(np.float32))


def test_a_pickled_npy_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert_refused(tmp_path / "p.npy", "holds pickled Python objects, which are never loaded")
    (tmp_path / "q.npy").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.")
    assert_refused(tmp_path / "q.npy", "not a NumPy array (pickles are never loaded)")
    np.savez(tmp_path / "p.npz", cube=np.full((2, 3, 3), None, dtype=object))
    assert_refused(tmp_path / "p.npz", "holds pickled Python objects, which are never loaded")


def test_a_truncated_npy_is_refused_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    np.save(path, CUBE)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HsevalError, match=r"t.npy: truncated: its header states 2528 bytes, the file has 2428"):
        open_set(path)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat5), (".mat", write_mat73)]
)
def test_truncated_containers_are_refused_in_one_line(tmp_path: Path, suffix: str, write: Callable[..., None]) -> None:
    path = tmp_path / f"cut{suffix}"
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(path, "cut")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat", ".tif", ".hdr"])
def test_a_file_with_other_content_is_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(b"this is no cube\n" * 40)
    assert_refused(path, "junk")
    path.write_bytes(b"")
    assert_refused(path, "junk")


def test_a_2d_image_is_refused_by_every_format(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CUBE[0])
    tifffile.imwrite(tmp_path / "a.tif", CUBE[0])
    for name in ("a.npy", "a.tif"):
        assert_refused(tmp_path / name, "a 2D image of 12 x 10; a cube with axes (band, y, x) expected")
    np.savez(tmp_path / "a.npz", image=CUBE[0])
    assert_refused(tmp_path / "a.npz", "holds 'image' (12, 10); expected exactly one with three or four axes")


def test_complex_values_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", CUBE.astype(np.complex64))
    assert_refused(tmp_path / "c.npy", "values of type complex64; real numbers expected")


def test_several_arrays_that_could_be_the_cube_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", left=CUBE, right=CUBE)
    assert_refused(tmp_path / "two.npz", "holds 'left' (5, 12, 10), 'right' (5, 12, 10); expected exactly one")
    write_h5(tmp_path / "two.h5", other=CUBE)
    np.testing.assert_array_equal(open_set(tmp_path / "two.h5")[0].data, CUBE)  # one of them is called cube


def test_a_mat_file_with_four_axes_is_refused(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"cube": np.zeros((4, 4, 3, 2))})
    assert_refused(tmp_path / "a.mat", "cube has four axes (4, 4, 3, 2)")


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("byteorder", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_envi_reads_every_interleave_byte_order_and_type(
    tmp_path: Path, interleave: str, byteorder: int, dtype: Any
) -> None:
    data = (CUBE * 1000).astype(dtype)
    path = tmp_path / "scene.hdr"
    write_envi(path, data=data, dtype=dtype, interleave=interleave, byteorder=byteorder)
    opened = open_set(path)
    np.testing.assert_array_equal(opened[0].data, data.astype(np.float32))
    assert opened[0].data.dtype.isnative and opened.wavelengths.tolist() == NM.tolist()
    assert {source.name for source in opened.sources(0)} == {"scene.hdr", "scene.img"}


def test_envi_is_also_opened_by_its_raw_file_and_states_its_axes(tmp_path: Path) -> None:
    write_envi(tmp_path / "scene.hdr")
    opened = open_set(tmp_path / "scene.img", layout="yxb")
    np.testing.assert_array_equal(opened[0].data, CUBE)
    assert opened.info.notes == ("layout yxb not applied: the file itself states byx",)


@pytest.mark.parametrize("unit", ["micrometers", "Micrometer", "microns", "micron", "um", "µm"])
def test_envi_micrometers_are_a_thousand_nanometers_however_they_are_spelled(tmp_path: Path, unit: str) -> None:
    write_envi(tmp_path / "a.hdr", metadata={"wavelength": (NM / 1000).tolist(), "wavelength units": unit})
    np.testing.assert_allclose(open_set(tmp_path / "a.hdr").wavelengths, NM, rtol=1e-9)


def test_envi_micrometers_are_converted_to_nanometers_with_a_note(tmp_path: Path) -> None:
    micro = {"wavelength": (NM / 1000).tolist()}
    write_envi(tmp_path / "a.hdr", metadata=micro | {"wavelength units": "Micrometers"})
    write_envi(tmp_path / "b.hdr", metadata=micro | {"wavelength units": "Unknown"})
    for name, note in (("a", "converted from Micrometers to nm"), ("b", "read as micrometers")):
        opened = open_set(tmp_path / f"{name}.hdr")
        np.testing.assert_allclose(opened.wavelengths, NM)
        assert note in opened.info.notes[0]


def test_envi_wavelengths_in_other_units_than_length_are_not_used(tmp_path: Path) -> None:
    write_envi(tmp_path / "a.hdr", metadata={"wavelength units": "Wavenumber"})
    opened = open_set(tmp_path / "a.hdr")
    assert not opened.info.wavelengths_known and "'Wavenumber' are not a length" in opened.info.notes[0]


def test_envi_ignore_value_becomes_nan_and_scale_divides(tmp_path: Path) -> None:
    data = (CUBE * 1000).astype(np.int16)
    data[1, 2, 3] = -9999
    metadata = {"data ignore value": -9999, "reflectance scale factor": 1000, "data gain values": [1] * 5}
    write_envi(tmp_path / "a.hdr", data=data, dtype=np.int16, metadata=metadata)
    opened = open_set(tmp_path / "a.hdr")
    expected = data.astype(np.float32) / np.float32(1000)
    expected[1, 2, 3] = np.nan
    np.testing.assert_array_equal(opened[0].data, expected)
    assert "read as NaN" in opened.info.notes[0] and "divided by 1000" in opened.info.notes[1]
    assert "not applied from the header: data gain values" in opened.info.notes[2]
    assert "ignore -9999.0 scale 1000.0" in opened.recipe(0)


def test_a_truncated_or_missing_envi_raw_file_is_refused(tmp_path: Path) -> None:
    write_envi(tmp_path / "a.hdr")
    raw = tmp_path / "a.img"
    raw.write_bytes(raw.read_bytes()[:-8])
    with pytest.raises(HsevalError, match=r"a.img: truncated: its header states 2400 bytes, the file has 2392"):
        open_set(tmp_path / "a.hdr")
    raw.unlink()
    assert_refused(tmp_path / "a.hdr", "a.hdr: its raw file is missing; expected one of a, a.img, a.dat, a.sli")


def test_an_envi_header_without_a_needed_field_names_it(tmp_path: Path) -> None:
    write_envi(tmp_path / "a.hdr")
    lines = [line for line in (tmp_path / "a.hdr").read_text().splitlines() if not line.startswith("bands")]
    (tmp_path / "a.hdr").write_text("\n".join(lines))
    assert_refused(tmp_path / "a.hdr", "bands")


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (CUBE, {}),
        (CUBE, {"metadata": None}),
        (CUBE, {"compression": "zlib"}),
        (CUBE, {"photometric": "minisblack", "planarconfig": "separate"}),
        (CUBE.transpose(1, 2, 0), {"photometric": "minisblack", "planarconfig": "contig"}),
        (CUBE, {"imagej": True}),
        (CUBE, {"metadata": {"axes": "CYX"}}),
    ],
)
def test_tiff_reads_pages_and_channels(tmp_path: Path, data: Any, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(data), **options)
    np.testing.assert_array_equal(open_set(tmp_path / "a.tif", wavelengths=NM)[0].data, CUBE)


def test_tiff_pages_along_y_need_wavelengths_or_a_layout(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(CUBE.transpose(1, 2, 0)))
    assert_refused(tmp_path / "a.tif", "give --layout byx|yxb, or the wavelengths")
    np.testing.assert_array_equal(open_set(tmp_path / "a.tif", wavelengths=NM)[0].data, CUBE)


def test_tiff_nodata_becomes_nan(tmp_path: Path) -> None:
    data = CUBE.copy()
    data[2, 3, 4] = -1
    tifffile.imwrite(tmp_path / "a.tif", data, extratags=[(42113, "s", 0, "-1", False)])
    opened = open_set(tmp_path / "a.tif")
    assert np.isnan(opened[0].data[2, 3, 4]) and int(np.isnan(opened[0].data).sum()) == 1
    assert any("GDAL_NODATA" in note for note in opened.info.notes)


def test_a_truncated_tiff_is_refused_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CUBE, photometric="minisblack", planarconfig="separate")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(HsevalError, match=r"a.tif: truncated"):
        open_set(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"imagej": True},
        {"compression": "zlib"},
        {"compression": "zlib", "metadata": None},
        {"compression": "zlib", "bigtiff": True},
        {"byteorder": ">"},
        {"tile": (16, 16)},
    ],
)
@pytest.mark.parametrize("fraction", [0.002, 0.25, 0.5, 0.75])
def test_a_tiff_truncated_anywhere_is_refused_and_nothing_else_is_printed(
    tmp_path: Path, options: dict[str, Any], fraction: float
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CUBE, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_set(path)[0].data, CUBE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    assert_refused(path, "a.tif: truncated")


def test_a_truncated_imagej_stack_of_one_directory_is_refused_without_log_output(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CUBE, imagej=True)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first, data = file.pages.first, file.series[0].dataoffset
        end = first.offset + 2 + 12 * len(first.tags)
        assert data is not None
    content[end : end + 4] = bytes(4)  # no second directory: what ImageJ does beyond 4 GB
    path.write_bytes(content[: data + CUBE.nbytes])
    np.testing.assert_array_equal(open_set(path)[0].data, CUBE)
    path.write_bytes(content[: data + CUBE.nbytes - 1])
    assert_refused(
        path, f"truncated: its header states {data + CUBE.nbytes} bytes, the file has {data + CUBE.nbytes - 1}"
    )
    assert caplog.records == []


def test_warnings_of_tifffile_do_not_reach_the_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CUBE, photometric="minisblack", compression="zlib")
    path.write_bytes(path.read_bytes().replace(b"[5, 12, 10]", b"[5, 13, 10]"))
    np.testing.assert_array_equal(open_set(path)[0].data, CUBE)
    assert caplog.records == []
    with tifffile.TiffFile(path) as file:
        assert file.series
    assert {record.name for record in caplog.records} == {"tifffile"}  # tifffile itself still logs


def test_tiff_pages_of_several_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(CUBE[0], metadata=None)
        out.write(CUBE[0][1:], metadata=None)
    assert_refused(tmp_path / "a.tif", "holds 2 images (YX (12, 10), YX (11, 10)); pages of one size and type expected")


@pytest.mark.parametrize(("suffix", "write"), [(".npz", write_npz), (".h5", write_h5), (".mat", write_mat5)])
def test_an_ambiguous_shape_needs_a_layout_even_with_wavelengths(
    tmp_path: Path, suffix: str, write: Callable[..., None]
) -> None:
    path = tmp_path / f"eye{suffix}"
    write(path, cube=np.zeros((8, 8, 8)), wavelengths=np.arange(8) + 450.0)
    assert_refused(path, "8 wavelengths fit both; give --layout byx|yxb")


def test_a_mat_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat5(path)
    content = path.read_bytes()
    for length in (len(content) // 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert_refused(path, "truncated")


@pytest.mark.parametrize("userblock_size", [0, 512])
def test_a_mat_file_that_is_hdf5_without_matlabs_first_bytes_is_read(tmp_path: Path, userblock_size: int) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=userblock_size) as file:
        file["cube"], file["wavelengths"] = CUBE.transpose(1, 2, 0).T, NM
        file["masks/artery"] = MASK.T
    opened = open_set(path)
    np.testing.assert_array_equal(opened[0].data, CUBE)
    np.testing.assert_array_equal(opened[0].masks["artery"], MASK)
    assert opened.wavelengths.tolist() == NM.tolist()


def test_other_files_with_suffix_mat_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(600))
    assert_refused(path, "a.mat: not a MATLAB file (neither v5 nor v7.3), or its beginning is damaged")
    path.unlink()
    write_mat73(path)
    path.write_bytes(path.read_bytes()[:512])
    assert_refused(path, "a.mat: truncated: a MATLAB v7.3 file without its HDF5 part")
