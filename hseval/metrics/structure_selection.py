"""Which structures a metric of structures scores: one rule for all of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FIELD
from hseval.utils.errors import NotComputable

if TYPE_CHECKING:
    from hseval.core.feature_table import Rows

LEVELS, PIXELS, MEAN, COV = "spectra/levels", "spectra/pixels", "spectra/mean", "spectra/cov"
SCORED = "structures/scored"
ENOUGH = 6  # cubes with a structure (a quarter of a small set's) below which its score would hang on a few cubes
WHOLE_FIELD = "no structure is on both sides: the whole field of view is scored"


def choosing(rows: Rows, used: list[str]) -> Rows:
    """Add which structures are scored, ``(n, S)``: decided once, from both full sets, so that all splits agree."""
    scored = np.array([name in used for name in rows.structures])
    return rows.adding({SCORED: np.broadcast_to(scored, rows[PIXELS].shape)})


def chosen(real: Rows, fake: Rows) -> list[str]:
    """Return the structures that :func:`choosing` marked.

    Raises:
        NotComputable: one side has no pixel of one of them.
    """
    used = [name for place, name in enumerate(real.structures) if real[SCORED][0, place]]
    for name in used:
        if not has(real, fake, name):
            raise NotComputable(f"no cube of one side has {name!r}")
    return used


def remarks(real: Rows, fake: Rows, used: list[str]) -> dict[str, Any]:
    """Return the details that say whose masks were used, and what was left out."""
    told: dict[str, Any] = {
        "masks_from": {"reference": real.masks_from, "samples": fake.masks_from},
        "left_out": left_out(real, fake, used),
    }
    return {**told, "caveat": WHOLE_FIELD} if used == [FIELD] else told


def without_columns(rows: Rows, *names: str) -> Rows:
    """Drop wide columns that others replace, so that no split copies them."""
    return dataclasses.replace(rows, columns={name: rows[name] for name in rows.columns if name not in names})


def mean_of(scored: dict[str, dict[str, Any]], key: str) -> float:
    """Return the unweighted mean over structures."""
    return float(np.mean([entry[key] for entry in scored.values()]))


def structures_to_score(real: Rows, fake: Rows) -> list[str]:
    """Return the structures that enough cubes of both sides have; the field of view where there is no other.

    Raises:
        NotComputable: the sides share no structure with pixels.
    """
    names = sorted({*real.structures, *fake.structures} - {FIELD})
    used = [name for name in names if not lack(real, fake, name)]
    if used:
        return used
    if why := lack(real, fake, FIELD):
        raise NotComputable(f"reference and samples share no structure ({FIELD}: {why})")
    return [FIELD]


def left_out(real: Rows, fake: Rows, used: list[str]) -> dict[str, str]:
    """Return why each structure but the field of view and the used ones is not scored."""
    names = {*real.structures, *fake.structures} - {FIELD, *used}
    return {name: lack(real, fake, name) for name in sorted(names)}


def has(real: Rows, fake: Rows, name: str) -> bool:
    """Return whether both sides have a pixel of a structure."""
    return bool(_cubes_with(real, name) and _cubes_with(fake, name))


def lack(real: Rows, fake: Rows, name: str) -> str:
    """Return which side lacks a structure, or has it in too few cubes to say much; ``""``: neither."""
    for rows, side in ((real, "reference"), (fake, "samples")):
        if name not in rows.structures:
            return f"no mask in the {side}"
        if not _cubes_with(rows, name):
            return f"no pixel in any cube of the {side}"
        if _groups_with(rows, name) < min(ENOUGH, -(-len(np.unique(rows.groups)) // 4)):
            return f"in too few cubes of the {side}"
    return ""


def _cubes_with(rows: Rows, name: str) -> int:
    return int((rows[PIXELS][:, rows.structures.index(name)] > 0).sum()) if name in rows.structures else 0


def _groups_with(rows: Rows, name: str) -> int:
    having = rows[PIXELS][:, rows.structures.index(name)] > 0
    return len(np.unique(rows.groups[having]))
