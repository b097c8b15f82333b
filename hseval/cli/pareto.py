"""``hseval pareto RESULTS``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--x", metavar="FIGURE", help="samples/s, seconds, or a score.")
@click.option("--y", metavar="A,B", help="Scores, a panel each.")
@click.option("--color", metavar="OPTION", help="Option shown by color.")
@click.option("--colour", "color_alias", hidden=True)
@click.option("--style", metavar="OPTION", help="The option that line styles tell.")
@click.option("--marker", metavar="OPTION", help="The option that markers tell, and along which lines are drawn.")
@click.option("--title", metavar="TEXT", help="A line on top.")
@click.option("--out", multiple=True, type=click.Path(path_type=Path), metavar="F", help="PNG, SVG or PDF; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures of each run, and the fronts that it is on.")
def pareto(results: Path, out: tuple[Path, ...], as_json: bool, color_alias: str | None, **params: Any) -> None:
    """Draw any pair of figures of a sweep against each other, with the front of those that no other run beats.

    RESULTS is the folder of a sweep, or its results.json. What is not given stays as the sweep's file has it.
    """
    from hseval.core.report import to_jsonable
    from hseval.sweep.pareto.front import build_table
    from hseval.sweep.results import load_results

    found = load_results(results)
    params["color"] = params["color"] or color_alias
    if params["y"] is not None:
        params["y"] = tuple(name.strip() for name in params["y"].split(",") if name.strip())
    plot = dataclasses.replace(found.plot, **{key: value for key, value in params.items() if value is not None})
    rows = build_table(found, plot.x, plot.y)
    if as_json:
        click.echo(json.dumps(to_jsonable({"x": plot.x, "y": plot.y, "rows": rows}), indent=1))
    else:
        for y in plot.y:
            best = [row["run"] for row in rows if y in row["front"]]
            click.echo(f"front of {plot.x} and {y}: {'; '.join(best) or 'no run has both'}")
    if out:
        from hseval.sweep.pareto.plot import plot_pareto, save_figure

        figure = plot_pareto(found, plot)
        for path in out:
            save_figure(figure, path)
