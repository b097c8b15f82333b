"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hseval.errors import HsevalError
from hseval.files import check_writable, write_text, written_whole


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), written_whole(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "big"
    with pytest.raises(HsevalError, match="No space left on device"), written_whole(target) as temporary:
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
