"""``hseval diff A.json B.json [...]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hseval.cli import shared_options as shared
from hseval.cli.output_files import check_output
from hseval.utils.errors import HsevalError

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
    from hseval.comparison.formats import FORMATTERS, format_json, print_leaderboard
    from hseval.comparison.leaderboard import compare
    from hseval.comparison.protocol import load_entries
    from hseval.utils.atomic_files import write_text
    from hseval.utils.console import create_console

    format_name = _choose_format(params["kind"], out)  # before any work
    if out is not None and json_path is not None and out.resolve() == json_path.resolve():
        raise HsevalError(f"--json {json_path}: is what --out writes; name another file")
    for option, path in (("--out", out), ("--json", json_path)):
        if path is not None:
            check_output(option, path, reports)
    requested = params["metrics"]
    board = compare(load_entries(reports, params["names"]), metrics=requested, sort_metric=params["by"])
    if json_path is not None:
        write_text(json_path, format_json(board))
    if out is not None:
        write_text(out, FORMATTERS[format_name](board))
    elif format_name == FORMAT_NAMES[0] and sys.stdout.isatty():
        print_leaderboard(board, create_console(sys.stdout))
    else:
        sys.stdout.write(FORMATTERS[format_name](board))
    compared = {column.metric for column in board.columns}
    return int(any(name not in compared for name in requested or ()))


def _choose_format(name: str | None, out: Path | None) -> str:
    from hseval.comparison.formats import FORMAT_BY_SUFFIX

    if name is None and out is not None and out.suffix not in FORMAT_BY_SUFFIX:
        raise HsevalError(f"{out}: unknown suffix, expected one of {', '.join(FORMAT_BY_SUFFIX)}; or give --format")
    return name or (FORMAT_NAMES[0] if out is None else FORMAT_BY_SUFFIX[out.suffix])
