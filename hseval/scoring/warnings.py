"""Notes: what a reader of a report has to know before the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.feature_table import UNGROUPED_PREFIX

if TYPE_CHECKING:
    from hseval.pipeline.extract import ExtractedSet
    from hseval.pipeline.inputs import InputSets

MIN_RELIABLE_CUBES = 32  # cubes below which a score says little
MAX_LISTED_IDS = 3  # ids listed before "and n more"


def collect_set_notes(
    sets: InputSets,
    extracted_sets: Mapping[str, ExtractedSet],
    full_sets: Mapping[str, ExtractedSet],
    *,
    quick_count: int | None,
) -> list[str]:
    """Return the report's first line and what is to be known of each set (``full_sets``: before a quick look's draw)."""
    notes = [_format_summary_line(extracted_sets, full_sets["samples"].invalid_ids)]
    if quick_count is not None:
        notes.append(
            f"quick look: about {quick_count} cubes of each set (whole groups), drawn by content; not for a table"
        )
    for role, cubes in sets.items():
        notes.extend(f"{role}: {note}" for note in cubes.info.notes)
        notes.extend(f"{role}: {note}" for note in _iter_feature_notes(extracted_sets[role]))
        if role != "samples" and full_sets[role].invalid_ids:
            lost = full_sets[role].invalid_ids
            notes.append(f"{role}: {len(lost)} cubes have no valid pixel and are left out: {_format_ids(lost)}")
    if not sets.reference.info.wavelengths_known:
        notes.append("no wavelengths are known: the band index stands in")
    return notes


def collect_overlap_notes(extracted_sets: Mapping[str, ExtractedSet]) -> list[str]:
    """Return the counts of cubes that sets share, pixel for pixel, and of duplicates within the samples."""
    return list(_iter_overlap_notes(extracted_sets))


def _format_summary_line(extracted_sets: Mapping[str, ExtractedSet], invalid_ids: tuple[str, ...]) -> str:
    generated, real = extracted_sets["samples"], extracted_sets["reference"]
    line = f"{len(generated.features)} samples against {len(real.features)} reference cubes"
    if "train" in extracted_sets:
        line += f", {len(extracted_sets['train'].features)} training cubes"
    if invalid_ids:
        line += f"; {len(invalid_ids)} samples have no valid pixel, a failure of the generator, and are left out: "
        line += _format_ids(invalid_ids)
    return line


def _format_ids(ids: tuple[str, ...]) -> str:
    more = len(ids) - MAX_LISTED_IDS
    return ", ".join(ids[:MAX_LISTED_IDS]) + (f" and {more} more" if more > 0 else "")


def _iter_feature_notes(extracted: ExtractedSet) -> Iterator[str]:
    rows = extracted.features
    if len(rows) < MIN_RELIABLE_CUBES:
        yield f"only {len(rows)} cubes: expect wide spreads (a few hundred are better)"
    constant = rows["core/constant"].all(axis=0)
    if constant.any():
        bands = ", ".join(f"{wavelength:g}" for wavelength in rows.wavelengths[constant])
        yield f"{int(constant.sum())} bands are constant in every cube ({bands}): scored as they are"
    broken = int((rows["core/broken"] > 0).sum())
    if broken:
        yield f"{broken} cubes have NaN or infinite pixels in their field of view: left out of every statistic"


def _iter_overlap_notes(extracted_sets: Mapping[str, ExtractedSet]) -> Iterator[str]:
    generated, real, train = extracted_sets["samples"], extracted_sets["reference"], extracted_sets.get("train")
    distinct = len(np.unique(generated.features.hashes))
    if distinct < len(generated.features):
        yield f"{len(generated.features) - distinct} samples repeat another sample pixel for pixel"
    same = int(np.isin(generated.features.hashes, real.features.hashes).sum())
    if same:
        yield f"{same} samples are cubes of the reference, pixel for pixel"
    if train is None:
        return
    copies = int(np.isin(generated.features.hashes, train.features.hashes).sum())
    if copies:
        yield f"{copies} samples are cubes of the training set, pixel for pixel: they stay, as copies"
    both = np.isin(real.features.hashes, train.features.hashes)
    if both.all():
        yield "every reference cube is in the training set: nothing is held out to test a generator with"
    elif both.any():
        yield f"{int(both.sum())} reference cubes are in the training set too: they leave the reference"
    groups = set(real.features.groups[~both].tolist()) & set(train.features.groups.tolist())
    if named := [group for group in groups if not group.startswith(UNGROUPED_PREFIX)]:
        yield f"{len(named)} groups have cubes in both the reference and the training set: they are not independent"
