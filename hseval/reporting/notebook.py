"""Reports, scores and sets as HTML, for notebooks: loaded when one asks for it, everything from files escaped."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from jinja2 import Template

    from hseval.core.cubes import CubeSet
    from hseval.core.report import Report, Score

BETTER = {"lower": "lower", "higher": "higher", "floor": "near floor"}
PICTURES = 4  # cubes that are shown of a set
SIDE = 256  # px of a picture
READABLE = 32_000_000  # values of a cube: a larger one is not read for a picture
NAMED = 12  # structures, labels that are named


def report_html(report: Report) -> str:
    """Return a report as HTML: the scores in a table, the notes, and what repeats it."""
    about = [(str(name), _told(value)) for name, value in report.provenance.items() if not isinstance(value, Mapping)]
    return _page("report", scores=report.scores, notes=report.notes, about=about)


def score_html(score: Score) -> str:
    """Return a score as HTML: its row of the report, and what its details show."""
    details = score.details
    shown = details.get("shown")
    about = [(str(name), number(value)) for name, value in shown.items()] if isinstance(shown, Mapping) else []
    if isinstance(details.get("caveat"), str):
        about.append(("mind", details["caveat"]))
    return _page("score", scores=[score], structures=list(_structures(details)), about=about)


def set_html(cubes: CubeSet) -> str:
    """Return a set as HTML: what its headers say, and pictures of its first cubes where these are quickly read."""
    try:
        pictures, told = _pictures(cubes)
    except (HsevalError, OSError) as error:
        pictures, told = [], f"no picture: {error}"
    return _page("set", about=list(_facts(cubes)), pictures=pictures, told=told)


def number(value: Any) -> str:
    """Return a number with four digits, and a dash for none."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def span(interval: Sequence[float] | None) -> str:
    """Return an interval as ``low to high``."""
    return "-" if interval is None else f"{number(interval[0])} to {number(interval[1])}"


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("hseval").joinpath("resources/notebook.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(source)


def _page(kind: str, **given: Any) -> str:
    empty = {"notes": (), "about": (), "structures": (), "pictures": (), "told": ""}
    return _template().render(**{**empty, **given}, kind=kind, number=number, span=span, better=BETTER)


def _structures(details: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(details.get("structures"), Mapping):
        for name in details["structures"]:
            value, floor = (
                ((details.get(side) or {}).get("structures") or {}).get(name, {}).get("value")
                for side in ("at_n", "floor_at_n")
            )
            yield str(name), value, floor


def _facts(cubes: CubeSet) -> Iterator[tuple[str, str]]:
    info, count = cubes.info, len(cubes)
    bands = len(info.wavelengths)
    yield "set", info.location
    yield "cubes", str(count)
    if count:
        yield "shape", " x ".join(map(str, cubes.shape(0))) + " (band, y, x)" + (", the first" if count > 1 else "")
    if info.wavelengths_known:
        yield "wavelengths", f"{bands} bands, {info.wavelengths[0]:g} to {info.wavelengths[-1]:g} nm"
    else:
        yield "wavelengths", f"{bands} bands, not known"
    yield "structures", _listed(info.structures) or "none"
    if info.groups is not None:
        yield "groups", str(len(set(info.groups)))
    if info.labels:
        yield "labels", _listed(list(info.labels))
    if info.units:
        yield "units", info.units
    for note in info.notes:
        yield "note", note


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(str, names[:NAMED])) + more


def _pictures(cubes: CubeSet) -> tuple[list[tuple[str, str]], str]:
    """Return ``(id, PNG in base64)`` of the first cubes, scaled alike, and how they are coloured."""
    from hseval.data.preprocessing import valid_pixels
    from hseval.reporting.preview.render import Painter, masked, reduced, valid_of

    shapes = [cubes.shape(i) for i in range(min(PICTURES, len(cubes)))]
    if not shapes or max(bands * height * width for bands, height, width in shapes) > READABLE:
        return [], "no picture: large cubes" if shapes else ""
    read = [cubes[i] for i in range(len(shapes))]
    data = [masked(cube.data, valid_pixels(cube)) for cube in read]
    painter = Painter.of(data, cubes.wavelengths, known=cubes.info.wavelengths_known, units=cubes.info.units, side=SIDE)
    small = [reduced(cube, painter.factor) for cube in data]
    look = painter.look("these cubes'")
    drawn = [painter.composite(cube) if look.colour is None else painter.colour(cube) for cube in small]
    told = look.colour_told if look.colour is not None else f"{look.colour_told} Shown is {look.composite}."
    valid = [valid_of(cube) for cube in small]
    return [(cube.id, _png(*shown)) for cube, *shown in zip(read, drawn, valid, strict=True)], told


def _png(picture: Any, valid: Any) -> str:
    """Return a picture ``(y, x, 3)`` as PNG in base64, transparent where it is not valid."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.dstack([picture, np.uint8(255) * valid])).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _told(value: Any) -> str:
    return _listed(value) if isinstance(value, list | tuple) else number(value)
