"""The plots of the page: spectra, scores over wavelength, pairs, points, histograms; with captions and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.color import format_band_name
from hseval.renderers.html.charts import (
    SIDE_LABELS,
    Chart,
    LineSeries,
    build_histogram_chart,
    build_line_chart,
    build_scatter_chart,
    count_outside_frame,
)
from hseval.renderers.html.text import format_number
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from hseval.core.figure_data import FigureData, NearestPair, StructureSpectra
    from hseval.core.report import Report, Score

SCORE_UNITS = {"spectral-kl": "KL, nats", "spectral-angle": "angle, degrees", "power-spectrum": "dB"}
MAX_STRUCTURES = 16  # structures of one score that are plotted

ValueAndFloor = tuple[Sequence[Any], Sequence[Any] | None]  # of a score over wavelength, one entry per band


@dataclasses.dataclass(frozen=True)
class WavelengthAxis:
    """The wavelengths of a report: ``(band,)`` centers, whether they are nm, and the units of pixel values."""

    centers: tuple[float, ...]
    wavelengths_known: bool
    units: str

    @classmethod
    def from_report(cls, report: Report) -> WavelengthAxis:
        """Return a report's axis; empty where its provenance has none."""
        reference = report.provenance.get("sets", {}).get("reference", {})
        centers = tuple(float(center) for center in reference.get("wavelengths", ()))
        return cls(centers, bool(reference.get("wavelengths_known", True)), str(reference.get("units") or "value"))

    @property
    def title(self) -> str:
        """Title of the axis."""
        return "wavelength, nm" if self.wavelengths_known else "band"

    def format_band(self, index: int) -> str:
        """Return the name of a band."""
        return format_band_name(self.centers[index], wavelengths_known=self.wavelengths_known)


@dataclasses.dataclass(frozen=True)
class CaptionedChart:
    """One plot: its title, the chart, and a text alternative for screen readers."""

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
    """Plots that belong together, with their numbers and a note on what was left out."""

    title: str
    plots: tuple[CaptionedChart, ...]
    table: PlotTable | None
    omission_note: str = ""


def plot_mean_spectra(figure_data: FigureData, axis: WavelengthAxis) -> PlotGroup | None:
    """Return plots of the mean spectra of each structure; None if there are none."""
    structures = figure_data.spectra
    if not structures or not axis.centers:
        return None
    plots = tuple(_plot_mean_spectrum(spectra, axis) for spectra in structures[:MAX_STRUCTURES])
    headers = (axis.title, *(f"{spectra.structure}: {side}" for spectra in structures for side in SIDE_LABELS))
    rows = tuple(
        (f"{center:g}", *(format_number(side.mean[i]) for item in structures for side in (item.real, item.generated)))
        for i, center in enumerate(axis.centers)
    )
    return PlotGroup(
        "Mean spectra", plots, PlotTable("Mean spectra by structure", headers, rows), _format_omission(len(structures))
    )


def _plot_mean_spectrum(spectra: StructureSpectra, axis: WavelengthAxis) -> CaptionedChart:
    lines = [
        LineSeries(role, side.mean.tolist(), side.low.tolist(), side.high.tolist())
        for role, side in (("real", spectra.real), ("generated", spectra.generated))
    ]
    difference = np.abs(spectra.generated.mean - spectra.real.mean)
    top = int(np.nanargmax(difference))
    real_count = format_count(spectra.real.cube_count, "real cube")
    counts = f"{real_count}, {format_count(spectra.generated.cube_count, 'sample')}"
    alt = (
        f"Mean spectra of {spectra.structure}: {counts}. "
        f"They differ most at {axis.format_band(top)}: {format_number(float(spectra.real.mean[top]))} real, "
        f"{format_number(float(spectra.generated.mean[top]))} generated."
    )
    title = f"{spectra.structure} ({counts})"
    return CaptionedChart(title, build_line_chart(axis.centers, lines, x_title=axis.title, y_title=axis.units), alt)


def plot_over_wavelength(report: Report, axis: WavelengthAxis) -> Iterator[PlotGroup]:
    """Yield for each score its values over wavelength, with the floor, structure by structure."""
    for score in report.scores:
        curves = _collect_curves(score, len(axis.centers))
        if not curves:
            continue
        plotted = sorted(curves, key=lambda name: -_compute_excess(*curves[name]))[:MAX_STRUCTURES]
        y_max = 1.05 * max(max(_select_finite(value)) for name in plotted for value in curves[name] if value)
        unit = SCORE_UNITS.get(score.name, score.name)
        plots = tuple(
            _plot_curve(f"{score.name} of {name}", name, curves[name], axis, (unit, y_max)) for name in plotted
        )
        headers = (axis.title, *(f"{name}: {side}" for name in curves for side in ("samples", "floor")))
        rows = tuple(
            (f"{center:g}", *(format_number(value[i]) if value else "–" for name in curves for value in curves[name]))
            for i, center in enumerate(axis.centers)
        )
        table = PlotTable(f"{score.name} over wavelength", headers, rows)
        yield PlotGroup(f"{score.name} over wavelength", plots, table, _format_omission(len(curves)))


