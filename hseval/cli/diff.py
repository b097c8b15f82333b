"""``hseval diff A.json B.json [...]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_output
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.comparison.leaderboard import Leaderboard

FORMAT_NAMES = ("terminal", "markdown", "latex", "json")


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A.json B.json [...]")
@shared.names_option("--metrics", kind="metric", help="Default: all with a value in every report.")
@click.option("--by", metavar="SCORE", help="Score that orders a leaderboard; default: the first.")
@shared.names_option("--names", help="Names of the reports; default: their file names.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMAT_NAMES),
    metavar="F",
    help="terminal, markdown, latex or json.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="Write to a file (.txt, .md, .tex, .json).")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="F", help="Also write all numbers as JSON."
)
def diff(reports: tuple[Path, ...], out: Path | None, json_path: Path | None, **params: Any) -> int:
    """Compare two or more score reports.

    Two are shown side by side, more as a leaderboard. Scores are compared in pairs, on resamples that both reports
    share; reports made with different settings are refused.
    """
    from hseval.comparison.formats import format_json
    from hseval.comparison.leaderboard import compare
    from hseval.comparison.protocol import load_entries
    from hseval.utils.atomic_files import write_text

    for option, path in (("--out", out), ("--json", json_path)):
        if path is not None:
            check_output(option, path, reports)
    requested = params["metrics"]
    board = compare(load_entries(reports, params["names"]), metrics=requested, sort_metric=params["by"])
    if json_path is not None:
        write_text(json_path, format_json(board))
    if out is not None:
        write_text(out, _render_board(board, params["kind"], out))
    else:
        sys.stdout.write(_render_board(board, params["kind"], None))
    compared = {column.metric for column in board.columns}
    return int(any(name not in compared for name in requested or ()))


def _render_board(board: Leaderboard, format_name: str | None, out: Path | None) -> str:
    from hseval.comparison.formats import FORMAT_BY_SUFFIX, FORMATTERS, format_terminal

    if format_name is None and out is not None and out.suffix not in FORMAT_BY_SUFFIX:
        raise HsevalError(f"{out}: unknown suffix, expected one of {', '.join(FORMAT_BY_SUFFIX)}; or give --format")
    format_name = format_name or (FORMAT_BY_SUFFIX[out.suffix] if out is not None else FORMAT_NAMES[0])
    if format_name == FORMAT_NAMES[0] and out is None and sys.stdout.isatty():
        import shutil

        return format_terminal(board, width=shutil.get_terminal_size().columns, color=True)
    return FORMATTERS[format_name](board)
