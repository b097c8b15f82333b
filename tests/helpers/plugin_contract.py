"""The contract of plugins, by kind: what a class has to have, what it may have, and the members of both."""

from __future__ import annotations

import inspect

from hseval import plugin
from hseval.plugin import capabilities

COMMON = (capabilities.HasOptionsClass, capabilities.HasOptions)
REQUIRED: dict[str, type] = {
    kind: vars(plugin)[kind.capitalize()]
    for kind in ("reader", "extractor", "metric", "segmenter", "generator", "renderer")
}
OPTIONAL: dict[str, tuple[type, ...]] = {
    "reader": COMMON,
    "extractor": (
        *COMMON,
        capabilities.SupportsFingerprint,
        capabilities.AcceptsDevice,
        capabilities.HasReadsStructures,
        capabilities.HasNeedsNm,
        capabilities.HasFitter,
    ),
    "metric": (
        *COMMON,
        capabilities.HasVersion,
        capabilities.HasBounds,
        capabilities.SupportsRelate,
        capabilities.HasRelatesAnew,
        capabilities.SupportsDescribeBlock,
        capabilities.SupportsHeadline,
        capabilities.SupportsExpected,
        capabilities.SupportsShownValues,
    ),
    "segmenter": (
        *COMMON,
        capabilities.SupportsFingerprint,
        capabilities.AcceptsDevice,
        capabilities.SupportsState,
    ),
    "generator": (
        *COMMON,
        capabilities.SupportsFit,
        capabilities.HasDevice,
        capabilities.HasUnits,
        capabilities.HasSampling,
        capabilities.HasStages,
    ),
    "renderer": COMMON,
}


def list_members(protocol: type) -> set[str]:
    """Return the names of a Protocol's members, those of its bases included."""
    return {name for each in find_own_protocols(protocol) for name in list_own_members(each)}


def find_own_protocols(protocol: type) -> list[type]:
    """Return a Protocol and those of hseval that it extends."""
    return [base for base in protocol.__mro__ if base.__module__.startswith("hseval.")]


def list_own_members(protocol: type) -> list[str]:
    """Return the names of the methods, properties and annotated attributes that a Protocol itself declares."""
    declared = [
        name
        for name, member in vars(protocol).items()
        if (inspect.isfunction(member) and name in {"__call__", name.lstrip("_")}) or isinstance(member, property)
    ]
    return [*declared, *inspect.get_annotations(protocol)]
