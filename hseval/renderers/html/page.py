"""A report as a page: the content of each section, and the template that lays it out."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from hseval.core.figure_data import FigureData
from hseval.core.report import to_jsonable
from hseval.data.color import format_band_name
from hseval.renderers.html import charts, images, plots, text
from hseval.reporting.summary import (
    DIRECTION_LABELS,
    explain_verdict_rule,
    list_shown_numbers,
    list_structures,
    summarize_verdicts,
)
from hseval.utils.plural import format_count
from hseval.utils.text import escape_unprintable, map_text, shorten_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hseval.core.report import Report, Score

PACKAGE, TEMPLATE_FOLDER = "hseval.renderers.html", "templates"
MAX_TEXT_LENGTH = 2000  # characters of a text from a file
PEAK_SENSITIVITY_NM = 555.0  # peak of the eye's sensitivity in daylight
SET_HEADINGS = {"samples": "samples (generated)", "reference": "reference (real)", "train": "training set (real)"}


def render_page(report: Report) -> str:
    """Return a report as one HTML page that loads nothing from the network.

    The template escapes all text, and plot specifications are JSON with ``<``, ``>``, ``&`` and ``'`` escaped. The
    page's content security policy allows only the two scripts of hseval, by their hashes, and no eval. Control
    characters in text from files, which would abort the process that draws the charts, are shown escaped.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, TEMPLATE_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        number=text.format_number, interval=text.format_interval, format_count=format_count, images=images
    )
    context = _build_context(map_text(report, _clean_text))
    scripts = [_read_template("page.js"), *([charts.load_vega_script()] if context["plotted"] else [])]
    for script in scripts:
        if "</script" in script.lower() or "<!--" in script:
            raise ValueError("a script of the page would end itself")  # can only happen after an update of Vega
    return environment.get_template("page.html.j2").render(
        **context,
        style=Markup(_read_template("page.css")),
        scripts=[Markup(script) for script in reversed(scripts)],
        script_hashes=[_hash_script(script) for script in scripts],
    )


def _clean_text(text: str) -> str:
    return shorten_text(escape_unprintable(text), MAX_TEXT_LENGTH)


def _build_context(report: Report) -> dict[str, Any]:
    """Return the variables of the template."""
    figure_data = report.exhibits or FigureData()
    axis = plots.WavelengthAxis.from_report(report)
    over_wavelength = list(plots.plot_over_wavelength(report, axis))
    spectra = plots.plot_mean_spectra(figure_data, axis)
    embedding = plots.plot_embedding(figure_data)
    histograms = plots.plot_histograms(figure_data)
    pair_score = _find_pair_score(report)
    pairs = [(pair, plots.plot_pair(pair, axis)) for pair in figure_data.nearest_pairs]
    sets = [(SET_HEADINGS.get(role, role), record) for role, record in report.provenance.get("sets", {}).items()]
    return {
        "report": report,
        "figure_data": figure_data,
        "title": _format_title(report),
        "date": report.provenance.get("time", "")[:10],
        "verdict": summarize_verdicts(report),
        "scores": [_build_score_row(score) for score in report.scores],
        "rules": [f"{sentence}." for sentence in explain_verdict_rule(report.scores)],
        "details": [_build_score_details(score) for score in report.scores],
        "bands": _name_bands(figure_data, axis),
        "start": _choose_start_band(figure_data, axis),
        "spectra": spectra,
        "over_wavelength": over_wavelength,
        "pairs": pairs,
        "named_pairs": pair_score.details["nearest_pairs"] if pair_score else [],
        "copy_threshold": pair_score.details.get("threshold") if pair_score else None,
        "embedding": embedding,
        "histograms": histograms,
        "plotted": bool(spectra or over_wavelength or pairs or embedding or histograms),
        "sets": sets,
        "rerun_command": text.format_rerun_command(report),
        "versions": _list_versions(report.provenance),
        "provenance": json.dumps(to_jsonable(report.provenance), indent=1, ensure_ascii=False),
    }


def _format_title(report: Report) -> str:
    sets = report.provenance.get("sets", {})
    name = (sets.get("samples") or {}).get("location", "samples")
    real = (sets.get("reference") or {}).get("location", "real cubes")
    return f"{name} against {real}"


def _build_score_row(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "verdict_class": text.get_verdict_class(score),
        "better": DIRECTION_LABELS[score.better],
        "strip": text.compute_strip(score),
        "p": score.p_value if score.p_adjusted is None else score.p_adjusted,
    }


def _build_score_details(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "remarks": list(text.format_remarks(score)),
        "numbers": list_shown_numbers(score),
        "structures": list_structures(score),
    }


def _name_bands(figure_data: FigureData, axis: plots.WavelengthAxis) -> list[str]:
    """Return the names of the bands of the slider."""
    centers = figure_data.style.band_centers if figure_data.style else ()
    return [format_band_name(center, wavelengths_known=axis.wavelengths_known) for center in centers]


def _choose_start_band(figure_data: FigureData, axis: plots.WavelengthAxis) -> int:
    """Return the band that the slider starts at: where the eye is most sensitive, else the middle one."""
    bands = figure_data.style.band_centers if figure_data.style else ()
    if bands and axis.wavelengths_known and bands[0] <= PEAK_SENSITIVITY_NM <= bands[-1]:
        return min(range(len(bands)), key=lambda i: abs(bands[i] - PEAK_SENSITIVITY_NM))
    return len(bands) // 2


def _find_pair_score(report: Report) -> Score | None:
    """Return the first score that names the nearest pairs of samples and training cubes."""
    return next((score for score in report.scores if score.details.get("nearest_pairs")), None)


def _list_versions(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = [("hseval", provenance.get("hseval")), ("Python", provenance.get("python"))]
    versions += list(provenance.get("libraries", {}).items())
    versions += [("platform", provenance.get("platform")), ("time", provenance.get("time"))]
    return [(name, str(value)) for name, value in versions if value]


def _read_template(name: str) -> str:
    return resources.files(PACKAGE).joinpath(TEMPLATE_FOLDER, name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    """Return a script's hash in the form of a content security policy (W3C CSP 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
