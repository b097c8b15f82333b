"""Plots by Vega-Altair: rendered to SVG here, so that they need no scripts, and made interactive by the page.

Colors are CSS variables of the page, so that a plot follows the light, dark and print styles. Text from files (names,
ids, units) goes into data and titles of axes only, never into an expression: titles of tooltips are fixed, as
Vega-Lite puts them into one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.utils.text import map_text, shorten_text

if TYPE_CHECKING:
    from hseval.core.figure_data import Embedding, MetricValues

REAL_COLOR, GENERATED_COLOR, TRAIN_COLOR = "var(--real)", "var(--generated)", "var(--train)"
SET_LABELS = {"train": "training set", "reference": "reference", "samples": "samples"}
SMALL_SIZE, LARGE_SIZE = (340, 190), (680, 420)  # px; the page scales the width to its own
CLIP_ID_PATTERN = r'\b(id="|url\(#)(clip\d+)(?=["\)])'
BIN_LIMITS = (8, 40)  # of a histogram; between them the number of bins is by Rice's rule, 2 n^(1/3)
MAX_TEXT_LENGTH = 200  # characters; the time to measure a text is quadratic in its length
MAX_VALUE = 1e300  # of a histogram: the width of larger ones is infinite
FRAME_EXTENSION = 0.5  # how far a frame reaches beyond the middle 80 % of all sets, relative to their width
FRAME_MARGIN = 0.05  # margin of a frame, relative to its width
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
    """A plot: its specification for the page's script, and its rendering as SVG."""

    spec: dict[str, Any]
    svg: str


@dataclasses.dataclass(frozen=True)
class LineSeries:
    """A line over wavelength: ``role`` is ``"real"`` or ``"generated"``; ``low`` and ``high`` bound its band."""

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
    """Return lines over wavelength with their bounds; the tooltip shows the band nearest to the pointer.

    Args:
        wavelengths: ``(band,)``.
        series: the lines.
        x_title: title of the x axis.
        y_title: title of the y axis.
        y_max: end of the y axis, where several plots share one.
        includes_zero: the y axis starts at 0.
    """
    import altair as alt

    rows = [
        {"x": wavelength, "y": value, "set": SIDE_LABELS[line.role], **_get_bounds(line, i)}
        for line in series
        for i, (wavelength, value) in enumerate(
            zip(_replace_nonfinite(wavelengths), _replace_nonfinite(line.values), strict=True)
        )
        if value is not None
    ]
    scale = alt.Scale(domain=[0.0, y_max]) if y_max else alt.Scale(zero=includes_zero)
    color = alt.Color(
        "set:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[REAL_COLOR, GENERATED_COLOR])
    )
    x_axis = alt.X(
        "x:Q", title=x_title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False, tickCount=5)
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x_axis)
    line = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("y:Q", title=y_title, scale=scale, axis=alt.Axis(tickCount=5)),
        color=color,
        strokeDash=alt.StrokeDash(
            "set:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[[5, 3], [1, 0]])
        ),
    )
    nearest = alt.selection_point(
        name="nearest", nearest=True, on="pointerover", fields=["x"], empty=False, clear="pointerout"
    )
    dots = (
        base.mark_point(filled=True, size=70)
        .properties(name="dots")
        .encode(
            y="y:Q",
            color=color,
            opacity=alt.condition(nearest, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("set:N", title="set"),
                alt.Tooltip("x:Q", title=x_title, format=".0f"),
                alt.Tooltip("y:Q", title="value", format=".4g"),
            ],
        )
    )
    layers = [line, dots.add_params(nearest)]
    if any(line.low is not None for line in series):
        layers.insert(0, base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=y_title), y2="high:Q", color=color))
    return _finish_chart(alt.layer(*layers), SMALL_SIZE)


def build_histogram_chart(values: MetricValues) -> Chart:
    """Return the histograms of both sides on common bins, in percent."""
    import altair as alt

    pooled = np.clip(np.concatenate([values.real, values.generated]), -MAX_VALUE, MAX_VALUE)
    low, high = np.percentile(pooled, (0.2, 99.8))
    if not high > low:
        low, high = float(pooled.min()) - 0.5, float(pooled.max()) + 0.5
    bins = int(np.clip(2 * min(len(values.real), len(values.generated)) ** (1 / 3), *BIN_LIMITS))
    edges = np.linspace(low, high, bins + 1)
    rows = []
    for role, side in (("real", values.real), ("generated", values.generated)):
        counts, _ = np.histogram(np.clip(side, low, high), edges)
        for i, count in enumerate(counts):
            share = 100 * float(count) / len(side)
            rows.append({"from": float(edges[i]), "to": float(edges[i + 1]), "y": share, "set": SIDE_LABELS[role]})
    color = alt.Color(
        "set:N", legend=None, scale=alt.Scale(domain=list(SIDE_LABELS.values()), range=[REAL_COLOR, GENERATED_COLOR])
    )
    bars = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(opacity=0.5, binSpacing=0)
        .encode(
            x=alt.X("from:Q", bin="binned", title=values.label, scale=alt.Scale(zero=False, nice=False)),
            x2="to:Q",
            y=alt.Y("y:Q", title="share, %", stack=None),
            color=color,
            tooltip=[
                alt.Tooltip("set:N", title="set"),
                alt.Tooltip("from:Q", title="from", format=".4g"),
                alt.Tooltip("to:Q", title="to", format=".4g"),
                alt.Tooltip("y:Q", title="share, %", format=".3g"),
            ],
        )
    )
    return _finish_chart(bars, SMALL_SIZE)


