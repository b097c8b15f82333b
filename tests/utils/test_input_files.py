"""Files that users name: only regular ones are opened, and text is UTF-8."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hseval.utils.errors import HsevalError
from hseval.utils.input_files import check_regular_file, find_file_fault, read_text


def test_pipes_devices_sockets_and_folders_are_refused_by_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        kinds = {
            "pipe": "a pipe",
            "socket": "a socket",
            "/dev/zero": "a device",
            "/dev/null": "a device",
            ".": "a folder",
        }
        for name, kind in kinds.items():
            with pytest.raises(HsevalError, match=f"^{name}: is {kind}; a regular file expected$"):
                check_regular_file(name)
            assert find_file_fault(name) == kind


def test_links_are_followed_and_faults_of_links_named(tmp_path: Path) -> None:
    file, link, dangling, loop = (tmp_path / name for name in ("file", "link", "dangling", "loop"))
    file.write_text("x")
    link.symlink_to(file)
    dangling.symlink_to(tmp_path / "none")
    loop.symlink_to(loop)
    check_regular_file(link)
    assert [find_file_fault(path) for path in (file, link)] == [None, None]
    assert [find_file_fault(path) for path in (dangling, loop)] == ["a link that leads nowhere"] * 2
    assert find_file_fault(tmp_path / "none") == "no such file or directory"


def test_text_is_utf_8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text("é = 1\n", encoding=encoding)
        assert read_text(path) == "é = 1\n"
    for content, reason in (
        ("٤٥".encode("utf-16"), "not UTF-8 text: byte 0xff at 0"),
        ("e".encode("utf-16"), "not UTF-8 text: it has null bytes"),
        ("é".encode("latin-1"), "not UTF-8 text: byte 0xe9 at 0"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{reason}$"):
            read_text(path)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "text"
    with path.open("wb") as handle:
        handle.truncate(10**12)  # a sparse file, which does not fit into memory
    with pytest.raises(HsevalError, match=r"text: has 1000000000000 bytes; at most 100 expected"):
        read_text(path, max_bytes=100)
