"""Plots of a qualify report: the curves of each metric, and a map of the faults that every metric detects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.qualification.tables import INSENSITIVE, shorten_unit
from hseval.utils.atomic_files import write_atomically
from hseval.utils.text import escape_label, map_text

if TYPE_CHECKING:
    from hseval.qualification.report import Curve, DegradationRow, MetricColumn, QualifyReport

# Okabe and Ito's palette: distinguishable with every kind of color vision, and in gray by their markers.
DETECTED_COLOR, UNDETECTED_COLOR, FLOOR_COLOR = "#0072B2", "#D55E00", "#999999"
PANEL_COLUMNS, PANEL_SIZE = 4, (3.1, 2.35)  # panels side by side, and the size of one in inches
CELL_SIZE = (0.93, 0.34)  # width and height of a cell of the map, inches
MAX_LABEL_LENGTH = 11  # characters of a label in one line of the map
LOG_SCALE_RATIO = 20.0  # a curve that spans more than this factor gets a logarithmic axis
DPI = 110


def save_plots(report: QualifyReport, folder: Path) -> list[Path]:
    """Write one page of curves for each metric and the map as PNG; return their paths.

    Raises:
        HsevalError: the folder can't be written.
    """
    report = map_text(report, escape_label)
    pages = {f"curves-{_slugify(column.label)}.png": plot_curves(report, column) for column in report.columns}
    paths = []
    for name, figure in {**pages, "sees.png": plot_detection_map(report)}.items():
        paths.append(folder / name)
        with write_atomically(paths[-1]) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)
    return paths


def plot_curves(report: QualifyReport, column: MetricColumn) -> Any:
    """Return the page of one metric: for each degradation a panel of value against severity, with the floor."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    down = -(-len(report.rows) // PANEL_COLUMNS)
    height = PANEL_SIZE[1] * down + 1.1
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.75 / height))
    figure = Figure(figsize=(PANEL_SIZE[0] * PANEL_COLUMNS, height), layout=layout)
    panels = np.asarray(figure.subplots(down, PANEL_COLUMNS, squeeze=False)).ravel()
    for panel in panels[len(report.rows) :]:
        panel.set_axis_off()
    for row, panel in zip(report.rows, panels, strict=False):
        _plot_panel(panel, row, report.get_curve(column.label, row.name))
    better = {"lower": "lower is better", "higher": "higher is better", "floor": "best is nearest the floor"}
    figure.suptitle(
        f"{column.label}: clean half against degraded half, by severity ({better[column.better]})",
        x=0.01, y=1 - 0.1 / height, ha="left", fontsize=13, weight="bold",
    )  # fmt: skip
    handles = [
        Line2D([], [], color=DETECTED_COLOR, marker="o", markersize=5,
               label="significantly different from the floor, with 95 % interval"),
        Line2D([], [], color=UNDETECTED_COLOR, marker="o", markersize=5, markerfacecolor="white",
               label="not significantly different"),
        Patch(facecolor=FLOOR_COLOR, alpha=0.35, label="floor (dashed), with 95 % interval"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.005, 1 - 0.38 / height), ncols=3, frameon=False,
                  fontsize=9)  # fmt: skip
    return figure


