"""Formats of the leaderboard: terminal, Markdown, LaTeX and JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hseval.comparison.leaderboard import Leaderboard
from hseval.comparison.table import TextCell, TextTable, build_text_table
from hseval.core.report import to_jsonable
from hseval.utils.console import create_console, create_table

if TYPE_CHECKING:
    from rich.console import Console

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "[": "{[}", "]": "{]}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\rightarrow$",
}  # fmt: skip
MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def print_leaderboard(leaderboard: Leaderboard, console: Console) -> None:
    """Print a table and the lines below it."""
    from rich.text import Text

    text_table, table = build_text_table(leaderboard), create_table()
    for i, header in enumerate(text_table.headers):
        table.add_column(Text(header), justify="left" if i == 0 else "right", overflow="fold")
    for row in text_table.rows:
        table.add_row(*(Text(cell.text, style="bold" if cell.is_best else "") for cell in row))
    console.print(table)
    for line in text_table.footer_lines:
        console.print(Text(line))


def format_terminal(leaderboard: Leaderboard) -> str:
    """Return what :func:`print_leaderboard` prints, without colors and limit of width."""
    stream = io.StringIO()
    print_leaderboard(leaderboard, create_console(stream))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def format_markdown(leaderboard: Leaderboard) -> str:
    """Return a table in GitHub's Markdown; names are escaped."""
    text_table = build_text_table(leaderboard)
    lines = [
        _format_markdown_row([_escape_markdown(header) for header in text_table.headers]),
        _format_markdown_row(["---", *("---:" for _ in text_table.headers[1:])]),
        *(_format_markdown_row([_format_markdown_cell(cell) for cell in row]) for row in text_table.rows),
        "",
        *(f"- {_escape_markdown(line)}" for line in text_table.footer_lines),
    ]
    return "\n".join(lines) + "\n"


def format_latex(leaderboard: Leaderboard) -> str:
    """Return a ``tabular`` with booktabs rules and the footer lines as comments; names are escaped."""
    text_table = build_text_table(leaderboard)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(text_table.headers) - 1)}}}",
        r"\toprule",
        _format_latex_row([_escape_latex(header) for header in text_table.headers]),
        r"\midrule",
        *_format_latex_body(text_table, separate_last=len(leaderboard.names) > 2),
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {' '.join(line.split())}" for line in text_table.footer_lines),
    ]
    return "\n".join(lines) + "\n"


def format_json(leaderboard: Leaderboard) -> str:
    """Return the whole leaderboard as JSON."""
    return json.dumps(to_jsonable(leaderboard.as_dict()), indent=1) + "\n"


FORMATTERS: Mapping[str, Callable[[Leaderboard], str]] = {
    "terminal": format_terminal, "markdown": format_markdown, "latex": format_latex, "json": format_json,
}  # fmt: skip
FORMAT_BY_SUFFIX = {".txt": "terminal", ".md": "markdown", ".tex": "latex", ".json": "json"}


def _format_latex_body(text_table: TextTable, *, separate_last: bool) -> list[str]:
    rows = [_format_latex_row([_format_latex_cell(cell) for cell in row]) for row in text_table.rows]
    return [*rows[:-1], r"\midrule", rows[-1]] if separate_last else rows


def _format_latex_cell(cell: TextCell) -> str:
    return rf"\textbf{{{_escape_latex(cell.text)}}}" if cell.is_best else _escape_latex(cell.text)


def _format_latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_latex(text: str) -> str:
    return "".join(LATEX_ESCAPES.get(character, character) for character in " ".join(text.split()))


def _format_markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape_markdown(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _format_markdown_cell(cell: TextCell) -> str:
    return f"**{_escape_markdown(cell.text)}**" if cell.is_best else _escape_markdown(cell.text)
