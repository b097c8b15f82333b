"""Notes that qualify a report: sizes of the sets, unusable cubes, and cubes that sets share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hseval.core.feature_table import UNGROUPED_PREFIX
from hseval.data.wavelengths import ResampledSet
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets, find_shared_cubes
from hseval.utils.plural import format_count

MIN_RELIABLE_CUBES = 32  # cubes: scores of smaller sets vary too much
MAX_LISTED_IDS = 3  # ids listed before "and n more"


def iter_set_notes(
    sets: InputSets,
    extracted_sets: Mapping[str, ExtractedSet],
    full_sets: Mapping[str, ExtractedSet],
    *,
    quick_count: int | None,
) -> Iterator[str]:
    """Yield the report's first line and the notes on each set (``full_sets``: before the draw of a quick look)."""
    yield _format_summary_line(extracted_sets, full_sets["samples"].invalid_ids)
    if quick_count is not None:
        yield (
            f"quick look: about {quick_count} cubes of each larger set (whole groups), drawn by content hash; "
            "not for publication"
        )
    for role, cubes in sets.items():
        yield from (f"{role}: {note}" for note in cubes.info.notes)
        yield from (f"{role}: {note}" for note in _iter_feature_notes(extracted_sets[role]))
        if role != "samples" and (ids := full_sets[role].invalid_ids):
            yield f"{role}: {format_count(len(ids), 'cube')} without a valid pixel, left out: {_format_ids(ids)}"
    if not sets.reference.info.wavelengths_known:
        yield "no wavelengths are known: using band indices"


def iter_resampling_notes(sets: InputSets) -> Iterator[str]:
    """Yield a note where a set was interpolated to the reference's wavelengths."""
    if any(isinstance(cubes, ResampledSet) for _, cubes in sets.items()):
        yield (
            "interpolated bands are smoother than the reference's: metrics that are sensitive to noise may detect this"
        )


def _format_summary_line(extracted_sets: Mapping[str, ExtractedSet], invalid_ids: tuple[str, ...]) -> str:
    generated, real = extracted_sets["samples"], extracted_sets["reference"]
    line = f"{format_count(len(generated.features), 'sample')} against "
    line += format_count(len(real.features), "reference cube")
    if "train" in extracted_sets:
        line += f", {format_count(len(extracted_sets['train'].features), 'training cube')}"
    if invalid_ids:
        line += f"; {format_count(len(invalid_ids), 'sample')} without a valid pixel (a failure of the generator), "
        line += f"left out: {_format_ids(invalid_ids)}"
    return line


def _format_ids(ids: tuple[str, ...]) -> str:
    more = len(ids) - MAX_LISTED_IDS
    return ", ".join(ids[:MAX_LISTED_IDS]) + (f" and {more} more" if more > 0 else "")


def _iter_feature_notes(extracted: ExtractedSet) -> Iterator[str]:
    features = extracted.features
    if len(features) < MIN_RELIABLE_CUBES:
        yield f"only {format_count(len(features), 'cube')}: expect large standard deviations (a few hundred are better)"
    constant = features["core/constant"].all(axis=0)
    if constant.any():
        bands = ", ".join(f"{wavelength:g}" for wavelength in features.wavelengths[constant])
        yield f"{format_count(int(constant.sum()), 'band')} constant in every cube ({bands}): scored without change"
    broken_count = int((features["core/broken"] > 0).sum())
    if broken_count:
        cubes_text = format_count(broken_count, "cube")
        yield f"{cubes_text} with NaN or infinite pixels in the field of view: these pixels are left out"


def iter_overlap_notes(extracted_sets: Mapping[str, ExtractedSet]) -> Iterator[str]:
    """Yield the counts of cubes that sets share, pixel for pixel, and of duplicates within the samples."""
    generated, real, train = extracted_sets["samples"], extracted_sets["reference"], extracted_sets.get("train")
    duplicates = len(generated.features) - len(np.unique(generated.features.hashes))
    if duplicates:
        yield f"{format_count(duplicates, 'sample')} identical to another sample, pixel for pixel"
    shared = int(find_shared_cubes(generated, real).sum())
    if shared:
        yield f"{format_count(shared, 'sample')} identical to a reference cube, pixel for pixel"
    if train is None:
        return
    copies = int(find_shared_cubes(generated, train).sum())
    if copies:
        copies_text = format_count(copies, "sample")
        yield f"{copies_text} identical to a training cube, pixel for pixel: not removed before scoring"
    is_shared = find_shared_cubes(real, train)
    if is_shared.all():
        yield "every reference cube is in the training set: no cube is held out to test a generator with"
    elif is_shared.any():
        shared_text = format_count(int(is_shared.sum()), "reference cube")
        yield f"{shared_text} also in the training set: removed from the reference"
    groups = set(real.features.groups[~is_shared].tolist()) & set(train.features.groups.tolist())
    if named := [group for group in groups if not group.startswith(UNGROUPED_PREFIX)]:
        groups_text = format_count(len(named), "group")
        yield f"{groups_text} with cubes in both the reference and the training set: the sets are not independent"
