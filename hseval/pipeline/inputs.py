"""The three sets of a score: opens them, checks early that they are comparable, and removes shared cubes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import FOV, CubeSet
from hseval.data.field_of_view import find_valid_pixels
from hseval.data.preprocessing import compute_consensus_fov
from hseval.data.wavelengths import ResampledSet, has_same_wavelengths
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError
from hseval.utils.plural import format_count

PROBE_CUBES = 8  # cubes of each set that are read to check its scale before the work starts
MIN_TYPICAL_VALUE, MAX_TYPICAL_VALUE = 1e-15, 1e18  # median size: variances of others under- or overflow float32
MAX_SCALE_RATIO = 30.0  # a median this many times the other's means another unit (percent, counts), not a bad generator

Source = str | Path | CubeSet | Any


@dataclasses.dataclass(frozen=True)
class InputSets:
    """The sets of a score, by role; ``train`` may be missing."""

    samples: CubeSet
    reference: CubeSet
    train: CubeSet | None = None

    def items(self) -> Iterator[tuple[str, CubeSet]]:
        """Yield (role, set) for the sets that are present."""
        yield "samples", self.samples
        yield "reference", self.reference
        if self.train is not None:
            yield "train", self.train

    def __getitem__(self, role: str) -> CubeSet:
        return dict(self.items())[role]


def open_sets(
    samples: Source,
    reference: Source,
    train: Source | None,
    *,
    layout: str | None = None,
    wavelengths: Any = None,
    resample: bool = False,
) -> InputSets:
    """Open the sets from their headers and check that they are comparable.

    Raises:
        HsevalError: a set can't be read, is empty, or has other bands or another scale than the reference.
    """
    sources = {"samples": samples, "reference": reference} | ({} if train is None else {"train": train})
    opened = {role: open_set(source, layout=layout, wavelengths=wavelengths) for role, source in sources.items()}
    sets = InputSets(**{role: _match_bands(cubes, opened["reference"], resample) for role, cubes in opened.items()})
    for role, cubes in sets.items():
        if role != "reference":
            check_scale(cubes, sets.reference)
    return sets


def _match_bands(cubes: CubeSet, reference: CubeSet, resample: bool) -> CubeSet:
    """Return the set on the reference's bands."""
    info, reference_info = cubes.info, reference.info
    if len(cubes) == 0:
        raise HsevalError(f"{info.location}: has no cubes")
    if info.wavelengths_known == reference_info.wavelengths_known and has_same_wavelengths(
        info.wavelengths, reference_info.wavelengths
    ):
        return cubes
    are_known = info.wavelengths_known and reference_info.wavelengths_known
    if resample and are_known:
        return ResampledSet(cubes, reference_info.wavelengths)
    expected = f"the reference {reference_info.location} has {_format_bands(reference)}"
    hint = "; --resample interpolates" if are_known else ""
    raise HsevalError(f"{info.location}: has {_format_bands(cubes)}, but {expected}{hint}")


def _format_bands(cubes: CubeSet) -> str:
    info = cubes.info
    bands = format_count(len(info.wavelengths), "band")
    if not info.wavelengths_known:
        return f"{bands} of unknown wavelength"
    centers = [f"{nm:g}" for nm in info.wavelengths]
    listed = centers if len(centers) <= 4 else [*centers[:2], "...", centers[-1]]
    return f"{bands} ({', '.join(listed)} nm)"


