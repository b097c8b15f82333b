"""The board in a format: for a terminal, as Markdown, LaTeX or JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping

from hseval.comparison.leaderboard import Board
from hseval.comparison.table import Sheet, Text, sheet_of
from hseval.core.report import plain

WIDE = 10_000  # characters: so that nothing is wrapped where it is piped

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "[": "{[}", "]": "{]}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
}  # fmt: skip
MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")


def terminal(board: Board, *, width: int | None = None, colour: bool = False) -> str:
    """Return a table for people; ``width`` None: as wide as it gets."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Rich

    sheet, stream = sheet_of(board), io.StringIO()
    console = Console(file=stream, width=width or WIDE, highlight=False, force_terminal=colour, no_color=not colour,
                      soft_wrap=width is None)  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, head in enumerate(sheet.heads):
        table.add_column(Rich(head), justify="left" if place == 0 else "right", overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Rich(cell.text, style="bold" if cell.best else "") for cell in row))
    console.print(table)
    for line in sheet.lines:
        console.print(Rich(line))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def markdown(board: Board) -> str:
    """Return a table in GitHub's Markdown; whatever names hold shows as text."""
    sheet = sheet_of(board)
    lines = [
        _line([_marked(head) for head in sheet.heads]),
        _line(["---", *("---:" for _ in sheet.heads[1:])]),
        *(_line([_bold(cell) for cell in row]) for row in sheet.rows),
        "",
        *(f"- {_marked(line)}" for line in sheet.lines),
    ]
    return "\n".join(lines) + "\n"


def latex(board: Board) -> str:
    """Return a ``tabular`` in the rules of booktabs, with the lines below as comments; names are escaped."""
    sheet = sheet_of(board)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(sheet.heads) - 1)}}}",
        r"\toprule",
        _row([_escaped(head) for head in sheet.heads]),
        r"\midrule",
        *_body(sheet, many=len(board.names) > 2),
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {' '.join(line.split())}" for line in sheet.lines),
    ]
    return "\n".join(lines) + "\n"


def as_json(board: Board) -> str:
    """Return everything, for programs."""
    return json.dumps(plain(board.as_dict()), indent=1) + "\n"


FORMATS: Mapping[str, Callable[[Board], str]] = {
    "terminal": terminal, "markdown": markdown, "latex": latex, "json": as_json,
}  # fmt: skip
ENDINGS = {".txt": "terminal", ".md": "markdown", ".tex": "latex", ".json": "json"}


def _body(sheet: Sheet, *, many: bool) -> list[str]:
    rows = [_row([rf"\textbf{{{_escaped(cell.text)}}}" if cell.best else _escaped(cell.text) for cell in row])
            for row in sheet.rows]  # fmt: skip
    return [*rows[:-1], r"\midrule", rows[-1]] if many else rows


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _bold(cell: Text) -> str:
    return f"**{_marked(cell.text)}**" if cell.best else _marked(cell.text)
