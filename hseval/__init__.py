"""hseval: evaluation of generators of hyperspectral images, with uncertainty.

Importing this package loads neither torch nor numpy; the exported names load what they need on first use.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from hseval.core.display import register_display
from hseval.utils.lazy_exports import build_getattr
from hseval.utils.version import __version__

if TYPE_CHECKING:
    from hseval.core.cubes import ArraySet, Cube, CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.core.hookspecs import hookimpl
    from hseval.core.options import option
    from hseval.core.plugin_api import PLUGIN_API
    from hseval.core.protocols import Needs, Sample, ScoreParts
    from hseval.core.report import Report, Score
    from hseval.core.report_file import load_report
    from hseval.pipeline.open import open_set
    from hseval.qualification.qualify import qualify
    from hseval.qualification.report import QualifyReport, load_qualify
    from hseval.scoring.score import score
    from hseval.stats.paired import compare_paired
    from hseval.utils.errors import HsevalError, NotComputable

__all__ = [
    "PLUGIN_API", "ArraySet", "Cube", "CubeSet", "FeatureTable", "HsevalError", "Needs", "NotComputable",
    "QualifyReport", "Report", "Sample", "Score", "ScoreParts", "__version__", "compare_paired", "hookimpl",
    "load_qualify", "load_report", "open_set", "option", "qualify", "score",
]  # fmt: skip

_load_export = build_getattr(
    "hseval",
    {
        "hseval.core.cubes": ("ArraySet", "Cube", "CubeSet"),
        "hseval.core.feature_table": ("FeatureTable",),
        "hseval.core.hookspecs": ("hookimpl",),
        "hseval.core.options": ("option",),
        "hseval.core.plugin_api": ("PLUGIN_API",),
        "hseval.core.protocols": ("Needs", "Sample", "ScoreParts"),
        "hseval.core.report": ("Report", "Score"),
        "hseval.core.report_file": ("load_report",),
        "hseval.pipeline.open": ("open_set",),
        "hseval.qualification.qualify": ("qualify",),
        "hseval.qualification.report": ("QualifyReport", "load_qualify"),
        "hseval.scoring.score": ("score",),
        "hseval.stats.paired": ("compare_paired",),
        "hseval.utils.errors": ("HsevalError", "NotComputable"),
    },
)


def __getattr__(name: str) -> Any:
    from hseval.core.plugin_api import RENAMED_EXPORTS, OldPluginError

    if name in RENAMED_EXPORTS:
        raise OldPluginError
    return _load_export(name)


def _format_record(module: str, function: str, record: Any) -> str:
    """Format a record; the templates are loaded now."""
    text: str = getattr(importlib.import_module(module), function)(record)
    return text


for _kind in ("report", "score", "set"):
    register_display(
        _kind, "html", functools.partial(_format_record, "hseval.reporting.notebook", f"render_{_kind}_html")
    )
register_display("report", "text", functools.partial(_format_record, "hseval.renderers.terminal", "format_report"))
