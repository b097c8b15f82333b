"""A preview on paper: contact sheets as PNG, films over wavelength as GIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.utils.atomic_files import written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hseval.reporting.preview.preview import Preview, Row

PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (95, 95, 95)
GAP, MARGIN, LABEL = 6, 14, 16  # px between pictures, around the sheet, of letters
NOTE = 12  # px, of the notes' letters
SECONDS, FASTEST, SLOWEST = 6.0, 80, 500  # a film's length; ms a frame
ACROSS = 6  # cubes side by side in a film


def save_sheet(found: Preview, path: Path, *, size: int) -> None:
    """Write rows of colour and wavelengths, columns of cubes, as PNG, whole or not at all."""
    sheet = _sheet(found, found.rows, size=size, notes=_notes(found), across=len(found.ids), named=True)
    with written_whole(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def save_film(found: Preview, path: Path, *, size: int) -> None:
    """Write a GIF with one frame a band, whole or not at all; every frame is labelled with its wavelength."""
    notes = [found.title, found.look.stretch]
    frames = [
        _sheet(found, [row], size=size, notes=notes, across=ACROSS, named=False).convert("L") for row in found.film
    ]
    shown = int(np.clip(1000 * SECONDS / len(frames), FASTEST, SLOWEST))
    with written_whole(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=False
        )


def _notes(found: Preview) -> list[str]:
    colour = found.look.colour_told
    told = colour if found.look.colour is not None else f"{colour} Shown is {found.look.composite}."
    return [found.title, told, f"Wavelengths in grey: {found.look.stretch}."]


def _sheet(found: Preview, rows: Sequence[Row], *, size: int, notes: Sequence[str], across: int, named: bool) -> Any:
    """Return rows of pictures with their names to the left and the cubes' ids on top.

    With fewer columns than cubes (``across``) a row goes on below itself.
    """
    from PIL import Image, ImageDraw

    height, width = np.max([mask.shape for mask in found.valid], axis=0).tolist()
    scale = max(1, round(size / max(height, width)))
    cell = (max(width * scale, 40), height * scale)
    label, note = _font(LABEL), _font(NOTE)
    left = MARGIN + max(int(label.getlength(row.name)) for row in rows) + 2 * GAP
    columns = min(across, len(found.ids))
    lines = -(-len(found.ids) // columns)
    body = columns * (cell[0] + GAP)
    wide = max(left + body + MARGIN, 420)
    written = [line for text in notes for line in _wrapped(text, note, wide - 2 * MARGIN)]
    top = MARGIN + (LABEL + GAP if named else 0)
    grid = len(rows) * lines * (cell[1] + GAP)
    sheet = Image.new("RGB", (wide, top + grid + GAP + len(written) * (NOTE + 5) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, id in enumerate(found.ids if named else ()):
        draw.text((left + i * (cell[0] + GAP), MARGIN + 2), _cut(id, note, cell[0]), fill=INK, font=note)
    for r, row in enumerate(rows):
        y = top + r * lines * (cell[1] + GAP)
        draw.text((MARGIN, y + cell[1] // 2), row.name, fill=INK, font=label, anchor="lm")
        for i, (picture, valid) in enumerate(zip(row.pictures, found.valid, strict=True)):
            place = (left + i % columns * (cell[0] + GAP), y + i // columns * (cell[1] + GAP))
            sheet.paste(*_picture(picture, valid, scale, place))
    for i, line in enumerate(written):
        where = (MARGIN, top + grid + GAP + i * (NOTE + 5))
        draw.text(where, line, fill=INK if i == 0 else FAINT, font=note)
    return sheet


def _picture(picture: Any, valid: Any, scale: int, place: tuple[int, int]) -> tuple[Any, tuple[int, int], Any]:
    from PIL import Image

    shape = (picture.shape[1] * scale, picture.shape[0] * scale)
    images = [Image.fromarray(each) for each in (picture, (valid * np.uint8(255)).astype(np.uint8))]
    large, mask = (image.resize(shape, Image.Resampling.NEAREST) for image in images)
    return large.convert("RGB"), place, mask


def _font(size: int) -> Any:
    """Return DejaVu Sans, which comes with matplotlib and holds most of the world's letters."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _cut(text: str, font: Any, width: int) -> str:
    """Return a text that fits, with its middle left out where it is too long: ids differ at their ends."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text), 0, -1):
        short = text[: kept // 3] + "…" + text[len(text) - (kept - kept // 3) :]
        if font.getlength(short) <= width:
            return short
    return "…"


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
