"""``hseval diff A.json B.json [...]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hseval.comparison.leaderboard import Board

KINDS = ("terminal", "markdown", "latex", "json")


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A.json B.json [...]")
@click.option("--metrics", metavar="A,B", help="Scores to compare; default: all that every report has a value of.")
@click.option("--by", metavar="SCORE", help="The score that orders a leaderboard; default: the first.")
@click.option("--names", metavar="A,B", help="What the reports are called; default: as their files.")
@click.option("--format", "kind", type=click.Choice(KINDS), help="Default: by the ending of --out, else terminal.")
@click.option("--out", type=click.Path(path_type=Path), metavar="F", help="Write to a file (.txt, .md, .tex, .json).")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="F", help="Write all figures as JSON, too."
)
def diff(reports: tuple[Path, ...], out: Path | None, json_path: Path | None, **given: Any) -> int:
    """Compare reports of hseval score: two beside each other, more as a leaderboard.

    Scores are compared in pairs, on the resamples that both share. Reports that were not made alike are refused.
    """
    from hseval.comparison.formats import as_json
    from hseval.comparison.leaderboard import compare
    from hseval.comparison.protocol import load_entries
    from hseval.utils.atomic_files import check_writable, write_text

    for path in (out, json_path):
        if path is not None:
            check_writable(path)
            _check_no_report(path, reports)
    asked = _listed(given["metrics"])
    board = compare(load_entries(reports, _listed(given["names"])), metrics=asked, by=given["by"])
    if json_path is not None:
        write_text(json_path, as_json(board))
    if out is not None:
        write_text(out, _rendered(board, given["kind"], out))
    else:
        sys.stdout.write(_rendered(board, given["kind"], None))
    compared = {column.metric for column in board.columns}
    return int(any(name not in compared for name in asked or ()))


def _rendered(board: Board, kind: str | None, out: Path | None) -> str:
    from hseval.comparison.formats import ENDINGS, FORMATS, terminal
    from hseval.utils.errors import HsevalError

    if kind is None and out is not None and out.suffix not in ENDINGS:
        raise HsevalError(f"{out}: no format goes by that ending (known: {', '.join(ENDINGS)}); give --format")
    chosen = kind or (ENDINGS[out.suffix] if out is not None else KINDS[0])
    if chosen == KINDS[0] and out is None and sys.stdout.isatty():
        import shutil

        return terminal(board, width=shutil.get_terminal_size().columns, colour=True)
    return FORMATS[chosen](board)


def _check_no_report(path: Path, reports: tuple[Path, ...]) -> None:
    from hseval.utils.errors import HsevalError

    if path.resolve() in {report.resolve() for report in reports}:
        raise HsevalError(f"{path}: is one of the reports; name another file")


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
