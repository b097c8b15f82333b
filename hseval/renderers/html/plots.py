"""What the page plots: spectra, scores over wavelength, pairs, points, histograms; with words and numbers beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.data.color import band_name
from hseval.renderers.html.charts import Chart, Line, beyond, histogram, lines, scatter
from hseval.renderers.html.text import number

if TYPE_CHECKING:
    from hseval.core.figure_data import Exhibits, Pair, Spectra
    from hseval.core.report import Report, Score

UNITS = {"spectral-kl": "KL, nats", "spectral-angle": "angle, degrees", "power-spectrum": "dB"}
Sides = tuple[Sequence[Any], Sequence[Any] | None]  # of a score over wavelength: value and floor by band

MOST = 16  # structures of one score that are plotted


@dataclasses.dataclass(frozen=True)
class Axis:
    """The wavelengths of a report: ``(band,)`` centres, whether they are nm; and the units of values."""

    centres: tuple[float, ...]
    known: bool
    units: str

    @classmethod
    def of(cls, report: Report) -> Axis:
        """Return a report's axis; empty where its provenance has none."""
        about = report.provenance.get("sets", {}).get("reference", {})
        centres = tuple(float(each) for each in about.get("wavelengths", ()))
        return cls(centres, bool(about.get("wavelengths_known", True)), str(about.get("units") or "value"))

    @property
    def title(self) -> str:
        """What the axis is called."""
        return "wavelength, nm" if self.known else "band"

    def name(self, place: int) -> str:
        """Return what a band is called."""
        return band_name(self.centres[place], known=self.known)


@dataclasses.dataclass(frozen=True)
class Plot:
    """One plot: its title, the chart, and what it shows in words (for those who do not see it)."""

    title: str
    chart: Chart
    alt: str


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers behind plots, as a table."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Plots that belong together, with their numbers and what was left out."""

    title: str
    plots: tuple[Plot, ...]
    numbers: Numbers | None
    left_out: str = ""


def mean_spectra(exhibits: Exhibits, axis: Axis) -> Group | None:
    """Return the mean spectra of each structure; None: there are none."""
    found = exhibits.spectra
    if not found or not axis.centres:
        return None
    plots = tuple(_mean_spectrum(each, axis) for each in found[:MOST])
    heads = (axis.title, *(f"{each.structure}: {side}" for each in found for side in ("real", "generated")))
    rows = tuple(
        (f"{centre:g}", *(number(side.mean[i]) for each in found for side in (each.real, each.fake)))
        for i, centre in enumerate(axis.centres)
    )
    return Group("Mean spectra", plots, Numbers("Mean spectra by structure", heads, rows), _more(len(found)))


def _mean_spectrum(found: Spectra, axis: Axis) -> Plot:
    drawn = [
        Line(role, side.mean.tolist(), side.low.tolist(), side.high.tolist())
        for role, side in (("real", found.real), ("fake", found.fake))
    ]
    away = np.abs(found.fake.mean - found.real.mean)
    top = int(np.nanargmax(away))
    counted = f"{_counted(found.real.cubes, 'real cube')}, {_counted(found.fake.cubes, 'sample')}"
    alt = (
        f"Mean spectra of {found.structure}: {counted}. "
        f"They differ most at {axis.name(top)}: {number(float(found.real.mean[top]))} real, "
        f"{number(float(found.fake.mean[top]))} generated."
    )
    title = f"{found.structure} ({counted})"
    return Plot(title, lines(axis.centres, drawn, x=axis.title, y=axis.units), alt)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def over_wavelength(report: Report, axis: Axis) -> Iterator[Group]:
    """Yield for each score its course over wavelength, with its floor's, structure by structure."""
    for score in report.scores:
        curves = _curves(score, len(axis.centres))
        if not curves:
            continue
        shown = sorted(curves, key=lambda name: -_excess(*curves[name]))[:MOST]
        top = 1.05 * max(max(_numbers(value)) for name in shown for value in curves[name] if value)
        unit = UNITS.get(score.name, score.name)
        plots = tuple(_curve(f"{score.name} of {name}", name, curves[name], axis, (unit, top)) for name in shown)
        heads = (axis.title, *(f"{name}: {side}" for name in curves for side in ("samples", "floor")))
        rows = tuple(
            (f"{centre:g}", *(number(value[i]) if value else "–" for name in curves for value in curves[name]))
            for i, centre in enumerate(axis.centres)
        )
        numbers = Numbers(f"{score.name} over wavelength", heads, rows)
        yield Group(f"{score.name} over wavelength", plots, numbers, _more(len(curves)))


