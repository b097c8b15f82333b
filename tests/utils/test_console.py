"""Text is fitted and colored on a terminal alone, and never controls it."""

from __future__ import annotations

import contextlib
import errno
import io
import sys

import click
import pytest
from rich.text import Text

from hseval.utils.console import create_console, create_table, escape_output, escape_text, print_item
from hseval.utils.progress import ProgressReporter
from tests.helpers.commands import strip_styles

SENTENCE = "a sentence that is longer than the forty columns of this terminal, ms-ssim included"


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def print_all(stream: io.StringIO) -> str:
    console, table = create_console(stream), create_table()
    table.add_column("name")
    table.add_column("text")
    table.add_row("a", SENTENCE)
    console.print(table)
    print_item(console, SENTENCE, style="bold")
    return stream.getvalue()


def test_piped_text_is_plain_and_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = print_all(io.StringIO()).splitlines()
    assert lines[-2:] == [f"a      {SENTENCE}", f"· {SENTENCE}"]


def test_text_on_a_terminal_is_wrapped_and_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    printed = print_all(Terminal())
    item = printed[printed.index("·") :].replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert max(map(len, item)) <= 40
    assert all(line.startswith("  ") for line in item[1:])
    assert " ".join(line[2:] for line in item) == SENTENCE
    assert "\x1b[" in printed


CONTROL = "[red]\x1b[2J\x07 [/] a\u200bb\u202e\udce9\xa0c\n"
ESCAPED = "[red]\\x1b[2J\\x07 [/] a\\u200bb\\u202e\\udce9\xa0c"


def test_text_from_files_is_printed_as_it_is_with_control_characters_escaped() -> None:
    for stream in (io.StringIO(), Terminal()):
        console, table = create_console(stream), create_table()
        console.print(escape_text(CONTROL))
        print_item(console, CONTROL, "")
        console.print(CONTROL, markup=False)
        console.print(Text(CONTROL))
        table.add_column(Text(CONTROL))
        table.add_row(escape_text(CONTROL))
        console.print(table)
        printed = strip_styles(stream.getvalue())
        assert printed.count(ESCAPED) == 3  # rich itself drops a bell where text is no markup
        assert printed.count("\\x1b[2J") == 6
        assert not {"\x1b", "\x07", "\u200b", "\u202e", "\udce9"} & set(printed)


def test_a_progress_bar_shows_control_characters_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    with ProgressReporter() as progress:
        progress.update(CONTROL, 1, 2, message=CONTROL)
        progress.print_line(CONTROL)
        print("\x1b]0;title\x07", file=sys.stderr)  # by a library, while the bar is shown
    printed = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[2J" in printed
    assert not {"\x07", "\u202e", "\udce9"} & set(printed)
    assert "\x1b]" not in printed


def test_the_standard_streams_escape_what_is_printed_and_forgive_stderr() -> None:
    out, err = io.StringIO(), FullStream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), escape_output():
        print(CONTROL)
        click.echo(CONTROL)
        print("a message", file=sys.stderr)
        create_console(sys.stdout).print(CONTROL, markup=False)
    assert out.getvalue().count("\\x1b[2J") == 2  # click leaves out colors where there is no terminal
    assert "\x1b" not in out.getvalue()


class FullStream(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")