def build_scatter_chart(embedding: Embedding) -> Chart:
    """Return sets of cubes in the plane; a click on the legend selects a set, dragging moves, Shift and the wheel zoom.

    Points outside :func:`compute_frame` are drawn at its edge; the tooltip shows their coordinates.
    """
    import altair as alt

    low, high = compute_frame(embedding)
    rows = [
        {
            "x": _round_to_four_digits(clipped[0]),
            "y": _round_to_four_digits(clipped[1]),
            "set": SET_LABELS[points.role],
            "id": id,
            "position": f"{x:.4g}, {y:.4g}",
        }
        for points in embedding.points
        for (x, y), clipped, id in zip(
            points.coordinates, np.clip(points.coordinates, low, high), points.ids, strict=True
        )
    ]
    names = [SET_LABELS[points.role] for points in embedding.points]
    colors = {"train": TRAIN_COLOR, "reference": REAL_COLOR, "samples": GENERATED_COLOR}
    shapes = {"train": "cross", "reference": "circle", "samples": "triangle-up"}
    selected = alt.selection_point(name="selected", fields=["set"], bind="legend")
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
                title=f"first component ({100 * embedding.explained_variance_ratio[0]:.0f} % of the variance)",
                scale=alt.Scale(domain=[low[0], high[0]], nice=False),
                axis=alt.Axis(tickCount=8),
            ),
            y=alt.Y(
                "y:Q",
                title=f"second component ({100 * embedding.explained_variance_ratio[1]:.0f} %)",
                scale=alt.Scale(domain=[low[1], high[1]], nice=False),
            ),
            color=alt.Color(
                "set:N",
                title=None,
                scale=alt.Scale(domain=names, range=[colors[points.role] for points in embedding.points]),
            ),
            shape=alt.Shape(
                "set:N",
                title=None,
                scale=alt.Scale(domain=names, range=[shapes[points.role] for points in embedding.points]),
            ),
            opacity=alt.condition(selected, alt.value(0.65), alt.value(0.05)),
            tooltip=[
                alt.Tooltip("set:N", title="set"),
                alt.Tooltip("id:N", title="id"),
                alt.Tooltip("position:N", title="position"),
            ],
        )
        .add_params(selected, zoomed)
        .properties(name="points")
    )
    return _finish_chart(chart, LARGE_SIZE)


def compute_frame(embedding: Embedding) -> tuple[list[float], list[float]]:
    """Return the lower and upper corner of the plotted area: the middle 98 % of every set, without far outliers."""
    ends = np.stack([np.percentile(points.coordinates, (1, 99), axis=0) for points in embedding.points])
    low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    # One set may scatter far beyond the others: then the area ends half their width beyond their middle 80 %.
    inner = np.stack([np.percentile(points.coordinates, (10, 90), axis=0) for points in embedding.points])
    inner_low, inner_high = inner[:, 0].min(axis=0), inner[:, 1].max(axis=0)
    extension = FRAME_EXTENSION * np.maximum(inner_high - inner_low, 1e-9)
    low, high = np.maximum(low, inner_low - extension), np.minimum(high, inner_high + extension)
    margin = FRAME_MARGIN * np.maximum(high - low, 1e-9)
    return (low - margin).tolist(), (high + margin).tolist()


def count_outside_frame(embedding: Embedding) -> int:
    """Return the number of cubes outside the frame."""
    low, high = compute_frame(embedding)
    return sum(
        int(((points.coordinates < low) | (points.coordinates > high)).any(axis=1).sum()) for points in embedding.points
    )


def _round_to_four_digits(value: float) -> float:
    return float(f"{value:.4g}")


SIDE_LABELS = {"real": "real", "generated": "generated"}


@functools.cache
def load_vega_script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that sets ``vegaEmbed``; it uses no network."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _finish_chart(chart: Any, size: tuple[int, int]) -> Chart:
    """Return a chart in the page's style, as a specification that fits the width of the page, and as SVG."""
    import vl_convert

    width, height = size
    spec: dict[str, Any] = chart.properties(width=width, height=height).configure(**VEGA_CONFIG).to_dict()
    spec = map_text(spec, lambda text: shorten_text(text, MAX_TEXT_LENGTH))
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    svg = _rename_clip_ids(svg)
    return Chart({**spec, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}, svg)


def _rename_clip_ids(svg: str) -> str:
    """Return an SVG whose clip ids are named by its content; the library counts them up over a process.

    Two drawings on a page need different ids, and a page rendered twice needs the same ones.
    """
    order = {name: i for i, name in enumerate(dict.fromkeys(re.findall(r'\bid="(clip\d+)"', svg)))}

    def rename(prefix: str) -> str:
        return re.sub(CLIP_ID_PATTERN, lambda match: f"{match[1]}{prefix}clip-{order.get(match[2], match[2])}", svg)

    return rename(f"c{hashlib.sha256(rename('').encode()).hexdigest()[:8]}-")


def _get_bounds(line: LineSeries, index: int) -> dict[str, float]:
    if line.low is None or line.high is None:
        return {}
    return {"low": float(line.low[index]), "high": float(line.high[index])}


def _replace_nonfinite(values: Sequence[Any]) -> list[float | None]:
    return [None if value is None or not np.isfinite(value) else float(value) for value in values]
