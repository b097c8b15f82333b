"""What the page plots: spectra, scores over wavelength, pairs, points, histograms; with words and numbers beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.color import format_band_name
from hseval.renderers.html.charts import (
    Chart,
    LineSeries,
    build_histogram_chart,
    build_line_chart,
    build_scatter_chart,
    count_outside_frame,
)
from hseval.renderers.html.text import format_number

if TYPE_CHECKING:
    from hseval.core.figure_data import FigureData, NearestPair, StructureSpectra
    from hseval.core.report import Report, Score

SCORE_UNITS = {"spectral-kl": "KL, nats", "spectral-angle": "angle, degrees", "power-spectrum": "dB"}
ValueAndFloor = tuple[Sequence[Any], Sequence[Any] | None]  # of a score over wavelength: value and floor by band

MAX_STRUCTURES = 16  # structures of one score that are plotted


@dataclasses.dataclass(frozen=True)
class WavelengthAxis:
    """The wavelengths of a report: ``(band,)`` centres, whether they are nm; and the units of values."""

    centers: tuple[float, ...]
    wavelengths_known: bool
    units: str

    @classmethod
    def from_report(cls, report: Report) -> WavelengthAxis:
        """Return a report's axis; empty where its provenance has none."""
        about = report.provenance.get("sets", {}).get("reference", {})
        centres = tuple(float(each) for each in about.get("wavelengths", ()))
        return cls(centres, bool(about.get("wavelengths_known", True)), str(about.get("units") or "value"))

    @property
    def title(self) -> str:
        """What the axis is called."""
        return "wavelength, nm" if self.wavelengths_known else "band"

    def format_band(self, index: int) -> str:
        """Return what a band is called."""
        return format_band_name(self.centers[index], wavelengths_known=self.wavelengths_known)


@dataclasses.dataclass(frozen=True)
class CaptionedChart:
    """One plot: its title, the chart, and what it shows in words (for those who do not see it)."""

    title: str
    chart: Chart
    alt: str


@dataclasses.dataclass(frozen=True)
class PlotTable:
    """The numbers behind plots, as a table."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class PlotGroup:
    """Plots that belong together, with their numbers and what was left out."""

    title: str
    plots: tuple[CaptionedChart, ...]
    table: PlotTable | None
    omission_note: str = ""


def plot_mean_spectra(figure_data: FigureData, axis: WavelengthAxis) -> PlotGroup | None:
    """Return the mean spectra of each structure; None: there are none."""
    found = figure_data.spectra
    if not found or not axis.centers:
        return None
    plots = tuple(_plot_mean_spectrum(each, axis) for each in found[:MAX_STRUCTURES])
    heads = (axis.title, *(f"{each.structure}: {side}" for each in found for side in ("real", "generated")))
    rows = tuple(
        (f"{centre:g}", *(format_number(side.mean[i]) for each in found for side in (each.real, each.generated)))
        for i, centre in enumerate(axis.centers)
    )
    return PlotGroup(
        "Mean spectra", plots, PlotTable("Mean spectra by structure", heads, rows), _format_omission(len(found))
    )


def _plot_mean_spectrum(spectra: StructureSpectra, axis: WavelengthAxis) -> CaptionedChart:
    drawn = [
        LineSeries(role, side.mean.tolist(), side.low.tolist(), side.high.tolist())
        for role, side in (("real", spectra.real), ("generated", spectra.generated))
    ]
    away = np.abs(spectra.generated.mean - spectra.real.mean)
    top = int(np.nanargmax(away))
    counted = f"{_format_count(spectra.real.cube_count, 'real cube')}, {_format_count(spectra.generated.cube_count, 'sample')}"
    alt = (
        f"Mean spectra of {spectra.structure}: {counted}. "
        f"They differ most at {axis.format_band(top)}: {format_number(float(spectra.real.mean[top]))} real, "
        f"{format_number(float(spectra.generated.mean[top]))} generated."
    )
    title = f"{spectra.structure} ({counted})"
    return CaptionedChart(title, build_line_chart(axis.centers, drawn, x_title=axis.title, y_title=axis.units), alt)


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def plot_over_wavelength(report: Report, axis: WavelengthAxis) -> Iterator[PlotGroup]:
    """Yield for each score its course over wavelength, with its floor's, structure by structure."""
    for score in report.scores:
        curves = _collect_curves(score, len(axis.centers))
        if not curves:
            continue
        shown = sorted(curves, key=lambda name: -_compute_excess(*curves[name]))[:MAX_STRUCTURES]
        top = 1.05 * max(max(_select_finite(value)) for name in shown for value in curves[name] if value)
        unit = SCORE_UNITS.get(score.name, score.name)
        plots = tuple(_plot_curve(f"{score.name} of {name}", name, curves[name], axis, (unit, top)) for name in shown)
        heads = (axis.title, *(f"{name}: {side}" for name in curves for side in ("samples", "floor")))
        rows = tuple(
            (f"{centre:g}", *(format_number(value[i]) if value else "–" for name in curves for value in curves[name]))
            for i, centre in enumerate(axis.centers)
        )
        numbers = PlotTable(f"{score.name} over wavelength", heads, rows)
        yield PlotGroup(f"{score.name} over wavelength", plots, numbers, _format_omission(len(curves)))


