"""What commands print with: in color and fitted to the width on a terminal, plain and unwrapped in a pipe."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNLIMITED_WIDTH = 10_000  # so wide that no line of piped output is wrapped or cut


def create_console(stream: TextIO) -> Console:
    """Return the console of a stream."""
    from rich.console import Console

    is_piped = not stream.isatty()
    return Console(file=stream, highlight=False, width=UNLIMITED_WIDTH if is_piped else None, soft_wrap=is_piped)


def create_table() -> Table:
    """Return an empty table without a frame."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def print_item(console: Console, text: str, bullet: str = "· ", **style: Any) -> None:
    """Print a sentence as an item of a list, indented where it is wrapped."""
    indent = " " * len(bullet)
    wrapper = textwrap.TextWrapper(console.width, bullet, indent, break_long_words=False, break_on_hyphens=False)
    console.print("\n".join(map(escape_text, wrapper.wrap(text))), **style)


def escape_text(text: str) -> str:
    """Return text from a file as markup that prints it, without characters that control the terminal."""
    from rich.markup import escape

    return escape(replace_unprintable(text))


def replace_unprintable(text: str) -> str:
    """Return text on one line, with spaces for characters that control the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
