"""``hseval sweep F.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.sweep.results import SweepResults


@click.command()
@click.argument("file", metavar="F.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Overrides the folder in the file.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Workers (submitit jobs)."
)
@click.option("--slurm", metavar="K=V,...", help="Use Slurm: slurm_partition=gpu,timeout_min=600.")
@click.option("--only", multiple=True, metavar="LABEL", help="Only runs of this [[generator]] table.")
@click.option("--retry", is_flag=True, help="Retry runs that failed before.")
@click.option("--list", "listing", is_flag=True, help="List the runs and their state, without running any.")
@shared.device_option
@shared.quiet_option()
def sweep(file: Path, **params: Any) -> int:
    """Train, sample, time and score many configurations.

    F.toml lists them; the trade-offs are plotted. The same command resumes where it was interrupted. A run that fails
    is reported and skipped.
    """
    from hseval.sweep.config import read_plan
    from hseval.sweep.results import collect_results
    from hseval.sweep.sweep import prepare_folder, run_sweep
    from hseval.sweep.workers import compute_runs_by_key
    from hseval.utils.progress import ProgressReporter

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
    print_message = ProgressReporter().print_line
    results = run_sweep(plan, on_message=print_message, **options)
    results.save(plan.out)
    plot_names = _save_plots(results, plan.out)  # before anything is printed: a closed pipe must not cost the files
    _show(results)
    print(f"{plan.out}: results.json, results.csv{plot_names}")
    requested = [row for row in results.rows if not params["only"] or row.table_label in params["only"]]
    return int(not all(row.scores for row in requested))


def _save_plots(results: SweepResults, folder: Path) -> str:
    """Plot the results if there are any to plot; return the names of the files for a message."""
    from hseval.sweep.pareto.front import build_points

    plot = results.plot
    score_names = set(results.score_names)
    if not any(build_points(results, plot.x, y) for y in plot.y if y in score_names) or not score_names.issuperset(
        plot.y
    ):
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
    """Return the parameters as submitit takes them, whole numbers as int.

    Raises:
        HsevalError: a parameter has no ``=``.
    """
    if text is None:
        return None
    parameters: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or not key:
            raise HsevalError(
                f"--slurm {part!r}: expected key=value,key=value, with the names of submitit's AutoExecutor"
            )
        parameters[key] = int(value) if value.isdigit() else value
    return parameters
