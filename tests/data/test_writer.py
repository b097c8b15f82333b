"""Sets are written atomically, one cube at a time, and cubes that do not match are refused."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hseval.data.writer import SetWriter, write_set
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError

NM = np.array([450.0, 500, 550, 600, 650])
CUBES = np.random.default_rng(3).random((4, 5, 12, 10), dtype=np.float32)
MASK = CUBES[0, 0] > 0.5


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder, including hidden ones."""
    return sorted(path.name for path in folder.iterdir())


def test_cubes_added_one_by_one_are_read_back(tmp_path: Path) -> None:
    with SetWriter(tmp_path / "s.h5", wavelengths=NM, structures=("vein",), provenance={"seed": 1}) as out:
        for index, cube in enumerate(CUBES):
            out.add(cube, {"vein": MASK}, f"eye-{index}", group=f"p{index // 2}", labels={"side": "left"})
    opened = open_set(tmp_path / "s.h5")
    assert opened.ids == ("eye-0", "eye-1", "eye-2", "eye-3") and opened.groups == ("p0", "p0", "p1", "p1")
    assert opened.labels == {"side": ["left"] * 4} and opened.info.provenance == {"seed": 1}
    np.testing.assert_array_equal([cube.data for cube in opened], CUBES)
    np.testing.assert_array_equal(opened[3].masks["vein"], MASK)
    assert list_names(tmp_path) == ["s.h5"]


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_compression_changes_size_and_no_value(tmp_path: Path, compression: Any) -> None:
    smooth = np.zeros((2, 5, 64, 64), np.float32)
    write_set(tmp_path / "s.h5", smooth, wavelengths=NM, compression=compression)
    np.testing.assert_array_equal(open_set(tmp_path / "s.h5")[1].data, smooth[1])
    size = (tmp_path / "s.h5").stat().st_size
    assert (size > smooth.nbytes) == (compression is None)


def test_a_file_is_as_long_as_its_content(tmp_path: Path) -> None:
    write_set(tmp_path / "s.h5", CUBES, wavelengths=NM)
    assert (tmp_path / "s.h5").stat().st_size < CUBES.nbytes + 20_000


def test_the_same_cubes_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_set(tmp_path / name, CUBES, wavelengths=NM, masks={"fov": CUBES[:, 0] > 0})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_unknown_wavelengths_are_read_as_unknown(tmp_path: Path) -> None:
    write_set(tmp_path / "s.h5", CUBES, wavelengths=None)
    assert not open_set(tmp_path / "s.h5").info.wavelengths_known


def test_without_named_structures_the_first_cube_determines_them(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"cube '000001': masks \['artery'\]; \['vein'\] expected"):  # noqa: SIM117
        with SetWriter(tmp_path / "s.h5", wavelengths=NM) as out:
            out.add(CUBES[0], {"vein": MASK})
            out.add(CUBES[1], {"artery": MASK})
    assert list_names(tmp_path) == []


@pytest.mark.parametrize(
    ("cube", "masks", "message"),
    [
        (CUBES[0].astype(np.float64), {"vein": MASK}, r"shape \(5, 12, 10\) of float64; float32 \(band, y, x\)"),
        (CUBES[0, 0], {"vein": MASK}, r"shape \(12, 10\) of float32"),
        (CUBES[0, :4], {"vein": MASK}, "4 bands, but 5 wavelengths"),
        (CUBES[0, :, :6], {"vein": MASK[:6]}, r"shape \(5, 6, 10\), but the first cube has \(5, 12, 10\)"),
        (CUBES[0], {}, r"masks \[\]; \['vein'\] expected"),
        (CUBES[0], {"vein": MASK[:6]}, r"mask 'vein' of shape \(6, 10\), but the cube has \(12, 10\)"),
        (CUBES[0], {"vein": CUBES[0, 0]}, "mask 'vein' of type float32; bool or uint8 expected"),
    ],
)
def test_a_cube_that_does_not_match_is_refused_and_no_file_remains(
    tmp_path: Path, cube: Any, masks: Any, message: str
) -> None:
    with pytest.raises(HsevalError, match=message):  # noqa: SIM117
        with SetWriter(tmp_path / "s.h5", wavelengths=NM, structures=("vein",)) as out:
            out.add(CUBES[1], {"vein": MASK}, "first")
            out.add(cube, masks, "second")
    assert list_names(tmp_path) == []