def check_scale(cubes: CubeSet, reference: CubeSet) -> None:
    """Check that the values of two sets have one unit, in which their squares are float32 numbers.

    Raises:
        HsevalError: the median sizes of their values differ grossly, or are extreme; the message names both ranges.
    """
    values, reference_values = (_sample_values(probed) for probed in (cubes, reference))
    if values is None or reference_values is None:
        return
    typical = [float(np.median(np.abs(sample))) for sample in (values, reference_values)]
    if typical[1] > 0 and not MIN_TYPICAL_VALUE <= typical[1] <= MAX_TYPICAL_VALUE:
        raise HsevalError(
            f"{reference.info.location}: values of about {typical[1]:.4g}; expected {MIN_TYPICAL_VALUE:g} to "
            f"{MAX_TYPICAL_VALUE:g}, as float32 has no squares of others. Bring all sets to another unit first"
        )
    # A set of zeros alone comes from a bad generator and is scored; only a factor between two nonzero sets is a unit.
    if min(typical) > 0 and max(typical) / min(typical) > MAX_SCALE_RATIO:
        ranges = [f"{sample.min():.4g} to {sample.max():.4g}" for sample in (values, reference_values)]
        raise HsevalError(
            f"{cubes.info.location}: values of {ranges[0]}, but the reference {reference.info.location} has "
            f"{ranges[1]}: another unit or scale? Bring both to one scale first"
        )


def _sample_values(cubes: CubeSet) -> NDArray[Any] | None:
    """Return the valid values of a few cubes, evenly spaced in the set."""
    indices = np.unique(np.linspace(0, len(cubes) - 1, PROBE_CUBES).astype(int))
    values = []
    for index in indices:
        cube = cubes[int(index)]
        valid = find_valid_pixels(cube.data, cube.masks.get(FOV))
        if valid.any():
            values.append(cube.data[:, valid].ravel())
    return np.concatenate(values) if values else None


def find_common_field(sets: InputSets) -> tuple[NDArray[np.bool_] | None, str]:
    """Return the field to use for all sets where some set has no ``fov``, with a note; (None, ""): each its own.

    It is the reference's consensus field, or that of the next set with ``fov`` masks. A full frame would take the
    surround of the sets that have fields for tissue.
    """
    bare = [role for role, cubes in sets.items() if FOV not in cubes.structures]
    if not bare or len(bare) == len(list(sets.items())):
        return None, ""
    by_role = dict(sets.items())
    for role in ("reference", "train", "samples"):
        field = compute_consensus_fov(by_role[role]) if role in by_role else None
        if field is not None:
            note = f"no 'fov' masks in: {', '.join(bare)}; the consensus field of the {role} set is used for all sets"
            return field, note
    return None, ""


def find_shared_cubes(extracted: ExtractedSet, other: ExtractedSet) -> NDArray[np.bool_]:
    """Return bool ``(n,)``: which cubes of ``extracted`` are in ``other`` too, pixel for pixel."""
    return np.isin(extracted.features.hashes, other.features.hashes)


def exclude_training_cubes(extracted: Mapping[str, ExtractedSet]) -> tuple[dict[str, ExtractedSet], bool]:
    """Return the sets by role, the reference without training cubes, and True.

    If none is left: the whole reference, which still represents real cubes, and False: copies can't be detected.
    """
    if "train" not in extracted:
        return dict(extracted), True
    is_shared = find_shared_cubes(extracted["reference"], extracted["train"])
    if is_shared.all():
        return dict(extracted), False
    return {**extracted, "reference": extracted["reference"].select(np.flatnonzero(~is_shared))}, True


def draw_quick_subset(groups: Sequence[str], count: int, rng: np.random.Generator) -> list[int]:
    """Return indices of about ``count`` cubes: whole groups, drawn from cubes that are ordered by content."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    sampled: list[int] = []
    for index in rng.permutation(len(members)):
        if len(sampled) >= count:
            break
        sampled.extend(list(members.values())[index])
    return sampled


def label_connected_groups(
    groups: NDArray[Any] | Sequence[str], hashes: NDArray[Any] | Sequence[str]
) -> NDArray[np.int64]:
    """Return a label for each cube, ``(n,)``, equal within a group and for groups that contain an identical cube.

    Args:
        groups: ``(n,)`` str.
        hashes: ``(n,)`` str, of the cubes' contents.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    group_names, group = np.unique(groups, return_inverse=True)
    contents, content = np.unique(hashes, return_inverse=True)
    size = len(group_names) + len(contents)
    edges = coo_array((np.ones(len(groups)), (group, len(group_names) + content)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    return np.asarray(component[group], dtype=np.int64)