def _collect_curves(score: Score, band_count: int) -> dict[str, ValueAndFloor]:
    """Return name -> (value by band, floor by band or None) of all that a score has over wavelength."""
    sides = [score.details.get(where) or {} for where in ("at_n", "floor_at_n")]
    sides[0] = sides[0] or score.details
    found: dict[str, ValueAndFloor] = {}
    names = [name for name, each in (sides[0].get("structures") or {}).items() if isinstance(each, Mapping)]
    for name in [None, *names]:
        value, floor = (_get_band_values(side, name, band_count) for side in sides)
        if value is not None:
            found["whole picture" if name is None else name] = (value, floor)
    return found


def _get_band_values(details: Mapping[str, Any], structure: str | None, band_count: int) -> Sequence[Any] | None:
    place = details if structure is None else (details.get("structures") or {}).get(structure) or {}
    curve = place.get("by_wavelength")
    curve = curve.tolist() if isinstance(curve, np.ndarray) else curve
    fits = isinstance(curve, list | tuple) and len(curve) == band_count > 0 and bool(_select_finite(curve))
    return curve if fits else None


def _plot_curve(
    label: str, name: str, value_and_floor: ValueAndFloor, axis: WavelengthAxis, y_axis: tuple[str, float]
) -> CaptionedChart:
    """Return one curve with its floor; ``up`` is the title and the end of the axis up."""
    value, floor = value_and_floor
    drawn = [*([] if floor is None else [LineSeries("real", floor)]), LineSeries("generated", value)]
    best = max((each, -i) for i, each in enumerate(value) if each is not None)
    at = -best[1]
    below = "" if floor is None or floor[at] is None else f", where real cubes score {format_number(floor[at])}"
    alt = f"{label} over wavelength: highest at {axis.format_band(at)}, {format_number(best[0])}{below}."
    return CaptionedChart(
        name, build_line_chart(axis.centers, drawn, x_title=axis.title, y_title=y_axis[0], y_max=y_axis[1] or None), alt
    )


def plot_pair(pair: NearestPair, axis: WavelengthAxis) -> CaptionedChart:
    """Return the spectra of a sample and of the training cube that it is nearest to."""
    drawn = [
        LineSeries("real", pair.training.spectrum.tolist()),
        LineSeries("generated", pair.sample.spectrum.tolist()),
    ]
    alt = f"Mean spectra of the sample {pair.sample.id} and of the training cube {pair.training.id}."
    return CaptionedChart(
        "Mean spectra", build_line_chart(axis.centers, drawn, x_title=axis.title, y_title=axis.units), alt
    )


def plot_embedding(figure_data: FigureData) -> CaptionedChart | None:
    """Return the features of all sets in the plane."""
    found = figure_data.embedding
    if found is None:
        return None
    where = {points.role: np.median(points.coordinates, axis=0) for points in found.points}
    told = "; ".join(
        f"{role}: ({format_number(float(x))}, {format_number(float(y))})" for role, (x, y) in where.items()
    )
    alt = f"Features of all sets along their two main directions. Medians of the sets: {told}."
    out = count_outside_frame(found)
    title = f"{out} cubes lie further out and are drawn at the edge." if out else ""
    return CaptionedChart(title, build_scatter_chart(found), alt)


def plot_histograms(figure_data: FigureData) -> tuple[CaptionedChart, ...]:
    """Return what metrics measured of single cubes or pairs."""
    plots = []
    for found in figure_data.metric_values:
        real, generated = (np.percentile(side, (5, 50, 95)) for side in (found.real, found.generated))
        told = "; ".join(
            f"{who}: median {format_number(float(half))}, 5 to 95 % from {format_number(float(low))} to {format_number(float(high))}"
            for who, (low, half, high) in (("Real", real), ("generated", generated))
        )
        title = f"{found.metric}: {found.label} ({len(found.real)} real, {len(found.generated)} generated)"
        plots.append(CaptionedChart(title, build_histogram_chart(found), f"{found.label}. {told}."))
    return tuple(plots)


def _compute_excess(value: Sequence[Any], floor: Sequence[Any] | None) -> float:
    return max(_select_finite(value)) - (0.0 if floor is None else max(_select_finite(floor)))


def _select_finite(curve: Sequence[Any]) -> list[float]:
    return [float(each) for each in curve if each is not None and np.isfinite(each)]


def _format_omission(count: int) -> str:
    return f"{count - MAX_STRUCTURES} more structures stand in the table alone." if count > MAX_STRUCTURES else ""
