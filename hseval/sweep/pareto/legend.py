"""Colors, line styles and markers of a Pareto plot, and the legend that explains them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from hseval.sweep.plan import PlotConfig
from hseval.sweep.results import RunResult, SweepResults
from hseval.utils.errors import HsevalError, format_suggestion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito's palette: distinguishable with every kind of color vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
LINE_STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
FRONT_COLOR, FLOOR_COLOR, LEGEND_COLOR = "#bbbbbb", "#666666", "#444444"
MIN_SMALL_FONT_LINES = 11  # a legend with at least this many lines gets a smaller font

StyleMap = Mapping[Any, Any]


def assign_styles(results: SweepResults, plot: PlotConfig, rows: Iterable[RunResult]) -> dict[str, StyleMap]:
    """Return the color, style and marker of every value of the option that each of them encodes."""
    visible, style_maps = list(rows), dict[str, StyleMap]()
    for channel, option, choices in (
        ("color", plot.color, COLORS), ("style", plot.style, LINE_STYLES), ("marker", plot.marker, MARKERS),
    ):  # fmt: skip
        if option is not None and option not in (*results.varied_option_names, "generator", "part"):
            known = (*results.varied_option_names, "generator", "part")
            raise HsevalError(f"{results.name}: no option {option!r} varies{format_suggestion(option, known)}")
        values = sorted({get_option_value(row, option) for row in visible}, key=_compute_sort_key)
        style_maps[channel] = dict(zip(values, itertools.cycle(choices), strict=False))
    return style_maps


def get_option_value(row: RunResult, option: str | None) -> Any:
    """Return a run's value of an option, its generator or its table's label (``"part"``); None if it has none."""
    if option in ("generator", "part"):
        return row.generator if option == "generator" else row.table_label
    value = None if option is None else row.varied_options.get(option)
    return tuple(value) if isinstance(value, list) else value


def _compute_sort_key(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, (int, float))
    return (not is_number, float(value) if is_number else 0.0, str(value))


def draw_legend(panel: Axes, plot: PlotConfig, style_maps: Mapping[str, StyleMap]) -> None:
    """Explain colors and styles at the left of an empty panel, markers at its right, front and floor below."""
    left = [
        *_build_option_handles(plot.color, "color", style_maps),
        *_build_option_handles(plot.style, "style", style_maps),
    ]
    right = _build_option_handles(plot.marker, "marker", style_maps)
    sides: tuple[tuple[list[Line2D], Literal["upper left", "upper right", "lower left"]], ...]
    sides = ((left, "upper left"), (right, "upper right"), (_build_mark_handles(), "lower left"))
    size = 7 if len(left) < MIN_SMALL_FONT_LINES else 5.5
    for handles, location in sides:
        legend = panel.legend(handles=handles, loc=location, frameon=False, fontsize=size, handlelength=2.0,
                              borderpad=0, borderaxespad=0.2)  # fmt: skip
        for handle, text in zip(handles, legend.get_texts(), strict=True):
            text.set_fontweight("bold" if handle.get_gid() == "head" else "normal")
        panel.add_artist(legend)


def _build_option_handles(option: str | None, channel: str, style_maps: Mapping[str, StyleMap]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    if option is None:
        return []
    handles = [Line2D([], [], linestyle="none", label=option.replace("_", " "), gid="head")]
    for value, style in style_maps[channel].items():
        properties: dict[str, Any] = {
            "color": {"color": style, "linewidth": 2.5},
            "style": {"color": LEGEND_COLOR, "linewidth": 1.0, "linestyle": style},
            "marker": {"color": LEGEND_COLOR, "linestyle": "none", "marker": style, "markersize": 5},
        }[channel]
        handles.append(Line2D([], [], label=_format_value(value), **properties))
    return handles


def _build_mark_handles() -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=FRONT_COLOR, linewidth=3.2, marker="o", markersize=5, markerfacecolor="white",
               markeredgecolor="black", label="Pareto front"),
        Line2D([], [], color=FLOOR_COLOR, linewidth=0.9, linestyle=(0, (2, 2)), label="floor (real vs. real)"),
    ]  # fmt: skip


def _format_value(value: Any) -> str:
    return "–" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
