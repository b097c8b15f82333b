"""The three sets of a score: opened, checked against each other before any long work, and cleaned of shared cubes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.data.preprocessing import compute_consensus_fov, compute_valid_mask
from hseval.data.wavelengths import ResampledSet, has_same_wavelengths
from hseval.pipeline.open import open_set
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.pipeline.extract import ExtractedSet

PROBE_CUBES = 8  # cubes of each set that are looked at before the work starts
MAX_SCALE_RATIO = 30.0  # a median this many times the other's is another unit (percent, counts), not a bad generator

Source = str | Path | CubeSet | Any


@dataclasses.dataclass(frozen=True)
class InputSets:
    """The sets of a score, by role; ``train`` may be missing."""

    samples: CubeSet
    reference: CubeSet
    train: CubeSet | None

    def items(self) -> Iterator[tuple[str, CubeSet]]:
        """Yield (role, set) for the sets that are there."""
        yield "samples", self.samples
        yield "reference", self.reference
        if self.train is not None:
            yield "train", self.train


def open_sets(
    samples: Source,
    reference: Source,
    train: Source | None,
    *,
    layout: str | None = None,
    wavelengths: Any = None,
    resample: bool = False,
) -> InputSets:
    """Open the sets from their headers and check that they compare.

    Raises:
        HsevalError: a set can't be read, is empty, or has other bands or another scale than the reference.
    """
    opened = [
        open_set(source, layout=layout, wavelengths=wavelengths) if source is not None else None
        for source in (samples, reference, train)
    ]
    ref = opened[1]
    assert ref is not None
    generated, ref, real = (None if each is None else _match_bands(each, ref, resample) for each in opened)
    assert generated is not None
    assert ref is not None
    sets = InputSets(generated, ref, real)
    for role, cubes in sets.items():
        if role != "reference":
            check_scale(cubes, ref)
    return sets


def _match_bands(cubes: CubeSet, reference: CubeSet, resample: bool) -> CubeSet:
    """Return the set on the reference's bands."""
    one, other = cubes.info, reference.info
    if len(cubes) == 0:
        raise HsevalError(f"{one.location}: has no cubes")
    if one.wavelengths_known == other.wavelengths_known and has_same_wavelengths(one.wavelengths, other.wavelengths):
        return cubes
    found, expected = _format_bands(cubes), _format_bands(reference)
    if resample and one.wavelengths_known and other.wavelengths_known:
        return ResampledSet(cubes, other.wavelengths)
    hint = "; --resample interpolates" if one.wavelengths_known and other.wavelengths_known else ""
    raise HsevalError(f"{one.location}: has {found}, but the reference {other.location} has {expected}{hint}")


def _format_bands(cubes: CubeSet) -> str:
    info = cubes.info
    count = len(info.wavelengths)
    if not info.wavelengths_known:
        return f"{count} bands of unknown wavelength"
    centres = [f"{nm:g}" for nm in info.wavelengths]
    listed = centres if count <= 4 else [*centres[:2], "...", centres[-1]]
    return f"{count} bands ({', '.join(listed)} nm)"


def check_scale(cubes: CubeSet, reference: CubeSet) -> None:
    """Refuse sets whose values are of another unit.

    Raises:
        HsevalError: the typical size of the values differs grossly; both ranges are named.
    """
    one, other = (_sample_values(each) for each in (cubes, reference))
    if one is None or other is None:
        return
    typical = [float(np.median(np.abs(values))) for values in (one, other)]
    # A dead set (all zero) is a bad generator, to be scored; only a factor between two live ones is a unit.
    if min(typical) > 0 and max(typical) / min(typical) > MAX_SCALE_RATIO:
        ranges = [f"{values.min():.4g} to {values.max():.4g}" for values in (one, other)]
        raise HsevalError(
            f"{cubes.info.location}: values of {ranges[0]}, but the reference {reference.info.location} has "
            f"{ranges[1]}: another unit or scale? Bring both to one scale first"
        )


def _sample_values(cubes: CubeSet) -> NDArray[Any] | None:
    """Return valid values of a few cubes spread over the set."""
    places = np.unique(np.linspace(0, len(cubes) - 1, PROBE_CUBES).astype(int))
    values = []
    for place in places:
        cube = cubes[int(place)]
        valid = compute_valid_mask(cube)
        if valid.any():
            values.append(cube.data[:, valid].ravel())
    return np.concatenate(values) if values else None


def find_common_field(sets: InputSets) -> tuple[NDArray[np.bool_] | None, str | None]:
    """Return the field to use on all sides where some set has no ``fov``, with a note; (None, None): each its own.

    It is the reference's consensus; where the reference has no ``fov``, the next set's that has one. A full frame
    would take the surround of those that have fields for tissue.
    """
    bare = [role for role, cubes in sets.items() if FOV not in cubes.structures]
    if not bare or len(bare) == len(list(sets.items())):
        return None, None
    by_role = dict(sets.items())
    for role in ("reference", "train", "samples"):
        field = compute_consensus_fov(by_role[role]) if role in by_role else None
        if field is not None:
            told = f"no 'fov' masks in: {', '.join(bare)}; the consensus field of the {role} set is used on all sides"
            return field, told
    return None, None


def find_shared_cubes(one: ExtractedSet, other: ExtractedSet) -> NDArray[np.bool_]:
    """Return which rows of ``one`` are cubes of ``other`` too, pixel for pixel."""
    return np.isin(one.features.hashes, other.features.hashes)


def exclude_cubes(extracted: ExtractedSet, is_excluded: NDArray[np.bool_]) -> ExtractedSet:
    """Return a description less some rows."""
    keep = np.flatnonzero(~is_excluded)
    return dataclasses.replace(
        extracted,
        features=extracted.features.select(keep),
        index=extracted.index[keep],
        content_hashes=tuple(extracted.content_hashes[i] for i in keep),
        mask_hashes=tuple(extracted.mask_hashes[i] for i in keep),
    )


def draw_quick_subset(groups: Sequence[str], count: int, rng: np.random.Generator) -> list[int]:
    """Return places of about ``count`` cubes: whole groups, drawn from rows that are ordered by content."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    drawn: list[int] = []
    for place in rng.permutation(len(members)):
        if len(drawn) >= count:
            break
        drawn.extend(list(members.values())[place])
    return drawn
