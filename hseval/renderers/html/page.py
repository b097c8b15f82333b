"""A report as a page: what each section holds, and the template that lays it out."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from hseval.core.figure_data import Exhibits
from hseval.core.report import plain
from hseval.data.color import band_name
from hseval.renderers.html import charts, images, plots
from hseval.renderers.html import text as told
from hseval.reporting.diagnosis import where
from hseval.reporting.summary import rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hseval.core.report import Report, Score

MODULE, TEMPLATES = "hseval.renderers.html", "templates"
SENSITIVE_NM = 555.0  # where the eye is most sensitive by day
ROLES = {"samples": "samples (generated)", "reference": "reference (real)", "train": "training set (real)"}


def page(report: Report) -> str:
    """Return a report as one HTML page that loads nothing from anywhere.

    All text goes through the template's escaping, specifications of plots through JSON with ``<``, ``>``, ``&`` and
    ``'`` escaped; and the page's own policy lets no script run but the two that hseval put there, known by their hash.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(MODULE, TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=told.number, span=told.span, images=images)
    context = _context(report)
    scripts = [_file("page.js"), *([charts.script()] if context["plotted"] else [])]
    for script in scripts:
        if "</script" in script.lower() or "<!--" in script:
            raise ValueError("a script of the page would end itself")  # the library's, after an update
    return environment.get_template("page.html.j2").render(
        **context,
        style=Markup(_file("page.css")),
        scripts=[Markup(script) for script in reversed(scripts)],
        script_hashes=[_hash(script) for script in scripts],
    )


def _context(report: Report) -> dict[str, Any]:
    """Return what the template lays out."""
    exhibits = report.exhibits or Exhibits()
    axis = plots.Axis.of(report)
    sentences = where(report)
    over = list(plots.over_wavelength(report, axis))
    spectra, plane, histograms = plots.mean_spectra(exhibits, axis), plots.plane(exhibits), plots.histograms(exhibits)
    pairs = [(pair, plots.pair_plot(pair, axis)) for pair in exhibits.pairs]
    sets = [(ROLES.get(role, role), one) for role, one in report.provenance.get("sets", {}).items()]
    return {
        "report": report,
        "exhibits": exhibits,
        "title": _title(report),
        "verdict": told.verdict(report),
        "sentences": sentences,
        "notes": [note for note in report.notes if note not in sentences],
        "scores": [_score(score) for score in report.scores],
        "rules": [f"{said}." for said in rule(report.scores)],
        "details": [_details(score) for score in report.scores],
        "bands": [band_name(centre, known=axis.known) for centre in exhibits.look.bands] if exhibits.look else [],
        "start": _start(exhibits, axis),
        "spectra": spectra,
        "over": over,
        "pairs": pairs,
        "named_pairs": _named_pairs(report),
        "threshold": _threshold(report),
        "plane": plane,
        "histograms": histograms,
        "plotted": bool(spectra or over or pairs or plane or histograms),
        "sets": sets,
        "again": told.again(report),
        "versions": _versions(report.provenance),
        "provenance": json.dumps(plain(report.provenance), indent=1, ensure_ascii=False),
    }


def _title(report: Report) -> str:
    places = report.provenance.get("sets", {})
    name = (places.get("samples") or {}).get("location", "samples")
    real = (places.get("reference") or {}).get("location", "real cubes")
    return f"{name} against {real}"


def _score(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "kind": told.kind(score),
        "better": told.BETTER[score.better],
        "strip": told.strip(score),
        "excess": score.details.get("excess"),
        "excess_interval": score.details.get("excess_interval"),
    }


def _details(score: Score) -> dict[str, Any]:
    return {
        "score": score,
        "remarks": list(told.remarks(score)),
        "numbers": told.numbers(score),
        "structures": _structures(score),
    }


def _structures(score: Score) -> list[tuple[str, Any, Any]]:
    """Return each structure's value and floor at equal size."""
    sides = [(score.details.get(side) or {}).get("structures") or {} for side in ("at_n", "floor_at_n")]
    return [
        (name, one.get("value"), (sides[1].get(name) or {}).get("value"))
        for name, one in sides[0].items()
        if isinstance(one, dict) and "value" in one
    ]


def _start(exhibits: Exhibits, axis: plots.Axis) -> int:
    """Return the band that the slider starts at: where the eye is most sensitive, else the one in the middle."""
    bands = exhibits.look.bands if exhibits.look else ()
    if bands and axis.known and bands[0] <= SENSITIVE_NM <= bands[-1]:
        return min(range(len(bands)), key=lambda i: abs(bands[i] - SENSITIVE_NM))
    return len(bands) // 2


def _named_pairs(report: Report) -> list[Mapping[str, Any]]:
    """Return the nearest pairs by id, for a report without pictures."""
    return next((list(score.details.get("nearest_pairs", ())) for score in report.scores if _has_pairs(score)), [])


def _has_pairs(score: Score) -> bool:
    pairs = score.details.get("nearest_pairs") or []
    return bool(pairs) and all({"sample", "training"} <= pair.keys() for pair in pairs)


def _threshold(report: Report) -> float | None:
    found = next((score.details.get("threshold") for score in report.scores if _has_pairs(score)), None)
    return found if isinstance(found, float) else None


def _versions(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    listed = [("hseval", about.get("hseval")), ("Python", about.get("python"))]
    listed += list((about.get("libraries") or {}).items())
    listed += [("platform", about.get("platform")), ("time", about.get("time"))]
    return [(name, str(value)) for name, value in listed if value]


def _file(name: str) -> str:
    return resources.files(MODULE).joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return a script's hash as a content security policy names it (W3C CSP 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
