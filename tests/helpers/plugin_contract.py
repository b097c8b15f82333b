"""The contract of plugins, by kind: what a class has to have, what it may have, and the members of both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hseval import plugin
from hseval.core.options import get_options_class
from hseval.plugin import capabilities

REQUIRED: dict[str, type] = {
    kind: vars(plugin)[kind.capitalize()]
    for kind in ("reader", "extractor", "metric", "segmenter", "generator", "renderer")
}
OPTIONAL: dict[str, tuple[type, ...]] = {
    "reader": (),
    "extractor": (capabilities.SupportsFingerprint, capabilities.AcceptsDevice, capabilities.HasFitter),
    "metric": (
        capabilities.HasVersion,
        capabilities.SupportsRelate,
        capabilities.SupportsDescribeBlock,
        capabilities.SupportsHeadline,
        capabilities.SupportsExpected,
        capabilities.SupportsShownValues,
    ),
    "segmenter": (capabilities.SupportsFingerprint, capabilities.AcceptsDevice, capabilities.SupportsState),
    "generator": (capabilities.SupportsFit,),
    "renderer": (),
}
# Attribute with a default -> the function that reads it, of the attribute's type.
COMMON: dict[str, Callable[..., Any]] = {"Options": get_options_class, "options": capabilities.get_options}
ATTRIBUTES: dict[str, dict[str, Callable[..., Any]]] = {
    "extractor": {"reads_structures": capabilities.reads_structures, "needs_nm": capabilities.needs_nm},
    "metric": {"bounds": capabilities.get_bounds, "relates_anew": capabilities.relates_anew},
    "generator": {
        "device": capabilities.get_device,
        "units": capabilities.get_units,
        "sampling": capabilities.get_sampling,
        "stages": capabilities.get_stages,
    },
}


def format_attribute_type(accessor: Callable[..., Any]) -> str:
    """Return the type of an attribute, as its accessor states it."""
    return str(inspect.get_annotations(accessor)["return"])


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
