"""Text is fitted and colored on a terminal alone, and never controls it."""

from __future__ import annotations

import io

import pytest

from hseval.utils.console import create_console, create_table, escape_text, print_item

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


def test_text_from_files_is_printed_as_it_is_without_control_characters() -> None:
    stream = io.StringIO()
    create_console(stream).print(escape_text("[red]\x1b[2J\x07 [/] a\u200bb\n"))
    assert stream.getvalue() == "[red] [2J  [/] a b \n"