def plot_detection_map(report: QualifyReport) -> Any:
    """Return the map of degradations by metrics; the darker, the smaller the severity that is detected."""
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    shares = np.array(
        [[_compute_detected_share(report.get_curve(c.label, row.name)) for c in report.columns] for row in report.rows]
    )
    down, across = shares.shape
    figure = Figure(figsize=(2.7 + CELL_SIZE[0] * max(across, 4), 1.6 + CELL_SIZE[1] * down), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", norm=Normalize(0, 1), aspect="auto")
    axes.set_facecolor("#dddddd")
    for i, row in enumerate(report.rows):
        for j, column in enumerate(report.columns):
            text = _format_map_cell(report.get_curve(column.label, row.name), row)
            color = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(across), [_wrap_label(column.label) for column in report.columns], fontsize=9)
    axes.set_yticks(range(down), [row.name for row in report.rows], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    kinds = [row.kind for row in report.rows]
    for i in range(1, down):
        if kinds[i] != kinds[i - 1]:
            axes.axhline(i - 0.5, color="black", linewidth=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.01, aspect=30)
    bar.set_label("share of severities detected", fontsize=9)
    axes.set_title("Smallest severity detected", fontsize=12, weight="bold", loc="left")
    return figure


def _plot_panel(axes: Any, row: DegradationRow, curve: Curve) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    is_detected = curve.detection_threshold is not None
    color = DETECTED_COLOR if is_detected else UNDETECTED_COLOR
    points = [point for point in curve.points if point.value is not None]
    is_missing = curve.floor is None or not points
    verdict = f"detected from {curve.detection_threshold:.3g}" if is_detected else INSENSITIVE
    verdict = "not computed" if is_missing else verdict
    rank = "" if curve.spearman is None else f", Spearman {curve.spearman:.2f}"
    axes.text(0, 1.16, row.name, transform=axes.transAxes, fontsize=9, weight="bold", va="bottom")
    axes.text(0, 1.04, f"{verdict}{rank}", transform=axes.transAxes, fontsize=8.5, va="bottom", color=color)
    axes.tick_params(labelsize=7.5)
    if curve.floor is None or is_missing:
        axes.set_axis_off()
        return
    if curve.floor_interval is not None:
        axes.axhspan(*curve.floor_interval, color=FLOOR_COLOR, alpha=0.35, linewidth=0)
    axes.axhline(curve.floor, color=FLOOR_COLOR, linestyle="--", linewidth=1)
    severities = np.array([point.severity for point in points])
    values = np.array([point.value for point in points])
    axes.plot(severities, values, color=color, linewidth=1.2, zorder=2)
    ends = np.array([[_get_end(point.interval, end) for point in points] for end in (0, 1)])
    axes.errorbar(severities, values, yerr=np.abs(ends - values), fmt="none", ecolor=color, elinewidth=0.9, zorder=2)
    significant = np.array([point.is_significant for point in points])
    axes.scatter(severities[significant], values[significant], s=18, color=DETECTED_COLOR, zorder=3)
    axes.scatter(severities[~significant], values[~significant], s=18, facecolors="white", edgecolors=UNDETECTED_COLOR,
                 zorder=3)  # fmt: skip
    axes.set_xscale("log")
    # Ticks at 1, 2 and 5 where a curve spans less than two decades, which would otherwise have two ticks or fewer.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if severities[-1] < 100 * severities[0] else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _set_y_scale(axes, values, curve)
    axes.set_xlabel(shorten_unit(row.unit), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _set_y_scale(axes: Any, values: Any, curve: Curve) -> None:
    """Set a logarithmic axis for a curve of a wide range; one that is linear near 0 if the curve reaches 0."""
    from matplotlib.ticker import NullFormatter

    low, high = curve.floor_interval or (0.0, 0.0)
    linear_limit = max(abs(low), abs(high), abs(curve.floor or 0.0))
    if values.min() > 0 and (curve.floor or 0.0) > 0 and values.max() > LOG_SCALE_RATIO * values.min():
        axes.set_yscale("log")
    elif linear_limit > 0 and np.abs(values).max() > LOG_SCALE_RATIO * linear_limit:
        axes.set_yscale("symlog", linthresh=linear_limit)
        axes.set_ylim(*(2 * end for end in (min(values.min(), low, 0.0), max(values.max(), high, 0.0))))
        first, last = np.ceil(np.log10([linear_limit, np.abs(values).max()])).astype(int)
        powers = 10.0 ** np.arange(first, last + 1, max(1, (last - first) // 4))
        axes.set_yticks([0.0, *(powers if values[-1] > 0 else -powers)])
    else:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        return
    axes.yaxis.set_minor_formatter(NullFormatter())


def _compute_detected_share(curve: Curve) -> float:
    """Return the share of a curve's severities at or above the detection threshold; NaN if nothing was computed."""
    severities = [point.severity for point in curve.points if point.value is not None]
    if curve.floor is None or not severities:
        return float("nan")
    return (
        0.0
        if curve.detection_threshold is None
        else sum(severity >= curve.detection_threshold for severity in severities) / len(severities)
    )


def _format_map_cell(curve: Curve, row: DegradationRow) -> str:
    if np.isnan(_compute_detected_share(curve)):
        return "not computed"
    return (
        INSENSITIVE
        if curve.detection_threshold is None
        else f"{curve.detection_threshold:.3g} {_abbreviate_unit(row.unit)}"
    )


def _abbreviate_unit(unit: str) -> str:
    """Return a unit in one word; the page of curves has the full unit."""
    first = unit.split(maxsplit=1)[0]
    return {"nm": "nm", "px": "px", "%": "%", "percentage": "points"}.get(first, "")


def _wrap_label(label: str) -> str:
    """Return a label broken into lines that fit a column of the map."""
    head, bracket, rest = label.partition(" (")
    if len(head) > MAX_LABEL_LENGTH:
        head = head.replace("-", "-\n", 1)
    return f"{head}\n({rest}" if bracket else head


def _get_end(interval: tuple[float, float] | None, end: int) -> float:
    return float("nan") if interval is None else interval[end]


def _slugify(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
