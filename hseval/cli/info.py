"""``hseval info``: a summary of a set, and everything in it that looks wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.inspection.inspect import Inspection


@click.command()
@click.argument("path", metavar="SET", type=click.Path())
@shared.layout_option
@shared.wavelengths_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@shared.quiet_option()
def info(path: str, layout: str | None, wavelengths: str | None, as_json: bool) -> None:
    """Describe a set of cubes and report what looks wrong.

    SET is a file of cubes or a folder of single ones. All pixels are read.
    """
    from hseval.pipeline.open import open_set

    inspection = _inspect(open_set(path, layout=layout, wavelengths=wavelengths))
    if as_json:
        _print_json(inspection)
    else:
        _print_text(inspection)


def _inspect(cubes: CubeSet) -> Inspection:
    from hseval.inspection.inspect import inspect_set
    from hseval.utils.progress import ProgressReporter

    with ProgressReporter() as progress:
        return inspect_set(cubes, progress=lambda done: progress.update("reading", done, len(cubes)))


def _print_json(inspection: Inspection) -> None:
    import json

    print(json.dumps(inspection.to_dict(), indent=2, default=str))


def _print_text(inspection: Inspection) -> None:
    from rich.table import Table
    from rich.text import Text

    from hseval.utils.console import create_console
    from hseval.utils.text import escape_unprintable

    lines = [(name, escape_unprintable(text)) for name, text in _iter_lines(inspection)]
    if not sys.stdout.isatty():  # piped output is neither wrapped nor colored
        for name, text in lines:
            print(f"{name:<12} {text}".rstrip())
        return
    table = Table.grid(padding=(0, 2))
    for name, text in lines:
        style = "yellow" if name == "suspicious" and text != "nothing" else ""
        table.add_row(Text(name, style="bold"), Text(text, style=style))
    create_console(sys.stdout).print(table)


def _iter_lines(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each line."""
    yield "set", inspection.location
    yield "cubes", str(inspection.count)
    for shape, count in inspection.shapes.items():
        yield (
            "shape",
            f"{shape} (band, y, x)" + (f": {format_count(count, 'cube')}" if len(inspection.shapes) > 1 else ""),
        )
    yield "wavelengths", _format_wavelengths(inspection)
    for name, masks in inspection.structures.items():
        cubes = format_count(masks.cubes - masks.empty, "cube")
        yield "structure", f"{name}: {masks.area:.2%} of the image on average, in {cubes}"
    if inspection.groups is not None:
        yield "groups", str(inspection.groups)
    for name, counts in inspection.labels.items():
        yield "label", f"{name}: {_format_counts(counts)}"
    yield "values", _format_values(inspection)
    yield (
        "invalid",
        f"{inspection.invalid:.4%} of pixels (NaN or Inf); {inspection.outside:.2%} are outside the field of view",
    )
    for key, value in inspection.provenance.items():
        yield "provenance", f"{key}: {value}"
    for note in inspection.notes:
        if note not in inspection.problems:
            yield "note", note
    for finding in inspection.problems or ("nothing",):
        yield "suspicious", finding


def _format_wavelengths(inspection: Inspection) -> str:
    first, last = inspection.wavelengths[0], inspection.wavelengths[-1]
    bands = format_count(len(inspection.wavelengths), "band")
    return f"{bands}, {first:g} to {last:g} nm" if inspection.wavelengths_known else f"{bands}, not known"


def _format_counts(counts: Any, max_items: int = 8) -> str:
    listed = ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:max_items])
    return listed + (f" and {len(counts) - max_items} more" if len(counts) > max_items else "")


def _format_values(inspection: Inspection) -> str:
    if not inspection.values:
        return "none is valid"
    names = {"min": "min", "q01": "1 %", "median": "median", "q99": "99 %", "max": "max"}
    units = f" ({inspection.units})" if inspection.units else ""
    return ", ".join(f"{names[key]} {value:.4g}" for key, value in inspection.values.items()) + units
