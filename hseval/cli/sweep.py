"""``hseval sweep F.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.sweep.results import SweepResults


@click.command()
@click.argument("file", metavar="F.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="In place of the file's own.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Workers (jobs of submitit).")
@click.option("--slurm", metavar="K=V,...", help="Under Slurm, as slurm_partition=gpu,timeout_min=600.")
@click.option("--only", multiple=True, metavar="LABEL", help="Only the runs of this [[generator]] table.")
@click.option("--retry", is_flag=True, help="Try runs again that failed before.")
@click.option("--list", "listing", is_flag=True, help="Show the runs, and which of them are done, and do none.")
@click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; in place of the file's own.")
def sweep(file: Path, **params: Any) -> int:
    """Train, sample, time and score every configuration that F.toml names, and draw the trade-offs.

    What is done is kept and not done again: after Ctrl-C, kill -9 or a full disk the same command goes on. A run that
    fails is reported and skipped.
    """
    from hseval.sweep.config import read_plan
    from hseval.sweep.results import collect_results
    from hseval.sweep.sweep import prepare_folder, run_sweep
    from hseval.sweep.workers import compute_runs_by_key

    plan = read_plan(file, out=params["out"], device=params["device"])
    if params["listing"]:
        prepare_folder(plan)
        _show(collect_results(plan, compute_runs_by_key(plan)))
        return 0
    options = {
        "jobs": params["jobs"],
        "slurm": _parse_slurm(params["slurm"]),
        "retry": params["retry"],
        "only": params["only"],
    }
    results = run_sweep(plan, on_message=lambda line: click.echo(line, err=True), **options)
    results.save(plan.out)
    _show(results)
    drawn = _save_plots(results, plan.out)
    click.echo(f"{plan.out}: results.json, results.csv{drawn}")
    wanted = [row for row in results.rows if not params["only"] or row.table_label in params["only"]]
    return int(not all(row.scores for row in wanted))


def _save_plots(results: SweepResults, folder: Path) -> str:
    """Draw the plot where there is something to draw; return what to say of it."""
    from hseval.sweep.pareto.front import build_points

    plot = results.plot
    known = set(results.score_names)
    if not any(build_points(results, plot.x, y) for y in plot.y if y in known) or not known.issuperset(plot.y):
        return ""
    from hseval.sweep.pareto.plot import plot_pareto, save_figure

    figure = plot_pareto(results)
    for name in ("pareto.png", "pareto.svg"):
        save_figure(figure, folder / name)
    return ", pareto.png, pareto.svg"


def _show(results: SweepResults) -> None:
    from hseval.sweep.show import print_results

    print_results(results)


def _parse_slurm(text: str | None) -> dict[str, Any] | None:
    """Return the parameters as submitit takes them: whole numbers as such.

    Raises:
        HsevalError: a part without ``=``.
    """
    if text is None:
        return None
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not key:
            raise HsevalError(f"--slurm {part!r}: expected key=value,key=value, as submitit's AutoExecutor names them")
        found[key] = int(value) if value.isdigit() else value
    return found
