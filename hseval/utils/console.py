"""What commands print with: in color and fitted to the width on a terminal, plain and unwrapped in a pipe.

Control characters never reach a terminal: consoles and, within :func:`escape_output`, the standard streams show them
escaped.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO, cast

from hseval.utils.text import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

UNLIMITED_WIDTH = 10_000  # so wide that no line of piped output is wrapped or cut
LAYOUT_CHARACTERS = "\n\t"  # what programs print on purpose


class EscapedStream:
    """A standard stream of text that shows control characters escaped, those of tracebacks and warnings included.

    ``is_optional``: a failure to write is ignored.
    """

    def __init__(self, raw: TextIO, *, is_optional: bool = False) -> None:
        self.raw, self.is_optional = raw, is_optional

    def write(self, text: str) -> int:
        """Write text."""
        with self._ignore_failure():
            self.raw.write(escape_unprintable(text, keep=LAYOUT_CHARACTERS))
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        with self._ignore_failure():
            self.raw.flush()

    def writelines(self, lines: list[str]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    @contextlib.contextmanager
    def _ignore_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self.is_optional:
                raise
            discard_stream(self.raw)


@contextlib.contextmanager
def escape_output() -> Iterator[None]:
    """Escape what is printed in the block to stdout and stderr; messages that stderr can't take stop no work."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character is no reason to stop
    sys.stdout, sys.stderr = (
        cast(TextIO, EscapedStream(stream, is_optional=is_optional))
        for stream, is_optional in zip(streams, (False, True), strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            try:
                stream.flush()
            except OSError:  # reported already; the interpreter would report it again
                discard_stream(stream)


def discard_stream(stream: TextIO) -> None:
    """Send all that is still written to a stream nowhere, the interpreter's own flush at exit included."""
    with contextlib.suppress(io.UnsupportedOperation):  # not a file: captured
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def create_console(stream: TextIO, **options: Any) -> Console:
    """Return the console of a stream; ``options`` are those of rich's Console."""
    is_piped = not stream.isatty()
    defaults = {"highlight": False, "width": UNLIMITED_WIDTH if is_piped else None, "soft_wrap": is_piped}
    raw = stream.raw if isinstance(stream, EscapedStream) else stream  # colors are control characters, too
    console: Console = _load_console_class()(file=raw, **{**defaults, **options})
    return console


@functools.cache
def _load_console_class() -> Any:
    from rich.console import Console

    class EscapedConsole(Console):
        """A console that shows the control characters in what it is asked to print escaped."""

        def render(self, *arguments: Any, **options: Any) -> Iterator[Any]:
            """Yield the segments of a renderable: text with its style, and the console's own control codes."""
            for segment in super().render(*arguments, **options):
                text = segment.text if segment.control else escape_unprintable(segment.text, keep=LAYOUT_CHARACTERS)
                yield segment._replace(text=text)

    return EscapedConsole


def create_table() -> Table:
    """Return an empty table without a frame."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def print_item(console: Console, text: str, bullet: str = "· ", **style: Any) -> None:
    """Print a sentence as an item of a list, indented where it is wrapped."""
    indent = " " * len(bullet)
    wrapper = textwrap.TextWrapper(console.width, bullet, indent, break_long_words=False, break_on_hyphens=False)
    console.print("\n".join(map(escape_text, wrapper.wrap(escape_unprintable(text)))), **style)


def escape_text(text: str) -> str:
    """Return text from a file as markup that prints it, its control characters escaped."""
    from rich.markup import escape

    return escape(escape_unprintable(text))
