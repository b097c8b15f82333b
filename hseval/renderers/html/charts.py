"""Plots by Vega-Altair: drawn once here, so that the page shows them without scripts, and made interactive by the page.

Colours are the page's own variables, so a plot follows light, dark and paper as the text does. What comes from files
(names, ids) stands in the data alone, never in an expression; titles are left to the page.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hseval.core.figure_data import Embedding, MetricValues

REAL_COLOR, GENERATED_COLOR, TRAIN_COLOR = "var(--real)", "var(--generated)", "var(--train)"
SET_LABELS = {"train": "training set", "reference": "reference", "samples": "samples"}
SMALL_SIZE, LARGE_SIZE = (340, 190), (680, 420)  # px; the page fits the width to its own
CLIP_ID_PATTERN = r'\b(id="|url\(#)(clip\d+)(?=["\)])'
BIN_LIMITS = (8, 40)  # fewest and most of a histogram; between them as many as Rice's rule says, twice the cube root
FRAME_EXTENSION, FRAME_MARGIN = (
    0.5,
    0.05,
)  # of the spread of sets: how far beyond their middle 80 % the plane reaches; its margin
VEGA_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--line)",
        "domainColor": "var(--line)", "tickColor": "var(--line)", "titleFontWeight": "normal", "labelFontSize": 11,
        "titleFontSize": 12,
    },
    "legend": {"labelColor": "var(--ink)", "titleColor": "var(--muted)", "labelFontSize": 12, "orient": "top",
               "symbolSize": 90, "labelLimit": 0, "columns": 3},
    "aria": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Chart:
    """A plot: its specification for the page's script, and the same as SVG."""

    spec: dict[str, Any]
    svg: str


@dataclasses.dataclass(frozen=True)
class LineSeries:
    """A line over wavelength: ``role`` is ``"real"`` or ``"generated"``; ``low`` and ``high`` bound its spread."""

    role: str
    values: Sequence[float | None]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def build_line_chart(
    wavelengths: Sequence[float],
    series: Sequence[LineSeries],
    *,
    x_title: str,
    y_title: str,
    y_max: float | None = None,
    includes_zero: bool = False,
) -> Chart:
    """Return lines over wavelength with their spreads; the pointer's nearest band is read off.

    Args:
        wavelengths: ``(band,)``.
        series: the lines.
        x_title: title of the axis across.
        y_title: title of the axis up.
        y_max: end of the axis up, where several plots share one.
        includes_zero: the axis up starts at 0.
    """
    import altair as alt

    rows = [
        {"x": x_, "y": value, "who": SIDE_LABELS[line.role], **_get_bounds(line, i)}
        for line in series
        for i, (x_, value) in enumerate(
            zip(_replace_nonfinite(wavelengths), _replace_nonfinite(line.values), strict=True)
        )
        if value is not None
    ]
    scale = alt.Scale(domain=[0.0, y_max]) if y_max else alt.Scale(zero=includes_zero)
    colour = alt.Color(
        "who:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[REAL_COLOR, GENERATED_COLOR])
    )
    across_axis = alt.X(
        "x:Q", title=x_title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False, tickCount=5)
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=across_axis)
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("y:Q", title=y_title, scale=scale, axis=alt.Axis(tickCount=5)),
        color=colour,
        strokeDash=alt.StrokeDash(
            "who:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[[5, 3], [1, 0]])
        ),
    )
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", fields=["x"], empty=False, clear="pointerout"
    )
    dots = (
        base.mark_point(filled=True, size=70)
        .properties(name="dots")
        .encode(
            y="y:Q",
            color=colour,
            opacity=alt.condition(near, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("who:N", title="set"),
                alt.Tooltip("x:Q", title=x_title, format=".0f"),
                alt.Tooltip("y:Q", title=y_title, format=".4g"),
            ],
        )
    )
    layers = [line, dots.add_params(near)]
    if any(line.low is not None for line in series):
        layers.insert(
            0, base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q", color=colour)
        )
    return _finish_chart(alt.layer(*layers), SMALL_SIZE)


def build_histogram_chart(values: MetricValues) -> Chart:
    """Return the two sides' shares by bin, on common bins."""
    import altair as alt

    both = np.concatenate([values.real, values.generated])
    low, high = np.percentile(both, (0.2, 99.8))
    if not high > low:
        low, high = float(both.min()) - 0.5, float(both.max()) + 0.5
    bins = int(np.clip(2 * min(len(values.real), len(values.generated)) ** (1 / 3), *BIN_LIMITS))
    edges = np.linspace(low, high, bins + 1)
    rows = []
    for role, side in (("real", values.real), ("generated", values.generated)):
        counts, _ = np.histogram(np.clip(side, low, high), edges)
        for i, count in enumerate(counts):
            share = 100 * float(count) / len(side)
            rows.append({"from": float(edges[i]), "to": float(edges[i + 1]), "y": share, "who": SIDE_LABELS[role]})
    colour = alt.Color(
        "who:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[REAL_COLOR, GENERATED_COLOR])
    )
    bars = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X("from:Q", bin="binned", title=values.label, scale=alt.Scale(zero=False, nice=False)),
            x2="to:Q",
            y=alt.Y("y:Q", title="share, %", stack=None),
            color=colour,
            tooltip=[
                alt.Tooltip("who:N", title="set"),
                alt.Tooltip("from:Q", title="from", format=".4g"),
                alt.Tooltip("to:Q", title="to", format=".4g"),
                alt.Tooltip("y:Q", title="share, %", format=".3g"),
            ],
        )
    )
    return _finish_chart(bars, SMALL_SIZE)


