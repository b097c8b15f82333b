"""Files are written completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hseval.utils.atomic_files import check_writable, create_folder, write_atomically, write_text
from hseval.utils.errors import HsevalError


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_full_disk_is_a_one_line_error_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "big"
    with pytest.raises(HsevalError, match="No space left on device"), write_atomically(target) as temporary:
        temporary.write_text("x")
        with Path("/dev/full").open("w") as full:
            full.write("x")
            full.flush()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_a_folder_are_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(HsevalError, match="does not exist"):
        check_writable(tmp_path / "no" / "report.json")
    with pytest.raises(HsevalError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(HsevalError, match=r"can't be written|no permission"):
        check_writable("/proc/report.json")


def test_devices_and_pipes_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HsevalError, match="is a device or pipe"):
        write_text(tmp_path / "pipe", "x")
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_temporary_files_of_killed_processes_are_removed_and_those_of_running_ones_are_not(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom hseval.utils.atomic_files import write_atomically\n"
        "with write_atomically(sys.argv[1]) as path:\n    path.write_text('half')\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "set.h5")], check=False, timeout=60)
    assert len(list(tmp_path.iterdir())) == 1
    with write_atomically(tmp_path / "set.h5") as temporary:
        temporary.write_text("outer")
        write_text(tmp_path / "set.h5", "inner")
        assert temporary.exists()
        assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set.h5"]


def test_files_that_a_library_made_private_become_readable_for_all(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "weights") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == (tmp_path / "weights").stat().st_mode & 0o777 | 0o044


def test_of_several_processes_one_creates_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            is_new = list(pool.map(lambda _, path=tmp_path / str(number): create_folder(path), range(8)))
            assert sum(is_new) == 1
    with pytest.raises(HsevalError, match=r"its folder .* does not exist"):
        create_folder(tmp_path / "no" / "run")
