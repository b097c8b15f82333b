"""Reports, scores and sets as HTML for notebooks; loaded on demand, and all text from files is escaped."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from hseval.reporting.summary import format_interval, format_number, list_shown_numbers, list_structures
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from jinja2 import Template

    from hseval.core.cubes import CubeSet
    from hseval.core.report import Report, Score

BETTER_LABELS = {"lower": "lower", "higher": "higher", "floor": "near floor"}
MAX_IMAGES = 4  # images of a set
IMAGE_SIDE = 256  # px of an image
MAX_CUBE_VALUES = 32_000_000  # values of a cube: larger cubes are not read for an image
MAX_LISTED_NAMES = 12  # structures or labels


def render_report_html(report: Report) -> str:
    """Return a report as HTML: the scores in a table, the notes, and the provenance."""
    facts = [
        (str(name), _format_value(value)) for name, value in report.provenance.items() if not isinstance(value, Mapping)
    ]
    return _render_page("report", scores=report.scores, notes=(*report.notes, *report.differences), about=facts)


def render_score_html(score: Score) -> str:
    """Return a score as HTML: its row of the report, and the visible details."""
    caveat = score.details.get("caveat")
    facts = [*list_shown_numbers(score), *([("note", caveat)] if caveat else [])]
    return _render_page("score", scores=[score], structures=list_structures(score), about=facts)


def render_set_html(cubes: CubeSet) -> str:
    """Return a set as HTML: the facts in its headers, and images of its first cubes if these are quickly read."""
    try:
        images, caption = _render_images(cubes)
    except (HsevalError, OSError) as error:
        images, caption = [], f"no image: {error}"
    return _render_page("set", about=list(_iter_set_facts(cubes)), pictures=images, caption=caption)


@functools.cache
def _load_template() -> Template:
    from jinja2 import Environment, StrictUndefined

    source = resources.files("hseval").joinpath("resources/notebook.html").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(source)


def _render_page(kind: str, **values: Any) -> str:
    empty = {"notes": (), "about": (), "structures": (), "pictures": (), "caption": ""}
    return _load_template().render(
        **{**empty, **values}, kind=kind, number=format_number, span=format_interval, better=BETTER_LABELS
    )


def _iter_set_facts(cubes: CubeSet) -> Iterator[tuple[str, str]]:
    info, count = cubes.info, len(cubes)
    bands = format_count(len(info.wavelengths), "band")
    yield "set", info.location
    yield "cubes", str(count)
    if count:
        yield "shape", " x ".join(map(str, cubes.shape(0))) + " (band, y, x)" + (", the first" if count > 1 else "")
    if info.wavelengths_known:
        yield "wavelengths", f"{bands}, {info.wavelengths[0]:g} to {info.wavelengths[-1]:g} nm"
    else:
        yield "wavelengths", f"{bands}, not known"
    yield "structures", _format_names(info.structures) or "none"
    if info.groups is not None:
        yield "groups", str(len(set(info.groups)))
    if info.labels:
        yield "labels", _format_names(list(info.labels))
    if info.units:
        yield "units", info.units
    for note in info.notes:
        yield "note", note


def _format_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return ", ".join(map(str, names[:MAX_LISTED_NAMES])) + more


def _render_images(cubes: CubeSet) -> tuple[list[tuple[str, str]], str]:
    """Return ``(id, PNG in base64)`` of the first cubes, with one scale, and a note on their colors."""
    from hseval.core.cubes import FOV
    from hseval.data.field_of_view import find_valid_pixels
    from hseval.reporting.preview.render import CubeRenderer, downsample, mask_invalid

    shapes = [cubes.shape(i) for i in range(min(MAX_IMAGES, len(cubes)))]
    if not shapes or max(bands * height * width for bands, height, width in shapes) > MAX_CUBE_VALUES:
        return [], "no image: large cubes" if shapes else ""
    first_cubes = [cubes[i] for i in range(len(shapes))]
    data = [mask_invalid(cube.data, find_valid_pixels(cube.data, cube.masks.get(FOV))) for cube in first_cubes]
    renderer = CubeRenderer.from_reference(
        data,
        cubes.wavelengths,
        wavelengths_known=cubes.info.wavelengths_known,
        units=cubes.info.units,
        max_side=IMAGE_SIDE,
    )
    downsampled = [downsample(cube, renderer.factor) for cube in data]
    style = renderer.build_style("these cubes'")
    images = [
        renderer.render_composite(cube) if style.color_label is None else renderer.render_color(cube)
        for cube in downsampled
    ]
    caption = style.color_note if style.color_label is not None else f"{style.color_note} Shown is {style.composite}."
    valid = [find_valid_pixels(cube) for cube in downsampled]
    return [
        (cube.id, _encode_png(*image_and_mask))
        for cube, *image_and_mask in zip(first_cubes, images, valid, strict=True)
    ], caption


def _encode_png(image: Any, valid_mask: Any) -> str:
    """Return an image ``(y, x, 3)`` as PNG in base64, transparent where it is not valid."""
    import numpy as np
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.dstack([image, np.uint8(255) * valid_mask])).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _format_value(value: Any) -> str:
    return _format_names(value) if isinstance(value, list | tuple) else format_number(value)