def build_scatter_chart(embedding: Embedding) -> Chart:
    """Return sets of cubes in the plane; a click on the legend picks a set, dragging and Shift with the wheel zoom.

    What lies beyond :func:`compute_frame` is drawn at its edge, with its own place to be read off.
    """
    import altair as alt

    low, high = compute_frame(embedding)
    rows = [
        {
            "x": _round_to_four_digits(held[0]),
            "y": _round_to_four_digits(held[1]),
            "who": SET_LABELS[points.role],
            "id": id,
            "at": f"{x:.4g}, {y:.4g}",
        }
        for points in embedding.points
        for (x, y), held, id in zip(points.coordinates, np.clip(points.coordinates, low, high), points.ids, strict=True)
    ]
    names = [SET_LABELS[points.role] for points in embedding.points]
    colours = {"train": TRAIN_COLOR, "reference": REAL_COLOR, "samples": GENERATED_COLOR}
    shapes = {"train": "cross", "reference": "circle", "samples": "triangle-up"}
    picked = alt.selection_point(name="picked", fields=["who"], bind="legend")
    zoomed = alt.selection_interval(
        name="zoomed",
        bind="scales",
        translate="[mousedown, window:mouseup] > window:mousemove!",
        zoom="wheel![event.shiftKey]",
    )
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_point(filled=True, size=36)
        .encode(
            x=alt.X(
                "x:Q",
                title=f"first direction ({100 * embedding.explained_variance_ratio[0]:.0f} % of the spread)",
                scale=alt.Scale(domain=[low[0], high[0]], nice=False),
                axis=alt.Axis(tickCount=8),
            ),
            y=alt.Y(
                "y:Q",
                title=f"second direction ({100 * embedding.explained_variance_ratio[1]:.0f} %)",
                scale=alt.Scale(domain=[low[1], high[1]], nice=False),
            ),
            color=alt.Color(
                "who:N", title=None, scale=alt.Scale(domain=names, range=[colours[p.role] for p in embedding.points])
            ),
            shape=alt.Shape(
                "who:N", title=None, scale=alt.Scale(domain=names, range=[shapes[p.role] for p in embedding.points])
            ),
            opacity=alt.condition(picked, alt.value(0.65), alt.value(0.05)),
            tooltip=[
                alt.Tooltip("who:N", title="set"),
                alt.Tooltip("id:N", title="id"),
                alt.Tooltip("at:N", title="place"),
            ],
        )
        .add_params(picked, zoomed)
        .properties(name="points")
    )
    return _finish_chart(chart, LARGE_SIZE)


def compute_frame(embedding: Embedding) -> tuple[list[float], list[float]]:
    """Return the lower and upper corner that hold the middle 98 % of every set, as far as that lies near the rest."""
    ends = np.stack([np.percentile(points.coordinates, (1, 99), axis=0) for points in embedding.points])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    # One set may scatter far beyond the others: what lies within half their width is enough then.
    inner = np.stack([np.percentile(points.coordinates, (10, 90), axis=0) for points in embedding.points])
    least, most = inner[:, 0].min(axis=0), inner[:, 1].max(axis=0)
    reach = FRAME_EXTENSION * np.maximum(most - least, 1e-9)
    low, high = np.maximum(low, least - reach), np.minimum(high, most + reach)
    room = FRAME_MARGIN * np.maximum(high - low, 1e-9)
    return (low - room).tolist(), (high + room).tolist()


def count_outside_frame(embedding: Embedding) -> int:
    """Return how many cubes lie beyond the frame."""
    low, high = compute_frame(embedding)
    return sum(
        int(((points.coordinates < low) | (points.coordinates > high)).any(axis=1).sum()) for points in embedding.points
    )


def _round_to_four_digits(value: float) -> float:
    return float(f"{value:.4g}")


SIDE_LABELS = {"real": "real", "generated": "generated"}


@functools.cache
def load_vega_script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that sets ``vegaEmbed``; nothing of it uses a network."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _finish_chart(chart: Any, size: tuple[int, int]) -> Chart:
    """Return a chart with the page's look, as a specification that fits its width to the page, and as SVG."""
    import vl_convert

    width, height = size
    spec: dict[str, Any] = chart.properties(width=width, height=height).configure(**VEGA_CONFIG).to_dict()
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    svg = _rename_clip_ids(svg)
    return Chart({**spec, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}, svg)


def _rename_clip_ids(svg: str) -> str:
    """Return a drawing whose clips are named by its content, as the library counts them through a process.

    Those of two drawings in a page must differ, and those of a page made twice must not.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(re.findall(r'\bid="(clip\d+)"', svg)))}

    def renamed(prefix: str) -> str:
        return re.sub(CLIP_ID_PATTERN, lambda found: f"{found[1]}{prefix}clip-{order.get(found[2], found[2])}", svg)

    return renamed(f"c{hashlib.sha256(renamed('').encode()).hexdigest()[:8]}-")


def _get_bounds(line: LineSeries, index: int) -> dict[str, float]:
    if line.low is None or line.high is None:
        return {}
    return {"low": float(line.low[index]), "high": float(line.high[index])}


def _replace_nonfinite(values: Sequence[Any]) -> list[float | None]:
    return [None if value is None or not np.isfinite(value) else float(value) for value in values]
