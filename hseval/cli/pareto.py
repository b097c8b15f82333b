"""``hseval pareto RESULTS``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from hseval.cli import shared_options as shared


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--x", metavar="NAME", help="samples/s, seconds, or a score.")
@shared.names_option("--y", help="Scores, one panel each.")
@click.option("--color", metavar="OPTION", help="Option shown by color.")
@click.option("--colour", "color_alias", hidden=True)
@click.option("--style", metavar="OPTION", help="Option shown by line style.")
@click.option("--marker", metavar="OPTION", help="Option shown by marker; lines connect its values.")
@click.option("--title", metavar="TEXT", help="Title of the plot.")
@click.option("--out", multiple=True, type=click.Path(path_type=Path), metavar="F", help="PNG, SVG or PDF; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers and the fronts as JSON.")
def pareto(results: Path, out: tuple[Path, ...], as_json: bool, color_alias: str | None, **params: Any) -> None:
    """Plot the scores of a sweep with their Pareto fronts.

    RESULTS is a sweep's folder or its results.json; defaults come from the sweep's file.
    """
    from hseval.core.report import to_jsonable
    from hseval.sweep.pareto.front import build_table
    from hseval.sweep.results import load_results

    sweep_results = load_results(results)
    params["color"] = params["color"] or color_alias
    if params["y"] is not None:
        params["y"] = tuple(params["y"])
    plot = dataclasses.replace(sweep_results.plot, **{key: value for key, value in params.items() if value is not None})
    rows = build_table(sweep_results, plot.x, plot.y)
    if out:  # before anything is printed, as a plot may be refused
        from hseval.sweep.pareto.plot import plot_pareto, save_figure

        figure = plot_pareto(sweep_results, plot)
        for path in out:
            save_figure(figure, path)
    if as_json:
        print(json.dumps(to_jsonable({"x": plot.x, "y": plot.y, "rows": rows}), indent=1))
    else:
        for y in plot.y:
            runs = [row["run"] for row in rows if y in row["front"]]
            print(f"front of {plot.x} and {y}: {'; '.join(runs) or 'no run has both'}")
