"""A preview on paper: contact sheets as PNG, films over wavelength as GIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.utils.atomic_files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hseval.reporting.preview.preview import Preview, SheetRow

PAPER_COLOR, TEXT_COLOR, MUTED_COLOR = (255, 255, 255), (20, 20, 20), (95, 95, 95)
GAP, MARGIN, LABEL_SIZE = 6, 14, 16  # px between pictures, around the sheet, of letters
NOTE_SIZE = 12  # px, of the notes' letters
FILM_SECONDS, MIN_FRAME_MS, MAX_FRAME_MS = 6.0, 80, 500  # a film's length; ms a frame
FILM_COLUMNS = 6  # cubes side by side in a film


def save_sheet(preview: Preview, path: Path, *, size: int) -> None:
    """Write rows of colour and wavelengths, columns of cubes, as PNG, whole or not at all."""
    sheet = _compose_sheet(
        preview, preview.rows, size=size, notes=_build_notes(preview), max_columns=len(preview.ids), has_id_labels=True
    )
    with write_atomically(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def save_film(preview: Preview, path: Path, *, size: int) -> None:
    """Write a GIF with one frame a band, whole or not at all; every frame is labelled with its wavelength."""
    notes = [preview.title, preview.style.stretch]
    frames = [
        _compose_sheet(preview, [row], size=size, notes=notes, max_columns=FILM_COLUMNS, has_id_labels=False).convert(
            "L"
        )
        for row in preview.frames
    ]
    shown = int(np.clip(1000 * FILM_SECONDS / len(frames), MIN_FRAME_MS, MAX_FRAME_MS))
    with write_atomically(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=False
        )


def _build_notes(preview: Preview) -> list[str]:
    colour = preview.style.color_note
    told = colour if preview.style.color_label is not None else f"{colour} Shown is {preview.style.composite}."
    return [preview.title, told, f"Wavelengths in grey: {preview.style.stretch}."]


def _compose_sheet(
    preview: Preview,
    rows: Sequence[SheetRow],
    *,
    size: int,
    notes: Sequence[str],
    max_columns: int,
    has_id_labels: bool,
) -> Any:
    """Return rows of pictures with their names to the left and the cubes' ids on top.

    With fewer columns than cubes (``max_columns``) a row goes on below itself.
    """
    from PIL import Image, ImageDraw

    height, width = np.max([mask.shape for mask in preview.valid], axis=0).tolist()
    scale = max(1, round(size / max(height, width)))
    cell = (max(width * scale, 40), height * scale)
    label, note = _load_font(LABEL_SIZE), _load_font(NOTE_SIZE)
    left = MARGIN + max(int(label.getlength(row.name)) for row in rows) + 2 * GAP
    columns = min(max_columns, len(preview.ids))
    lines = -(-len(preview.ids) // columns)
    body = columns * (cell[0] + GAP)
    wide = max(left + body + MARGIN, 420)
    written = [line for text in notes for line in _wrap_text(text, note, wide - 2 * MARGIN)]
    top = MARGIN + (LABEL_SIZE + GAP if has_id_labels else 0)
    grid = len(rows) * lines * (cell[1] + GAP)
    sheet = Image.new("RGB", (wide, top + grid + GAP + len(written) * (NOTE_SIZE + 5) + MARGIN), PAPER_COLOR)
    draw = ImageDraw.Draw(sheet)
    for i, id in enumerate(preview.ids if has_id_labels else ()):
        draw.text(
            (left + i * (cell[0] + GAP), MARGIN + 2), _truncate_middle(id, note, cell[0]), fill=TEXT_COLOR, font=note
        )
    for r, row in enumerate(rows):
        y = top + r * lines * (cell[1] + GAP)
        draw.text((MARGIN, y + cell[1] // 2), row.name, fill=TEXT_COLOR, font=label, anchor="lm")
        for i, (picture, valid) in enumerate(zip(row.images, preview.valid, strict=True)):
            place = (left + i % columns * (cell[0] + GAP), y + i // columns * (cell[1] + GAP))
            sheet.paste(*_prepare_paste(picture, valid, scale, place))
    for i, line in enumerate(written):
        where = (MARGIN, top + grid + GAP + i * (NOTE_SIZE + 5))
        draw.text(where, line, fill=TEXT_COLOR if i == 0 else MUTED_COLOR, font=note)
    return sheet


def _prepare_paste(pixels: Any, valid: Any, scale: int, position: tuple[int, int]) -> tuple[Any, tuple[int, int], Any]:
    from PIL import Image

    shape = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    images = [Image.fromarray(each) for each in (pixels, (valid * np.uint8(255)).astype(np.uint8))]
    large, mask = (image.resize(shape, Image.Resampling.NEAREST) for image in images)
    return large.convert("RGB"), position, mask


def _load_font(size: int) -> Any:
    """Return DejaVu Sans, which comes with matplotlib and holds most of the world's letters."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _truncate_middle(text: str, font: Any, width: int) -> str:
    """Return a text that fits, with its middle left out where it is too long: ids differ at their ends."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text), 0, -1):
        short = text[: kept // 3] + "…" + text[len(text) - (kept - kept // 3) :]
        if font.getlength(short) <= width:
            return short
    return "…"


def _wrap_text(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
