"""The Pareto plot: a panel for each score against speed (or any other quantity), with intervals, floor and front."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hseval.sweep.pareto.front import SECONDS, SPEED, ParetoPoint, Quantity, build_points, choose_log_ticks
from hseval.sweep.pareto.legend import FLOOR_COLOR, FRONT_COLOR, StyleMap, assign_styles, draw_legend, get_option_value
from hseval.sweep.plan import PlotConfig
from hseval.sweep.results import SweepResults
from hseval.utils.atomic_files import write_atomically
from hseval.utils.errors import HsevalError
from hseval.utils.text import escape_label, map_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_COLUMNS, PANEL_SIZE = 3, (2.55, 2.25)  # panels side by side; width and height of one, inches
FILE_FORMATS = ("png", "svg", "pdf")
DPI = 200
AXIS_LABELS = {
    SPEED: "samples per second",
    SECONDS: "seconds per sample",
    "fid": "Fréchet distance (fid)",
    "ms-ssim": "difference of MS-SSIM",
    "spectral-kl": "KL divergence (nats)",
}


def plot_pareto(results: SweepResults, plot: PlotConfig | None = None) -> Figure:
    """Return the plot as a matplotlib figure.

    Color, line style and marker encode values of options; a line joins the runs that differ only in the marker's
    option. Steps mark the front, black rims the runs on it; bars are 95 % intervals (of speeds: fastest and slowest
    repeat). An axis is logarithmic if all its values are positive.

    Args:
        results: of a sweep.
        plot: what to draw; None: the plot of the sweep's file.

    Raises:
        HsevalError: there is no such quantity or option, or no run that has the quantities.
    """
    from matplotlib.figure import Figure

    results, plot = map_text(results, escape_label), map_text(plot or results.plot, escape_label)
    panels = {y: build_points(results, plot.x, y) for y in plot.y}
    if not any(panels.values()):
        raise HsevalError(f"{results.name}: no run has both {plot.x!r} and one of {', '.join(plot.y) or 'no score'}")
    style_maps = assign_styles(results, plot, [point.row for points in panels.values() for point in points])
    columns = min(PANEL_COLUMNS, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)
    figure = Figure(figsize=(PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for letter, (panel, (y, points)) in zip("abcdefghijklmnop", zip(axes, panels.items(), strict=False), strict=False):
        _plot_panel(panel, points, plot, y, style_maps)
        panel.set_title(letter, loc="left", fontsize=9, weight="bold")
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    draw_legend(axes[len(panels)], plot, style_maps)
    figure.supxlabel(_format_axis_label(plot.x) + _format_devices(results, plot.x), fontsize=9)
    if plot.title:
        figure.suptitle(plot.title, fontsize=10)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically as PNG, SVG or PDF, by the ending of its name.

    Raises:
        HsevalError: another ending, or the file can't be written.
    """
    kind = path.suffix.lstrip(".").lower()
    if kind not in FILE_FORMATS:
        raise HsevalError(f"{path}: a plot is written as {', '.join(FILE_FORMATS)}; expected a name with that ending")
    with write_atomically(path) as temporary:
        _write_figure(figure, temporary, kind)


def render_svg(figure: Figure) -> bytes:
    """Return a figure as SVG."""
    stream = io.BytesIO()
    _write_figure(figure, stream, "svg")
    return stream.getvalue()


def _write_figure(figure: Figure, target: Path | io.BytesIO, file_format: str) -> None:
    """Save without date and random ids, so that the same figure gives the same bytes."""
    import matplotlib as mpl

    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[file_format]
    with mpl.rc_context({"svg.hashsalt": "hseval"}):
        figure.savefig(target, format=file_format, dpi=DPI, metadata=metadata)