def _curves(score: Score, bands: int) -> dict[str, Sides]:
    """Return name -> (value by band, floor by band or None) of all that a score has over wavelength."""
    sides = [score.details.get(where) or {} for where in ("at_n", "floor_at_n")]
    sides[0] = sides[0] or score.details
    found: dict[str, Sides] = {}
    names = [name for name, each in (sides[0].get("structures") or {}).items() if isinstance(each, Mapping)]
    for name in [None, *names]:
        value, floor = (_by_band(side, name, bands) for side in sides)
        if value is not None:
            found["whole picture" if name is None else name] = (value, floor)
    return found


def _by_band(side: Mapping[str, Any], structure: str | None, bands: int) -> Sequence[Any] | None:
    place = side if structure is None else (side.get("structures") or {}).get(structure) or {}
    curve = place.get("by_wavelength")
    curve = curve.tolist() if isinstance(curve, np.ndarray) else curve
    fits = isinstance(curve, list | tuple) and len(curve) == bands > 0 and bool(_numbers(curve))
    return curve if fits else None


def _curve(what: str, name: str, sides: Sides, axis: Axis, up: tuple[str, float]) -> Plot:
    """Return one curve with its floor; ``up`` is the title and the end of the axis up."""
    value, floor = sides
    drawn = [*([] if floor is None else [Line("real", floor)]), Line("fake", value)]
    best = max((each, -i) for i, each in enumerate(value) if each is not None)
    at = -best[1]
    below = "" if floor is None or floor[at] is None else f", where real cubes score {number(floor[at])}"
    alt = f"{what} over wavelength: highest at {axis.name(at)}, {number(best[0])}{below}."
    return Plot(name, lines(axis.centres, drawn, x=axis.title, y=up[0], top=up[1] or None), alt)


def pair_plot(pair: Pair, axis: Axis) -> Plot:
    """Return the spectra of a sample and of the training cube that it is nearest to."""
    drawn = [Line("real", pair.training.spectrum.tolist()), Line("fake", pair.sample.spectrum.tolist())]
    alt = f"Mean spectra of the sample {pair.sample.id} and of the training cube {pair.training.id}."
    return Plot("Mean spectra", lines(axis.centres, drawn, x=axis.title, y=axis.units), alt)


def plane(exhibits: Exhibits) -> Plot | None:
    """Return the features of all sets in the plane."""
    found = exhibits.embedding
    if found is None:
        return None
    where = {points.role: np.median(points.places, axis=0) for points in found.points}
    told = "; ".join(f"{role}: ({number(float(x))}, {number(float(y))})" for role, (x, y) in where.items())
    alt = f"Features of all sets along their two main directions. Medians of the sets: {told}."
    out = beyond(found)
    title = f"{out} cubes lie further out and are drawn at the edge." if out else ""
    return Plot(title, scatter(found), alt)


def histograms(exhibits: Exhibits) -> tuple[Plot, ...]:
    """Return what metrics measured of single cubes or pairs."""
    plots = []
    for found in exhibits.values:
        real, fake = (np.percentile(side, (5, 50, 95)) for side in (found.real, found.fake))
        told = "; ".join(
            f"{who}: median {number(float(half))}, 5 to 95 % from {number(float(low))} to {number(float(high))}"
            for who, (low, half, high) in (("Real", real), ("generated", fake))
        )
        title = f"{found.metric}: {found.label} ({len(found.real)} real, {len(found.fake)} generated)"
        plots.append(Plot(title, histogram(found), f"{found.label}. {told}."))
    return tuple(plots)


def _excess(value: Sequence[Any], floor: Sequence[Any] | None) -> float:
    return max(_numbers(value)) - (0.0 if floor is None else max(_numbers(floor)))


def _numbers(curve: Sequence[Any]) -> list[float]:
    return [float(each) for each in curve if each is not None and np.isfinite(each)]


def _more(count: int) -> str:
    return f"{count - MOST} more structures stand in the table alone." if count > MOST else ""
