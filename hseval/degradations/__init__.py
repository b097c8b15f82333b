"""Graded degradations of real cubes; :mod:`hseval.degradations.base` defines their interface."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hseval.degradations.base import Degradation, DegradationKind

__all__ = ["find_degradation", "list_degradation_names", "list_degradations"]


def list_degradation_names(kind: DegradationKind | None = None) -> tuple[str, ...]:
    """Return the names of all degradations, or of one kind, in the order of reports: spectral, spatial, set, copies."""
    return tuple(degradation.name for degradation in list_degradations(kind))


def find_degradation(name: str) -> Degradation:
    """Return the degradation with a name.

    Raises:
        HsevalError: there is none; the message suggests the nearest name.
    """
    from hseval.utils.errors import HsevalError, format_suggestion

    by_name = {degradation.name: degradation for degradation in list_degradations()}
    if name not in by_name:
        raise HsevalError(f"no degradation {name!r}{format_suggestion(name, by_name)}")
    return by_name[name]


def list_degradations(kind: DegradationKind | None = None) -> tuple[Degradation, ...]:
    """Return all degradations, or those of one kind, in the order of reports."""
    return tuple(degradation for degradation in _load_degradations() if kind in (None, degradation.kind))


@functools.cache
def _load_degradations() -> tuple[Degradation, ...]:
    from hseval.degradations.bands import BandSwap, DeadBand, Gain, Offset
    from hseval.degradations.blood import OxygenSaturation
    from hseval.degradations.blur import BlockBlending, GaussianBlur
    from hseval.degradations.near_copies import (
        ExactCopy,
        FlippedCopy,
        NoisyCopy,
        RescaledCopy,
        RotatedCopy,
        ShiftedCopy,
    )
    from hseval.degradations.noise import GaussianNoise, Striping
    from hseval.degradations.patches import PatchShuffling
    from hseval.degradations.registration import Misregistration
    from hseval.degradations.spectra import SpectralBroadening, SpectralShift
    from hseval.degradations.variety import ModeCollapse, ModeDropping, SampleDuplication
    from hseval.degradations.vessels import SmallVesselRemoval

    return (
        *(SpectralShift(), SpectralBroadening(), Gain(), Offset(), BandSwap(), DeadBand(), OxygenSaturation()),
        *(
            GaussianBlur(),
            GaussianNoise(),
            Striping(),
            BlockBlending(),
            SmallVesselRemoval(),
            PatchShuffling(),
            Misregistration(),
        ),
        *(ModeDropping(), ModeCollapse(), SampleDuplication()),
        *(ExactCopy(), NoisyCopy(), ShiftedCopy(), FlippedCopy(), RotatedCopy(), RescaledCopy()),
    )
