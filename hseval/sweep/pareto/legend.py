"""What colours, line styles and markers of a Pareto plot tell, and the legend that says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from hseval.sweep.plan import Plot
from hseval.sweep.results import Results, Row
from hseval.utils.errors import HsevalError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito's palette: told apart by readers of every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
FRONT, FLOOR, DARK = "#bbbbbb", "#666666", "#444444"
MANY = 11  # lines of a legend that need smaller letters

Look = Mapping[Any, Any]


def looks_of(results: Results, plot: Plot, rows: Iterable[Row]) -> dict[str, Look]:
    """Return colour, style and marker by the value of the option that each tells."""
    shown, chosen = list(rows), dict[str, Look]()
    for what, option, choices in (
        ("colour", plot.colour, COLOURS), ("style", plot.style, STYLES), ("marker", plot.marker, MARKERS),
    ):  # fmt: skip
        if option is not None and option not in (*results.varied, "generator", "part"):
            known = (*results.varied, "generator", "part")
            raise HsevalError(f"{results.name}: no option {option!r} varies{nearest(option, known)}")
        values = sorted({value_of(row, option) for row in shown}, key=_order)
        chosen[what] = dict(zip(values, itertools.cycle(choices), strict=False))
    return chosen


def value_of(row: Row, option: str | None) -> Any:
    """Return a run's value of an option, of its generator or of its part of the file; None where it has none."""
    if option in ("generator", "part"):
        return getattr(row, option)
    found = None if option is None else row.varied.get(option)
    return tuple(found) if isinstance(found, list) else found


def _order(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return (not number, float(value) if number else 0.0, str(value))


def draw_legend(panel: Axes, plot: Plot, looks: Mapping[str, Look]) -> None:
    """Explain colours and styles on the left of an empty panel, markers on its right, front and floor below."""
    left = [*_explained(plot.colour, "colour", looks), *_explained(plot.style, "style", looks)]
    right = _explained(plot.marker, "marker", looks)
    sides: tuple[tuple[list[Line2D], Literal["upper left", "upper right", "lower left"]], ...]
    sides = ((left, "upper left"), (right, "upper right"), (_marks(), "lower left"))
    size = 7 if len(left) < MANY else 5.5
    for handles, place in sides:
        legend = panel.legend(handles=handles, loc=place, frameon=False, fontsize=size, handlelength=2.0, borderpad=0,
                              borderaxespad=0.2)  # fmt: skip
        for handle, text in zip(handles, legend.get_texts(), strict=True):
            text.set_fontweight("bold" if handle.get_gid() == "head" else "normal")
        panel.add_artist(legend)


def _explained(option: str | None, what: str, looks: Mapping[str, Look]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    if option is None:
        return []
    handles = [Line2D([], [], linestyle="none", label=option.replace("_", " "), gid="head")]
    for value, look in looks[what].items():
        given: dict[str, Any] = {
            "colour": {"color": look, "linewidth": 2.5},
            "style": {"color": DARK, "linewidth": 1.0, "linestyle": look},
            "marker": {"color": DARK, "linestyle": "none", "marker": look, "markersize": 5},
        }[what]
        handles.append(Line2D([], [], label=_text(value), **given))
    return handles


def _marks() -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=FRONT, linewidth=3.2, marker="o", markersize=5, markerfacecolor="white",
               markeredgecolor="black", label="Pareto front"),
        Line2D([], [], color=FLOOR, linewidth=0.9, linestyle=(0, (2, 2)), label="floor (real vs. real)"),
    ]  # fmt: skip


def _text(value: Any) -> str:
    return "–" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
