"""Pictures as ``data:`` addresses, empty where pixels are not valid: PNG, without loss unless that takes much room."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.figure_data import Shown


LARGE = 300_000  # bytes of a PNG: what is larger is stored with slight loss, and the page says so
TALLEST = 16_383  # px of a WebP
QUALITY = 90


def colour(shown: Shown) -> str:
    """Return the address of a cube in colour, or in false colour where there is none."""
    return picture(shown.composite if shown.colour is None else shown.colour, shown.valid)


def composite(shown: Shown) -> str:
    """Return the address of a cube in false colour."""
    return picture(shown.composite, shown.valid)


def film(shown: Shown) -> str:
    """Return the address of all shown bands below each other, with an empty line after each.

    A browser that scales the film would else mix the edge of one band with that of the next.
    """
    count, height, width = shown.grey.shape
    tall = np.zeros((count, height + 1, width), dtype=np.uint8)
    tall[:, :height] = shown.grey
    there = np.zeros((count, height + 1, width), dtype=bool)
    there[:, :height] = shown.valid
    return picture(tall.reshape(-1, width), there.reshape(-1, width))


def picture(values: NDArray[np.uint8], valid: NDArray[np.bool_]) -> str:
    """Return the address of a picture ``(y, x)`` or ``(y, x, 3)``, see-through where not ``valid``."""
    from PIL import Image

    colours = values.reshape(*valid.shape, -1) * valid[..., None]
    if not valid.all():
        alpha: Any = (valid * 255).astype(np.uint8)[..., None]
        colours = np.concatenate([colours, alpha], axis=2)
    image = Image.fromarray(colours[..., 0] if colours.shape[2] == 1 else colours)
    kind, stream = "png", io.BytesIO()
    image.save(stream, format="PNG")
    if stream.tell() > LARGE and image.height < TALLEST:
        kind, stream = "webp", io.BytesIO()
        image.convert("RGB" if valid.all() else "RGBA").save(stream, format="WEBP", quality=QUALITY, alpha_quality=100)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def vector(svg: bytes) -> str:
    """Return the address of a drawing in SVG."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
