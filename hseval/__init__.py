"""hseval: evaluation of generators of hyperspectral images, with uncertainty.

Importing this package loads neither torch nor numpy; the exported names load what they need on first use.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from hseval.core.display import register_html
from hseval.core.hookspecs import Needs, Sample, ScoreParts, hookimpl
from hseval.core.options import option
from hseval.core.plugin_api import PLUGIN_API, RENAMED_EXPORTS, OldPluginError
from hseval.utils.errors import HsevalError, NotComputable
from hseval.utils.version import __version__

if TYPE_CHECKING:
    from hseval.core.cubes import ArraySet, Cube, CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.core.report import Report, Score, load_report
    from hseval.pipeline.open import open_set
    from hseval.qualification.qualify import qualify
    from hseval.qualification.report import QualifyReport, load_qualify
    from hseval.scoring.score import score
    from hseval.stats.paired import compare_paired

_LAZY_EXPORTS = {
    "ArraySet": "hseval.core.cubes",
    "Cube": "hseval.core.cubes",
    "CubeSet": "hseval.core.cubes",
    "QualifyReport": "hseval.qualification.report",
    "Report": "hseval.core.report",
    "FeatureTable": "hseval.core.feature_table",
    "Score": "hseval.core.report",
    "load_qualify": "hseval.qualification.report",
    "load_report": "hseval.core.report",
    "open_set": "hseval.pipeline.open",
    "compare_paired": "hseval.stats.paired",
    "qualify": "hseval.qualification.qualify",
    "score": "hseval.scoring.score",
}

__all__ = [
    "PLUGIN_API",
    "ArraySet",
    "Cube",
    "CubeSet",
    "FeatureTable",
    "HsevalError",
    "Needs",
    "NotComputable",
    "QualifyReport",
    "Report",
    "Sample",
    "Score",
    "ScoreParts",
    "__version__",
    "compare_paired",
    "hookimpl",
    "load_qualify",
    "load_report",
    "open_set",
    "option",
    "qualify",
    "score",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY_EXPORTS:
        return getattr(importlib.import_module(_LAZY_EXPORTS[name]), name)
    if name in RENAMED_EXPORTS:
        raise OldPluginError
    raise AttributeError(f"module 'hseval' has no attribute {name!r}")


def _render_html(function: str, record: Any) -> str:
    """Render a record for a notebook; the templates are loaded now."""
    html: str = getattr(importlib.import_module("hseval.reporting.notebook"), function)(record)
    return html


for _kind in ("report", "score", "set"):
    register_html(_kind, functools.partial(_render_html, f"render_{_kind}_html"))
