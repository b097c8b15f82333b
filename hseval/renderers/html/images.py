"""Images as ``data:`` URLs, transparent where pixels are invalid: lossless PNG, or WebP where a PNG is large."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.core.figure_data import RenderedCube


MAX_PNG_BYTES = 300_000  # a larger image is stored with slight loss, and the page states it
MAX_WEBP_HEIGHT = 16_383  # px of a WebP
WEBP_QUALITY = 90


def encode_color(cube: RenderedCube) -> str:
    """Return the URL of a cube in color, or in false color where it has no color image."""
    return encode_image(cube.composite if cube.color is None else cube.color, cube.valid_mask)


def encode_composite(cube: RenderedCube) -> str:
    """Return the URL of a cube in false color."""
    return encode_image(cube.composite, cube.valid_mask)


def encode_film_strip(cube: RenderedCube) -> str:
    """Return the URL of all visible bands below each other, with an empty line after each.

    Without that line, a browser that scales the film would mix the edges of neighboring bands.
    """
    count, height, width = cube.gray.shape
    strip = np.zeros((count, height + 1, width), dtype=np.uint8)
    strip[:, :height] = cube.gray
    valid = np.zeros((count, height + 1, width), dtype=bool)
    valid[:, :height] = cube.valid_mask
    return encode_image(strip.reshape(-1, width), valid.reshape(-1, width))


def encode_image(values: NDArray[np.uint8], valid: NDArray[np.bool_]) -> str:
    """Return the URL of an image ``(y, x)`` or ``(y, x, 3)``, transparent where not ``valid``."""
    from PIL import Image

    channels = values.reshape(*valid.shape, -1) * valid[..., None]
    if not valid.all():
        alpha: Any = (valid * 255).astype(np.uint8)[..., None]
        channels = np.concatenate([channels, alpha], axis=2)
    image = Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)
    format, stream = "png", io.BytesIO()
    image.save(stream, format="PNG")
    if stream.tell() > MAX_PNG_BYTES and image.height < MAX_WEBP_HEIGHT:
        format, stream = "webp", io.BytesIO()
        image.convert("RGB" if valid.all() else "RGBA").save(
            stream, format="WEBP", quality=WEBP_QUALITY, alpha_quality=100
        )
    return f"data:image/{format};base64,{base64.b64encode(stream.getvalue()).decode()}"


def encode_svg(svg: bytes) -> str:
    """Return the URL of an SVG drawing."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
