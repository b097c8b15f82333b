"""Previews as files: contact sheets as PNG, films over wavelength as GIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.utils.atomic_files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hseval.core.cubes import CubeSet
    from hseval.reporting.preview.preview import Preview, SheetRow

PAPER_COLOR, TEXT_COLOR, MUTED_COLOR = (255, 255, 255), (20, 20, 20), (95, 95, 95)
GAP, MARGIN, LABEL_SIZE = 6, 14, 16  # px: between images, around the sheet, font size
NOTE_SIZE = 12  # px, font size of the notes
FILM_SECONDS, MIN_FRAME_MS, MAX_FRAME_MS = 6.0, 80, 500  # length of a film; limits of a frame's duration
FILM_COLUMNS = 6  # cubes side by side in a film
CONTACT_SHEET_BANDS = 6  # rows of a contact sheet of a whole set


def save_contact_sheet(cubes: CubeSet, path: Path, *, size: int = 160) -> None:
    """Write a sheet of all cubes of a small set, titled by their ids: color, six bands and the structures' masks.

    Args:
        cubes: to show.
        path: of the PNG.
        size: approximate width of an image in px.

    Raises:
        HsevalError: the file can't be written.
    """
    from hseval.reporting.preview.preview import build_preview

    bands = np.unique(np.linspace(0, len(cubes.wavelengths) - 1, CONTACT_SHEET_BANDS).round().astype(int))
    wavelengths = cubes.wavelengths[bands].tolist()
    preview = build_preview(cubes, range(len(cubes)), wavelengths=wavelengths, size=size, show_masks=True)
    save_sheet(preview, path, size=size)


def save_sheet(preview: Preview, path: Path, *, size: int) -> None:
    """Write rows of color and wavelengths, columns of cubes, as PNG, atomically."""
    sheet = _compose_sheet(
        preview, preview.rows, size=size, notes=_build_notes(preview), max_columns=len(preview.ids), has_id_labels=True
    )
    with write_atomically(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def save_film(preview: Preview, path: Path, *, size: int) -> None:
    """Write a GIF with one frame per band, labeled with its wavelength, atomically."""
    notes = [preview.title, preview.style.stretch]
    frames = [
        _compose_sheet(preview, [row], size=size, notes=notes, max_columns=FILM_COLUMNS, has_id_labels=False).convert(
            "L"
        )
        for row in preview.frames
    ]
    frame_ms = int(np.clip(1000 * FILM_SECONDS / len(frames), MIN_FRAME_MS, MAX_FRAME_MS))
    with write_atomically(path) as temporary:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=frame_ms, loop=0, optimize=False
        )


def _build_notes(preview: Preview) -> list[str]:
    style = preview.style
    has_color = style.color_label is not None
    color_note = style.color_note if has_color else f"{style.color_note} Shown is {style.composite}."
    return [preview.title, color_note, f"Wavelengths in gray: {style.stretch}."]


def _compose_sheet(
    preview: Preview,
    rows: Sequence[SheetRow],
    *,
    size: int,
    notes: Sequence[str],
    max_columns: int,
    has_id_labels: bool,
) -> Any:
    """Return rows of images with their names on the left and the cubes' ids on top.

    A row of more than ``max_columns`` cubes is wrapped.
    """
    from PIL import Image, ImageDraw

    height, width = np.max([mask.shape for mask in preview.valid], axis=0).tolist()
    scale = max(1, round(size / max(height, width)))
    cell = (max(width * scale, 40), height * scale)
    label_font, note_font = _load_font(LABEL_SIZE), _load_font(NOTE_SIZE)
    left = MARGIN + max(int(label_font.getlength(row.name)) for row in rows) + 2 * GAP
    columns = min(max_columns, len(preview.ids))
    lines_per_row = -(-len(preview.ids) // columns)
    sheet_width = max(left + columns * (cell[0] + GAP) + MARGIN, 420)
    note_lines = [line for text in notes for line in _wrap_text(text, note_font, sheet_width - 2 * MARGIN)]
    top = MARGIN + (LABEL_SIZE + GAP if has_id_labels else 0)
    grid_height = len(rows) * lines_per_row * (cell[1] + GAP)
    sheet = Image.new(
        "RGB", (sheet_width, top + grid_height + GAP + len(note_lines) * (NOTE_SIZE + 5) + MARGIN), PAPER_COLOR
    )
    draw = ImageDraw.Draw(sheet)
    for i, id in enumerate(preview.ids if has_id_labels else ()):
        draw.text(
            (left + i * (cell[0] + GAP), MARGIN + 2),
            _truncate_middle(id, note_font, cell[0]),
            fill=TEXT_COLOR,
            font=note_font,
        )
    for r, row in enumerate(rows):
        y = top + r * lines_per_row * (cell[1] + GAP)
        draw.text((MARGIN, y + cell[1] // 2), row.name, fill=TEXT_COLOR, font=label_font, anchor="lm")
        for i, (image, valid) in enumerate(zip(row.images, preview.valid, strict=True)):
            position = (left + i % columns * (cell[0] + GAP), y + i // columns * (cell[1] + GAP))
            sheet.paste(*_prepare_paste(image, valid, scale, position))
    for i, line in enumerate(note_lines):
        position = (MARGIN, top + grid_height + GAP + i * (NOTE_SIZE + 5))
        draw.text(position, line, fill=TEXT_COLOR if i == 0 else MUTED_COLOR, font=note_font)
    return sheet


def _prepare_paste(pixels: Any, valid: Any, scale: int, position: tuple[int, int]) -> tuple[Any, tuple[int, int], Any]:
    from PIL import Image

    shape = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    images = [Image.fromarray(array) for array in (pixels, (valid * np.uint8(255)).astype(np.uint8))]
    large, mask = (image.resize(shape, Image.Resampling.NEAREST) for image in images)
    return large.convert("RGB"), position, mask


def _load_font(size: int) -> Any:
    """Return DejaVu Sans, which comes with matplotlib and covers most scripts."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _truncate_middle(text: str, font: Any, width: int) -> str:
    """Return a text that fits, shortened in the middle if it is too long: ids differ at their ends."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    for length in range(len(text), 0, -1):
        short = text[: length // 3] + "…" + text[len(text) - (length - length // 3) :]
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
