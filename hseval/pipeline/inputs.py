"""The three sets of a score: opens them, checks early that they are comparable, and removes shared cubes."""

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
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.pipeline.extract import ExtractedSet

PROBE_CUBES = 8  # cubes of each set that are read to check its scale before the work starts
MAX_SCALE_RATIO = 30.0  # a median this many times the other's means another unit (percent, counts), not a bad generator

Source = str | Path | CubeSet | Any


@dataclasses.dataclass(frozen=True)
class InputSets:
    """The sets of a score, by role; ``train`` may be missing."""

    samples: CubeSet
    reference: CubeSet
    train: CubeSet | None

    def items(self) -> Iterator[tuple[str, CubeSet]]:
        """Yield (role, set) for the sets that are present."""
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
    """Open the sets from their headers and check that they are comparable.

    Raises:
        HsevalError: a set can't be read, is empty, or has other bands or another scale than the reference.
    """
    opened = [
        open_set(source, layout=layout, wavelengths=wavelengths) if source is not None else None
        for source in (samples, reference, train)
    ]
    real = opened[1]
    assert real is not None
    generated, real, training = (None if cubes is None else _match_bands(cubes, real, resample) for cubes in opened)
    assert generated is not None
    assert real is not None
    sets = InputSets(generated, real, training)
    for role, cubes in sets.items():
        if role != "reference":
            check_scale(cubes, real)
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
    bands, reference_bands = _format_bands(cubes), _format_bands(reference)
    if resample and info.wavelengths_known and reference_info.wavelengths_known:
        return ResampledSet(cubes, reference_info.wavelengths)
    hint = "; --resample interpolates" if info.wavelengths_known and reference_info.wavelengths_known else ""
    raise HsevalError(
        f"{info.location}: has {bands}, but the reference {reference_info.location} has {reference_bands}{hint}"
    )


def _format_bands(cubes: CubeSet) -> str:
    info = cubes.info
    bands = format_count(len(info.wavelengths), "band")
    if not info.wavelengths_known:
        return f"{bands} of unknown wavelength"
    centers = [f"{nm:g}" for nm in info.wavelengths]
    listed = centers if len(centers) <= 4 else [*centers[:2], "...", centers[-1]]
    return f"{bands} ({', '.join(listed)} nm)"


def check_scale(cubes: CubeSet, reference: CubeSet) -> None:
    """Check that the values of two sets have one unit.

    Raises:
        HsevalError: the median sizes of their values differ grossly; the message names both ranges.
    """
    values, reference_values = (_sample_values(probed) for probed in (cubes, reference))
    if values is None or reference_values is None:
        return
    typical = [float(np.median(np.abs(sample))) for sample in (values, reference_values)]
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
        valid = compute_valid_mask(cube)
        if valid.any():
            values.append(cube.data[:, valid].ravel())
    return np.concatenate(values) if values else None


def find_common_field(sets: InputSets) -> tuple[NDArray[np.bool_] | None, str | None]:
    """Return the field to use for all sets where some set has no ``fov``, with a note; (None, None): each its own.

    It is the reference's consensus field, or that of the next set with ``fov`` masks. A full frame would take the
    surround of the sets that have fields for tissue.
    """
    bare = [role for role, cubes in sets.items() if FOV not in cubes.structures]
    if not bare or len(bare) == len(list(sets.items())):
        return None, None
    by_role = dict(sets.items())
    for role in ("reference", "train", "samples"):
        field = compute_consensus_fov(by_role[role]) if role in by_role else None
        if field is not None:
            note = f"no 'fov' masks in: {', '.join(bare)}; the consensus field of the {role} set is used for all sets"
            return field, note
    return None, None


def find_shared_cubes(extracted: ExtractedSet, other: ExtractedSet) -> NDArray[np.bool_]:
    """Return bool ``(n,)``: which cubes of ``extracted`` are in ``other`` too, pixel for pixel."""
    return np.isin(extracted.features.hashes, other.features.hashes)


def exclude_cubes(extracted: ExtractedSet, is_excluded: NDArray[np.bool_]) -> ExtractedSet:
    """Return a set's features without some cubes."""
    keep = np.flatnonzero(~is_excluded)
    return dataclasses.replace(
        extracted,
        features=extracted.features.select(keep),
        index=extracted.index[keep],
        content_hashes=tuple(extracted.content_hashes[i] for i in keep),
        mask_hashes=tuple(extracted.mask_hashes[i] for i in keep),
    )


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