def _collect_curves(score: Score, band_count: int) -> dict[str, ValueAndFloor]:
    """Return name -> (value by band, floor by band or None) of everything that a score has over wavelength."""
    statistics = score.statistics
    sides = [statistics.value_details, statistics.floor_details] if statistics else [{}, {}]
    sides[0] = sides[0] or score.details
    curves: dict[str, ValueAndFloor] = {}
    for name in [None, *sides[0].get("structures", {})]:
        value, floor = (_get_band_values(side, name, band_count) for side in sides)
        if value is not None:
            curves["whole image" if name is None else name] = (value, floor)
    return curves


def _get_band_values(details: Mapping[str, Any], structure: str | None, band_count: int) -> Sequence[Any] | None:
    record = details if structure is None else details.get("structures", {}).get(structure, {})
    curve = record.get("by_wavelength") or []
    return curve if len(curve) == band_count and _select_finite(curve) else None


def _plot_curve(
    label: str, name: str, value_and_floor: ValueAndFloor, axis: WavelengthAxis, y_axis: tuple[str, float]
) -> CaptionedChart:
    """Return one curve with its floor; ``y_axis`` is the title and the end of the y axis."""
    value, floor = value_and_floor
    lines = [*([] if floor is None else [LineSeries("real", floor)]), LineSeries("generated", value)]
    highest, negative_index = max((v, -i) for i, v in enumerate(value) if v is not None)
    peak = -negative_index
    real = "" if floor is None or floor[peak] is None else f", where real cubes score {format_number(floor[peak])}"
    alt = f"{label} over wavelength: highest at {axis.format_band(peak)}, {format_number(highest)}{real}."
    return CaptionedChart(
        name, build_line_chart(axis.centers, lines, x_title=axis.title, y_title=y_axis[0], y_max=y_axis[1] or None), alt
    )


def plot_pair(pair: NearestPair, axis: WavelengthAxis) -> CaptionedChart:
    """Return the spectra of a sample and of its nearest training cube."""
    lines = [
        LineSeries("real", pair.training.spectrum.tolist()),
        LineSeries("generated", pair.sample.spectrum.tolist()),
    ]
    alt = f"Mean spectra of the sample {pair.sample.id} and of the training cube {pair.training.id}."
    return CaptionedChart(
        "Mean spectra", build_line_chart(axis.centers, lines, x_title=axis.title, y_title=axis.units), alt
    )


def plot_embedding(figure_data: FigureData) -> CaptionedChart | None:
    """Return the features of all sets in two dimensions."""
    embedding = figure_data.embedding
    if embedding is None:
        return None
    medians = {points.role: np.median(points.coordinates, axis=0) for points in embedding.points}
    positions = "; ".join(
        f"{role}: ({format_number(float(x))}, {format_number(float(y))})" for role, (x, y) in medians.items()
    )
    alt = f"Features of all sets along their first two components. Medians of the sets: {positions}."
    outside = count_outside_frame(embedding)
    title = f"Drawn at the edge, as they lie outside: {format_count(outside, 'cube')}." if outside else ""
    return CaptionedChart(title, build_scatter_chart(embedding), alt)


def plot_histograms(figure_data: FigureData) -> tuple[CaptionedChart, ...]:
    """Return histograms of the values that metrics measured on single cubes or pairs."""
    plots = []
    for values in figure_data.metric_values:
        sides = (_describe_distribution(values.real), _describe_distribution(values.generated))
        title = f"{values.metric}: {values.label} ({len(values.real)} real, {len(values.generated)} generated)"
        alt = f"{values.label}. Real: {sides[0]}; generated: {sides[1]}."
        plots.append(CaptionedChart(title, build_histogram_chart(values), alt))
    return tuple(plots)


def _describe_distribution(values: Any) -> str:
    low, median, high = (format_number(float(value)) for value in np.percentile(values, (5, 50, 95)))
    return f"median {median}, 5 to 95 % from {low} to {high}"


def _compute_excess(value: Sequence[Any], floor: Sequence[Any] | None) -> float:
    return max(_select_finite(value)) - (0.0 if floor is None else max(_select_finite(floor)))


def _select_finite(curve: Sequence[Any]) -> list[float]:
    return [float(value) for value in curve if value is not None and np.isfinite(value)]


def _format_omission(count: int) -> str:
    omitted = count - MAX_STRUCTURES
    return f"Only in the table: {format_count(omitted, 'more structure')}." if omitted > 0 else ""
