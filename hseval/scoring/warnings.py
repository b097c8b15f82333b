"""Notes that qualify a report: sizes of the sets, unusable cubes, and cubes that sets share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from hseval.core.cubes import CubeSet
from hseval.core.feature_table import UNGROUPED_PREFIX
from hseval.data.wavelengths import ResampledSet
from hseval.inspection.duplicates import describe_duplicates
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets, find_shared_cubes
from hseval.utils.plural import format_count

MIN_RELIABLE_CUBES = 32  # cubes: scores of smaller sets vary too much
MAX_LISTED_IDS = 3  # ids listed before "and n more"
MAX_SIZED_CUBES = 1000  # cubes of a set whose size is looked up, evenly spaced: each costs a header


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


def _list_shared_ids(extracted: ExtractedSet, other: ExtractedSet) -> tuple[str, ...]:
    """Return the ids of the cubes that are in the other set too, pixel for pixel."""
    return tuple(sorted(extracted.features.ids[find_shared_cubes(extracted, other)].tolist()))


def iter_size_notes(sets: InputSets) -> Iterator[str]:
    """Yield a note with the sizes of all sets where the images of some cubes differ in size."""
    sizes = {role: _find_extreme_sizes(cubes) for role, cubes in sets.items()}
    if len(set().union(*sizes.values())) > 1:
        listed = [f"{role} {' to '.join(f'{y} x {x}' for y, x in found)}" for role, found in sizes.items()]
        yield f"images differ in size, on which features of texture depend: {', '.join(listed)} pixels"


def _find_extreme_sizes(cubes: CubeSet) -> list[tuple[int, int]]:
    """Return the smallest and the largest ``(y, x)`` of a set, once if they are equal; of a large set, of a sample."""
    step = math.ceil(len(cubes) / MAX_SIZED_CUBES)
    found = sorted(
        {cubes.shape(index)[1:] for index in range(0, len(cubes), step)}, key=lambda size: (math.prod(size), size)
    )
    return [found[0], found[-1]][: len(found)]


def iter_overlap_notes(extracted_sets: Mapping[str, ExtractedSet]) -> Iterator[str]:
    """Yield the counts of cubes that sets share, pixel for pixel, and of duplicates within each set."""
    generated, real, train = extracted_sets["samples"], extracted_sets["reference"], extracted_sets.get("train")
    for role, extracted in extracted_sets.items():
        order = np.argsort(extracted.index)
        duplicates = describe_duplicates(extracted.features.hashes[order], extracted.features.ids[order])
        if duplicates:
            yield f"{role}: {duplicates}"
    if copies := _list_shared_ids(generated, real):
        copies_text = f"{format_count(len(copies), 'sample')} identical to a reference cube, pixel for pixel"
        yield f"{copies_text}: {_format_ids(copies)}"
    if train is None:
        return
    if copies := _list_shared_ids(generated, train):
        copies_text = f"{format_count(len(copies), 'sample')} identical to a training cube, pixel for pixel"
        yield f"{copies_text}, not removed before scoring: {_format_ids(copies)}"
    is_shared = find_shared_cubes(real, train)
    if is_shared.all():
        yield "every reference cube is in the training set: no cube is held out to test a generator with"
    elif copies := _list_shared_ids(real, train):
        copies_text = f"{format_count(len(copies), 'reference cube')} also in the training set"
        yield f"{copies_text}, removed from the reference: {_format_ids(copies)}"
    groups = set(real.features.groups[~is_shared].tolist()) & set(train.features.groups.tolist())
    if named := [group for group in groups if not group.startswith(UNGROUPED_PREFIX)]:
        groups_text = format_count(len(named), "group")
        yield f"{groups_text} with cubes in both the reference and the training set: the sets are not independent"
