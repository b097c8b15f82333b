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
    from hseval.degradations import (
        bands,
        blood,
        blur,
        near_copies,
        noise,
        patches,
        registration,
        spectra,
        variety,
        vessels,
    )

    return (
        spectra.SpectralShift(),
        spectra.SpectralBroadening(),
        bands.Gain(),
        bands.Offset(),
        bands.BandSwap(),
        bands.DeadBand(),
        blood.OxygenSaturation(),
        blur.GaussianBlur(),
        noise.GaussianNoise(),
        noise.Striping(),
        blur.BlockBlending(),
        vessels.SmallVesselRemoval(),
        patches.PatchShuffling(),
        registration.Misregistration(),
        variety.ModeDropping(),
        variety.ModeCollapse(),
        variety.SampleDuplication(),
        near_copies.ExactCopy(),
        near_copies.NoisyCopy(),
        near_copies.ShiftedCopy(),
        near_copies.FlippedCopy(),
        near_copies.RotatedCopy(),
        near_copies.RescaledCopy(),
    )
