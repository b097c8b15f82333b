"""A report as a page: what each section holds, and the template that lays it out."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from hseval.core.figure_data import FigureData
from hseval.core.report import to_jsonable
from hseval.data.color import format_band_name
from hseval.renderers.html import charts, images, plots
from hseval.renderers.html import text as told
from hseval.reporting.diagnosis import diagnose_report
from hseval.reporting.summary import explain_verdict_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hseval.core.report import Report, Score

PACKAGE, TEMPLATE_FOLDER = "hseval.renderers.html", "templates"
PEAK_SENSITIVITY_NM = 555.0  # where the eye is most sensitive by day
SET_HEADINGS = {"samples": "samples (generated)", "reference": "reference (real)", "train": "training set (real)"}


def render_page(report: Report) -> str:
    """Return a report as one HTML page that loads nothing from anywhere.

    All text goes through the template's escaping, specifications of plots through JSON with ``<``, ``>``, ``&`` and
    ``'`` escaped; and the page's own policy lets no script run but the two that hseval put there, known by their hash.
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
    environment.globals.update(number=told.format_number, span=told.format_interval, images=images)
    context = _build_context(report)
    scripts = [_read_template("page.js"), *([charts.load_vega_script()] if context["plotted"] else [])]
    for script in scripts:
        if "</script" in script.lower() or "<!--" in script:
            raise ValueError("a script of the page would end itself")  # the library's, after an update
    return environment.get_template("page.html.j2").render(
        **context,
        style=Markup(_read_template("page.css")),
        scripts=[Markup(script) for script in reversed(scripts)],
        script_hashes=[_hash_script(script) for script in scripts],
    )


def _build_context(report: Report) -> dict[str, Any]:
    """Return what the template lays out."""
    exhibits = report.exhibits or FigureData()
    axis = plots.WavelengthAxis.from_report(report)
    sentences = diagnose_report(report)
    over = list(plots.plot_over_wavelength(report, axis))
    spectra, plane, histograms = (
        plots.plot_mean_spectra(exhibits, axis),
        plots.plot_embedding(exhibits),
        plots.plot_histograms(exhibits),
    )
    pairs = [(pair, plots.plot_pair(pair, axis)) for pair in exhibits.nearest_pairs]
    sets = [(SET_HEADINGS.get(role, role), one) for role, one in report.provenance.get("sets", {}).items()]
    return {
        "report": report,
        "exhibits": exhibits,
        "title": _format_title(report),
        "verdict": told.format_verdict(report),
        "sentences": sentences,
        "notes": [note for note in report.notes if note not in sentences],
        "scores": [_build_score_row(score) for score in report.scores],
        "rules": [f"{said}." for said in explain_verdict_rule(report.scores)],
        "details": [_build_score_details(score) for score in report.scores],
        "bands": [
            format_band_name(centre, wavelengths_known=axis.wavelengths_known) for centre in exhibits.style.band_centers
        ]
        if exhibits.style
        else [],
        "start": _choose_start_band(exhibits, axis),
        "spectra": spectra,
        "over": over,
        "pairs": pairs,
        "named_pairs": _find_nearest_pairs(report),
        "threshold": _find_copy_threshold(report),
        "plane": plane,
        "histograms": histograms,
        "plotted": bool(spectra or over or pairs or plane or histograms),
        "sets": sets,
        "again": told.format_rerun_command(report),
        "versions": _list_versions(report.provenance),
        "provenance": json.dumps(to_jsonable(report.provenance), indent=1, ensure_ascii=False),
    }


def _format_title(report: Report) -> str:
    places = report.provenance.get("sets", {})
    name = (places.get("samples") or {}).get("location", "samples")
    real = (places.get("reference") or {}).get("location", "real cubes")
    return f"{name} against {real}"


def _build_score_row(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "kind": told.get_verdict_class(score),
        "better": told.DIRECTION_LABELS[score.better],
        "strip": told.compute_strip(score),
        "excess": score.details.get("excess"),
        "excess_interval": score.details.get("excess_interval"),
    }


def _build_score_details(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "remarks": list(told.format_remarks(score)),
        "numbers": told.format_extra_numbers(score),
        "structures": _collect_structures(score),
    }


def _collect_structures(score: Score) -> list[tuple[str, Any, Any]]:
    """Return each structure's value and floor at equal size."""
    sides = [(score.details.get(side) or {}).get("structures") or {} for side in ("at_n", "floor_at_n")]
    return [
        (name, one.get("value"), (sides[1].get(name) or {}).get("value"))
        for name, one in sides[0].items()
        if isinstance(one, dict) and "value" in one
    ]


def _choose_start_band(figure_data: FigureData, axis: plots.WavelengthAxis) -> int:
    """Return the band that the slider starts at: where the eye is most sensitive, else the one in the middle."""
    bands = figure_data.style.band_centers if figure_data.style else ()
    if bands and axis.wavelengths_known and bands[0] <= PEAK_SENSITIVITY_NM <= bands[-1]:
        return min(range(len(bands)), key=lambda i: abs(bands[i] - PEAK_SENSITIVITY_NM))
    return len(bands) // 2


def _find_nearest_pairs(report: Report) -> list[Mapping[str, Any]]:
    """Return the nearest pairs by id, for a report without pictures."""
    return next((list(score.details.get("nearest_pairs", ())) for score in report.scores if _has_pairs(score)), [])


def _has_pairs(score: Score) -> bool:
    pairs = score.details.get("nearest_pairs") or []
    return bool(pairs) and all({"sample", "training"} <= pair.keys() for pair in pairs)


def _find_copy_threshold(report: Report) -> float | None:
    found = next((score.details.get("threshold") for score in report.scores if _has_pairs(score)), None)
    return found if isinstance(found, float) else None


def _list_versions(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = [("hseval", provenance.get("hseval")), ("Python", provenance.get("python"))]
    listed += list((provenance.get("libraries") or {}).items())
    listed += [("platform", provenance.get("platform")), ("time", provenance.get("time"))]
    return [(name, str(value)) for name, value in listed if value]


def _read_template(name: str) -> str:
    return resources.files(PACKAGE).joinpath(TEMPLATE_FOLDER, name).read_text(encoding="utf-8")


def _hash_script(script: str) -> str:
    """Return a script's hash as a content security policy names it (W3C CSP 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
