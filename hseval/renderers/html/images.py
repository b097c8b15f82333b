"""Pictures as ``data:`` addresses, empty where pixels are not valid: PNG, without loss unless that takes much room."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.figure_data import RenderedCube


MAX_PNG_BYTES = 300_000  # bytes of a PNG: what is larger is stored with slight loss, and the page says so
MAX_WEBP_HEIGHT = 16_383  # px of a WebP
WEBP_QUALITY = 90


def encode_color(cube: RenderedCube) -> str:
    """Return the address of a cube in colour, or in false colour where there is none."""
    return encode_image(cube.composite if cube.color is None else cube.color, cube.valid_mask)


def encode_composite(cube: RenderedCube) -> str:
    """Return the address of a cube in false colour."""
    return encode_image(cube.composite, cube.valid_mask)


def encode_film_strip(cube: RenderedCube) -> str:
    """Return the address of all shown bands below each other, with an empty line after each.

    A browser that scales the film would else mix the edge of one band with that of the next.
    """
    count, height, width = cube.gray.shape
    tall = np.zeros((count, height + 1, width), dtype=np.uint8)
    tall[:, :height] = cube.gray
    there = np.zeros((count, height + 1, width), dtype=bool)
    there[:, :height] = cube.valid_mask
    return encode_image(tall.reshape(-1, width), there.reshape(-1, width))


def encode_image(values: NDArray[np.uint8], valid: NDArray[np.bool_]) -> str:
    """Return the address of a picture ``(y, x)`` or ``(y, x, 3)``, see-through where not ``valid``."""
    from PIL import Image

    colours = values.reshape(*valid.shape, -1) * valid[..., None]
    if not valid.all():
        alpha: Any = (valid * 255).astype(np.uint8)[..., None]
        colours = np.concatenate([colours, alpha], axis=2)
    image = Image.fromarray(colours[..., 0] if colours.shape[2] == 1 else colours)
    kind, stream = "png", io.BytesIO()
    image.save(stream, format="PNG")
    if stream.tell() > MAX_PNG_BYTES and image.height < MAX_WEBP_HEIGHT:
        kind, stream = "webp", io.BytesIO()
        image.convert("RGB" if valid.all() else "RGBA").save(
            stream, format="WEBP", quality=WEBP_QUALITY, alpha_quality=100
        )
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def encode_svg(svg: bytes) -> str:
    """Return the address of a drawing in SVG."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
