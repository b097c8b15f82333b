"""The version of the plugin interface, and the detection of plugins that were written for an earlier one.

API 1 -> API 2: ``fake`` -> ``generated``, ``rows`` -> ``features``, ``Rows`` -> ``FeatureTable``.
"""

from __future__ import annotations

import inspect
from typing import Any

from hseval.utils.errors import HsevalError

PLUGIN_API = 2
RENAMED_EXPORTS = {"Rows": "FeatureTable", "paired": "compare_paired"}  # names of hseval, API 1 -> API 2
_METHODS_WITH_SETS = ("compare", "relate", "headline", "expected", "shown_values")


class OldPluginError(HsevalError):
    """A plugin was written for an earlier interface; the message names what to rename."""

    def __init__(self) -> None:
        super().__init__("written for plugin API 1: rename fake to generated, rows to features")


def check_plugin_api(plugin_class: Any) -> None:
    """Raise OldPluginError if a class takes its sets under their names of API 1."""
    for name, method in inspect.getmembers(plugin_class, callable):
        if name in _METHODS_WITH_SETS and "fake" in inspect.signature(method).parameters:
            raise OldPluginError
