"""hseval: how good is a generator of hyperspectral images, and how sure can one be?

Importing this package loads neither torch nor numpy; the names below load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hseval.core.hookspecs import Needs, Sample, ScoreParts, hookimpl
from hseval.core.options import option
from hseval.utils.errors import HsevalError, NotComputable

if TYPE_CHECKING:
    from hseval.core.cubes import ArraySet, Cube, CubeSet
    from hseval.core.feature_table import FeatureTable
    from hseval.core.report import Report, Score, load_report
    from hseval.pipeline.open import open_set
    from hseval.qualification.qualify import qualify
    from hseval.qualification.report import QualifyReport, load_qualify
    from hseval.scoring.score import score
    from hseval.stats.paired import compare_paired

__version__ = "0.1.0"

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
    raise AttributeError(f"module 'hseval' has no attribute {name!r}")
