"""hseval: how good is a generator of hyperspectral images, and how sure can one be?

Importing this package loads neither torch nor numpy; the names below load what they need when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hseval.errors import HsevalError, NotComputable
from hseval.hookspecs import Needs, Sample, ScoreParts, hookimpl
from hseval.options import option

if TYPE_CHECKING:
    from hseval.cubes import ArraySet, Cube, CubeSet
    from hseval.evaluate import score
    from hseval.open import open_set
    from hseval.qualifying.report import QualifyReport, load_qualify
    from hseval.qualifying.run import qualify
    from hseval.report import Report, Score, load_report
    from hseval.rows import Rows
    from hseval.uncertainty.pairwise import paired

__version__ = "0.1.0"

_LAZY = {
    "ArraySet": "hseval.cubes",
    "Cube": "hseval.cubes",
    "CubeSet": "hseval.cubes",
    "QualifyReport": "hseval.qualifying.report",
    "Report": "hseval.report",
    "Rows": "hseval.rows",
    "Score": "hseval.report",
    "load_qualify": "hseval.qualifying.report",
    "load_report": "hseval.report",
    "open_set": "hseval.open",
    "paired": "hseval.uncertainty.pairwise",
    "qualify": "hseval.qualifying.run",
    "score": "hseval.evaluate",
}

__all__ = [
    "ArraySet", "Cube", "CubeSet", "HsevalError", "Needs", "NotComputable", "QualifyReport", "Report", "Rows", "Sample",
    "Score", "ScoreParts", "hookimpl", "load_qualify", "load_report", "open_set", "option", "paired", "qualify",
    "score",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hseval' has no attribute {name!r}")