def test_groups_and_labels_are_for_every_cube_or_for_none(tmp_path: Path) -> None:
    for extra in ({"group": "p"}, {"labels": {"side": "left"}}):
        with pytest.raises(HsevalError, match=r"cube '000001': (a group for every|labels)"):  # noqa: SIM117
            with SetWriter(tmp_path / "s.h5", wavelengths=NM) as out:
                out.add(CUBES[0])
                out.add(CUBES[1], **extra)


def test_repeated_ids_no_cubes_and_wrong_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with pytest.raises(HsevalError, match="ids: 'a' occurs more than once"):
        write_set(path, CUBES[:2], wavelengths=NM, ids=["a", "a"])
    with pytest.raises(HsevalError, match="no cube was added"):
        write_set(path, CUBES[:0], wavelengths=NM)
    with pytest.raises(HsevalError, match="3 groups, but 4 cubes"):
        write_set(path, CUBES, wavelengths=NM, groups=["p", "q", "r"])
    with pytest.raises(HsevalError, match="1 masks/vein, but 4 cubes"):
        write_set(path, CUBES, wavelengths=NM, masks={"vein": MASK[None]})
    assert list_names(tmp_path) == []


def test_an_error_inside_the_block_leaves_the_old_file_unchanged(tmp_path: Path) -> None:
    write_set(tmp_path / "s.h5", CUBES, wavelengths=NM)
    before = (tmp_path / "s.h5").read_bytes()
    with pytest.raises(ZeroDivisionError), SetWriter(tmp_path / "s.h5", wavelengths=NM) as out:
        out.add(CUBES[0])
        _ = 1 / 0
    assert (tmp_path / "s.h5").read_bytes() == before and list_names(tmp_path) == ["s.h5"]


def test_a_path_that_cannot_be_written_is_refused_before_any_cube(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match=r"its folder .* does not exist"):
        SetWriter(tmp_path / "none" / "s.h5", wavelengths=NM).__enter__()
    with pytest.raises(HsevalError, match="is a folder"):
        SetWriter(tmp_path, wavelengths=NM).__enter__()


STREAM = """
import sys, time, numpy as np
from hseval.data.writer import SetWriter
from hseval.utils.errors import HsevalError
if sys.argv[2] == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
cube = np.zeros((8, 64, 64), np.float32)
try:
    with SetWriter(sys.argv[1], wavelengths=np.arange(8.0) + 450) as out:
        for index in range(10**6):
            out.add(cube)
            if index == 3:
                print("streaming", flush=True)
            time.sleep(0.002 if sys.argv[2] == "slow" else 0)
except HsevalError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_is_a_one_line_error_and_no_file_remains(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STREAM, str(tmp_path / "s.h5"), "limit"]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 2, completed.stderr
    assert completed.stdout.splitlines()[-1] == f"{tmp_path / 's.h5'}: could not be written: File too large"
    assert completed.stderr == "" and list_names(tmp_path) == []


def test_ctrl_c_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STREAM, str(tmp_path / "s.h5"), "slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        assert len(list_names(tmp_path)) == 1  # the temporary file
        os.kill(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "KeyboardInterrupt" in errors and list_names(tmp_path) == []


@pytest.mark.parametrize("names", [["eye", "eye/disc"], [""], ["a//b"], ["."], ["x\0y"]])
def test_masks_whose_names_hdf5_cannot_store_are_refused(tmp_path: Path, names: list[str]) -> None:
    masks = {name: np.ones((1, 4, 4), bool) for name in names}
    with pytest.raises(HsevalError, match="a name that fits into HDF5 expected"):
        write_set(tmp_path / "s.h5", np.ones((1, 5, 4, 4), np.float32), wavelengths=NM, masks=masks)
    assert list_names(tmp_path) == []
