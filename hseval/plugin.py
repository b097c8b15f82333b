"""The one import for authors of plugins; see ``docs/plugins.md``.

Importing it loads neither numpy nor torch; what needs them is loaded when it is first used. ``capabilities`` holds the
Protocols of what a class may have besides what its kind requires. Generators with networks find training loops and
checkpoints in :mod:`hseval.generator_kit`, and tests of plugins their checks in :mod:`hseval.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hseval.core import capabilities
from hseval.core.hookspecs import hookimpl
from hseval.core.options import build_options, convert_value, option, options_to_dict
from hseval.core.plugin_api import PLUGIN_API
from hseval.core.protocols import (
    Extractor,
    Generator,
    Metric,
    Needs,
    Reader,
    Renderer,
    Sample,
    ScoreParts,
    Segmenter,
)
from hseval.utils.atomic_files import check_writable, create_folder, write_atomically, write_text
from hseval.utils.errors import HsevalError, NotComputable, format_error, format_suggestion
from hseval.utils.hashing import compute_sha256
from hseval.utils.lazy_exports import build_getattr
from hseval.utils.plural import format_count
from hseval.utils.random_streams import create_rng, fork_torch_rng

if TYPE_CHECKING:
    from hseval.core.cubes import FOV, WAVELENGTH_TOLERANCE_NM, ArraySet, Cube, CubeSet, SetInfo
    from hseval.core.feature_table import FeatureTable
    from hseval.core.report import Direction, Report
    from hseval.data.field_of_view import find_valid_pixels
    from hseval.data.moments import Moments
    from hseval.data.validation import get_common_shape
    from hseval.data.wavelengths import ResampledSet, has_same_wavelengths, interpolate_bands, parse_wavelengths
    from hseval.pipeline.open import open_set
    from hseval.utils.structured_files import read_toml
else:
    __getattr__ = build_getattr(
        __name__,
        {
            "hseval.core.cubes": ("FOV", "WAVELENGTH_TOLERANCE_NM", "ArraySet", "Cube", "CubeSet", "SetInfo"),
            "hseval.core.feature_table": ("FeatureTable",),
            "hseval.core.report": ("Direction", "Report"),
            "hseval.data.field_of_view": ("find_valid_pixels",),
            "hseval.data.moments": ("Moments",),
            "hseval.data.validation": ("get_common_shape",),
            "hseval.data.wavelengths": (
                "ResampledSet",
                "has_same_wavelengths",
                "interpolate_bands",
                "parse_wavelengths",
            ),
            "hseval.pipeline.open": ("open_set",),
            "hseval.utils.structured_files": ("read_toml",),
        },
    )

__all__ = [
    "FOV", "PLUGIN_API", "WAVELENGTH_TOLERANCE_NM", "ArraySet", "Cube", "CubeSet", "Direction", "Extractor",
    "FeatureTable", "Generator", "HsevalError", "Metric", "Moments", "Needs", "NotComputable", "Reader", "Renderer",
    "Report", "ResampledSet", "Sample", "ScoreParts", "Segmenter", "SetInfo", "build_options", "capabilities",
    "check_writable", "compute_sha256", "convert_value", "create_folder", "create_rng", "find_valid_pixels",
    "fork_torch_rng", "format_count", "format_error", "format_suggestion", "get_common_shape", "has_same_wavelengths",
    "hookimpl", "interpolate_bands", "open_set", "option", "options_to_dict", "parse_wavelengths", "read_toml",
    "write_atomically", "write_text",
]  # fmt: skip
