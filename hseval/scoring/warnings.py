"""Notes: what a reader of a report has to know before the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.feature_table import ALONE

if TYPE_CHECKING:
    from hseval.pipeline.extract import Description
    from hseval.pipeline.inputs import Sets

FEW = 32  # cubes below which a score says little
NAMED = 3  # ids listed before "and n more"


def set_notes(
    sets: Sets, found: Mapping[str, Description], whole: Mapping[str, Description], *, quick: int | None
) -> list[str]:
    """Return the report's first line and what is to be known of each set (``whole``: before a quick look's draw)."""
    notes = [_first_line(found, whole["samples"].invalid)]
    if quick is not None:
        notes.append(f"quick look: about {quick} cubes of each set (whole groups), drawn by content; not for a table")
    for role, cubes in sets.named():
        notes.extend(f"{role}: {note}" for note in cubes.info.notes)
        notes.extend(f"{role}: {note}" for note in _about_rows(found[role]))
        if role != "samples" and whole[role].invalid:
            lost = whole[role].invalid
            notes.append(f"{role}: {len(lost)} cubes have no valid pixel and are left out: {_listed(lost)}")
    if not sets.reference.info.wavelengths_known:
        notes.append("no wavelengths are known: the band index stands in")
    return notes


def shared_notes(found: Mapping[str, Description]) -> list[str]:
    """Return the counts of cubes that sets share, pixel for pixel, and of duplicates within the samples."""
    return list(_shared(found))


def _first_line(found: Mapping[str, Description], lost: tuple[str, ...]) -> str:
    fake, real = found["samples"], found["reference"]
    line = f"{len(fake.rows)} samples against {len(real.rows)} reference cubes"
    if "train" in found:
        line += f", {len(found['train'].rows)} training cubes"
    if lost:
        line += f"; {len(lost)} samples have no valid pixel, a failure of the generator, and are left out: "
        line += _listed(lost)
    return line


def _listed(ids: tuple[str, ...]) -> str:
    more = len(ids) - NAMED
    return ", ".join(ids[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _about_rows(described: Description) -> Iterator[str]:
    rows = described.rows
    if len(rows) < FEW:
        yield f"only {len(rows)} cubes: expect wide spreads (a few hundred are better)"
    constant = rows["core/constant"].all(axis=0)
    if constant.any():
        bands = ", ".join(f"{wavelength:g}" for wavelength in rows.wavelengths[constant])
        yield f"{int(constant.sum())} bands are constant in every cube ({bands}): scored as they are"
    broken = int((rows["core/broken"] > 0).sum())
    if broken:
        yield f"{broken} cubes have NaN or infinite pixels in their field of view: left out of every statistic"


def _shared(found: Mapping[str, Description]) -> Iterator[str]:
    fake, real, train = found["samples"], found["reference"], found.get("train")
    distinct = len(np.unique(fake.rows.hashes))
    if distinct < len(fake.rows):
        yield f"{len(fake.rows) - distinct} samples repeat another sample pixel for pixel"
    same = int(np.isin(fake.rows.hashes, real.rows.hashes).sum())
    if same:
        yield f"{same} samples are cubes of the reference, pixel for pixel"
    if train is None:
        return
    copies = int(np.isin(fake.rows.hashes, train.rows.hashes).sum())
    if copies:
        yield f"{copies} samples are cubes of the training set, pixel for pixel: they stay, as copies"
    both = np.isin(real.rows.hashes, train.rows.hashes)
    if both.all():
        yield "every reference cube is in the training set: nothing is held out to test a generator with"
    elif both.any():
        yield f"{int(both.sum())} reference cubes are in the training set too: they leave the reference"
    groups = set(real.rows.groups[~both].tolist()) & set(train.rows.groups.tolist())
    if named := [group for group in groups if not group.startswith(ALONE)]:
        yield f"{len(named)} groups have cubes in both the reference and the training set: they are not independent"