def _plot_panel(
    panel: Axes, points: Sequence[ParetoPoint], plot: PlotConfig, y: str, style_maps: Mapping[str, StyleMap]
) -> None:
    panel.set_ylabel(_format_axis_label(y), fontsize=8)
    panel.tick_params(labelsize=7, which="both")
    panel.grid(visible=True, which="major", color="#eeeeee", linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if not points:
        panel.text(0.5, 0.5, "no value", ha="center", va="center", transform=panel.transAxes, fontsize=8)
        return
    floors = sorted(point.y.floor for point in points if point.y.floor is not None)
    floor = floors[len(floors) // 2] if floors else None
    lower_limits = {axis_name: _set_scale(panel, axis_name, points, floor) for axis_name in "xy"}
    if floor is not None:
        panel.axhline(floor, color=FLOOR_COLOR, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    _draw_front(panel, points)
    for line in _group_lines(points, plot):
        first = line[0].row
        color, style = (
            style_maps["color"][get_option_value(first, plot.color)],
            style_maps["style"][get_option_value(first, plot.style)],
        )
        panel.plot([p.x.value for p in line], [p.y.value for p in line], color=color, linestyle=style, linewidth=0.9,
                   zorder=3)  # fmt: skip
        for point in line:
            _draw_point(
                panel,
                point,
                lower_limits,
                color=color,
                marker=style_maps["marker"][get_option_value(point.row, plot.marker)],
            )


def _set_scale(panel: Axes, axis_name: str, points: Sequence[ParetoPoint], floor: float | None) -> float:
    """Set an axis's scale and limits; return its lower limit, at which intervals are clipped."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis = panel.xaxis if axis_name == "x" else panel.yaxis
    quantities: list[Quantity] = [point.x if axis_name == "x" else point.y for point in points]
    values = [quantity.value for quantity in quantities] + ([floor] if axis_name == "y" and floor is not None else [])
    ends = [end for quantity in quantities for end in (quantity.low, quantity.high)]
    set_limits = panel.set_xlim if axis_name == "x" else panel.set_ylim
    if min(values) <= 0:
        low, high = min(*values, *ends), max(*values, *ends)
        margin = 0.06 * (high - low or 1.0)
        set_limits(low - margin, high + margin)
        return low - margin
    low = min([*values, *(end for end in ends if end > min(values) / 3)]) / 1.15
    high = max(*values, *ends) * 1.15
    (panel.set_xscale if axis_name == "x" else panel.set_yscale)("log")
    set_limits(low, high)
    axis.set_major_locator(LogLocator(subs=choose_log_ticks(low, high)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    return low


def _group_lines(points: Sequence[ParetoPoint], plot: PlotConfig) -> list[list[ParetoPoint]]:
    """Return groups of runs that differ only in the marker's option, each in the order of x."""
    groups: dict[Any, list[ParetoPoint]] = {}
    for point in points:
        options = {name: value for name, value in point.row.varied_options.items() if name != plot.marker}
        groups.setdefault((point.row.table_label, repr(options)) if plot.marker else point.row.label, []).append(point)
    return [sorted(group, key=lambda point: point.x.value) for group in groups.values()]


def _draw_point(panel: Axes, point: ParetoPoint, lower_limits: Mapping[str, float], *, color: str, marker: str) -> None:
    x, y = _compute_error_bar(point.x, lower_limits["x"]), _compute_error_bar(point.y, lower_limits["y"])
    panel.errorbar(point.x.value, point.y.value, xerr=x, yerr=y, fmt="none", ecolor=color, elinewidth=0.7, alpha=0.55,
                   zorder=2)  # fmt: skip
    panel.plot(point.x.value, point.y.value, marker=marker, markersize=5.2, color=color, linestyle="none", zorder=4,
               markeredgecolor="black" if point.is_on_front else "white",
               markeredgewidth=1.0 if point.is_on_front else 0.5)  # fmt: skip


def _compute_error_bar(quantity: Quantity, lower_limit: float) -> list[list[float]]:
    return [[max(quantity.value - max(quantity.low, lower_limit), 0)], [max(quantity.high - quantity.value, 0)]]


def _draw_front(panel: Axes, points: Sequence[ParetoPoint]) -> None:
    """Draw the best y that is available at each x or better."""
    front = sorted((point for point in points if point.is_on_front), key=lambda point: point.x.value)
    step: Literal["pre", "post"] = "pre" if front[0].x.better == "higher" else "post"
    panel.step([p.x.value for p in front], [p.y.value for p in front], where=step, color=FRONT_COLOR, linewidth=3.2,
               solid_capstyle="round", zorder=1.5)  # fmt: skip


def _format_axis_label(name: str) -> str:
    metric, _, structure = name.partition(":")
    if metric == "spectral-kl" and structure:
        return f"KL divergence, {structure} (nats)"
    label = AXIS_LABELS.get(metric, metric)
    return f"{label}, {structure}" if structure else label


def _format_devices(results: SweepResults, x: str) -> str:
    """Return the machine that speeds were measured on, in parentheses; for other quantities nothing."""
    if x not in (SPEED, SECONDS):
        return ""
    devices = sorted({row.timing.device for row in results.rows if row.timing})
    return f" ({devices[0]})" if len(devices) == 1 else f" ({len(devices)} devices: speeds are not comparable)"
