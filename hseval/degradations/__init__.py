"""Graded ways to spoil real cubes; :mod:`hseval.degradations.base` says what one is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hseval.degradations.base import Degradation, Kind

__all__ = ["all_of", "find", "names"]


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """Return the names of all degradations, or of one kind, in the order of reports: spectral, spatial, set, copies."""
    return tuple(each.name for each in all_of(kind))


def find(name: str) -> Degradation:
    """Return the degradation of a name.

    Raises:
        HsevalError: there is none; the message names the nearest.
    """
    from hseval.utils.errors import HsevalError, nearest

    by_name = {each.name: each for each in all_of()}
    if name not in by_name:
        raise HsevalError(f"no degradation {name!r}{nearest(name, by_name)}")
    return by_name[name]


def all_of(kind: Kind | None = None) -> tuple[Degradation, ...]:
    """Return all degradations, or those of one kind, in the order of reports."""
    return tuple(each for each in _all() if kind in (None, each.kind))


@functools.cache
def _all() -> tuple[Degradation, ...]:
    from hseval.degradations.bands import BandSwap, DeadBand, Gain, Offset
    from hseval.degradations.blood import Saturation
    from hseval.degradations.blur import Blocks, Blur
    from hseval.degradations.near_copies import (
        CopyExact,
        CopyFlip,
        CopyGain,
        CopyNoise,
        CopyRotation,
        CopyShift,
    )
    from hseval.degradations.noise import Noise, Striping
    from hseval.degradations.patches import ShuffledPatches
    from hseval.degradations.registration import Misregistration
    from hseval.degradations.spectra import Broadening, Shift
    from hseval.degradations.variety import Collapse, Duplicates, ModeDropped
    from hseval.degradations.vessels import SmallVessels

    return (
        *(Shift(), Broadening(), Gain(), Offset(), BandSwap(), DeadBand(), Saturation()),
        *(Blur(), Noise(), Striping(), Blocks(), SmallVessels(), ShuffledPatches(), Misregistration()),
        *(ModeDropped(), Collapse(), Duplicates()),
        *(CopyExact(), CopyNoise(), CopyShift(), CopyFlip(), CopyRotation(), CopyGain()),
    )
