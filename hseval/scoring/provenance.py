"""Provenance: everything that is needed to reproduce a report."""

from __future__ import annotations

import datetime
import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.plugin_manager import BUILTIN_DISTRIBUTION, get_plugins, get_version
from hseval.core.report import to_jsonable
from hseval.utils.version import __version__

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.pipeline.extract import ExtractedSet

LIBRARIES = ("numpy", "scipy", "torch", "torchvision", "scikit-learn", "h5py", "faiss-gpu", "faiss-cpu")


def collect_provenance(
    *,
    sets: Mapping[str, tuple[CubeSet, ExtractedSet]],
    settings: Mapping[str, Any],
    metrics: Sequence[Any],
    extractors: Sequence[Any],
    segmenter: Any = None,
) -> dict[str, Any]:
    """Return versions, options, seed, content hashes, command line, machine and time."""
    segmenter_record = {} if segmenter is None else {"segmenter": _describe_plugin("segmenter", segmenter)}
    record = {
        "hseval": __version__,
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := get_version(name))},
        "platform": platform.platform(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "settings": dict(settings),
        "metrics": {metric.name: _describe_plugin("metric", metric) for metric in metrics},
        "extractors": {extractor.name: _describe_plugin("extractor", extractor) for extractor in extractors},
        **segmenter_record,
        "sets": {role: _describe_set(cubes, extracted) for role, (cubes, extracted) in sets.items()},
    }
    plain: dict[str, Any] = to_jsonable(record)  # so that a report equals its copy read from JSON
    return plain


def _describe_plugin(kind: str, plugin: Any) -> dict[str, Any]:
    from hseval.core.capabilities import compute_fingerprint, get_plugin_version
    from hseval.core.options import get_option_values

    registrations = get_plugins().get_registrations(kind).get(plugin.name, [])
    distribution = registrations[0].distribution if registrations else "unknown"
    version = __version__ if distribution == BUILTIN_DISTRIBUTION else get_version(distribution)
    return {
        "distribution": distribution,
        "distribution_version": version,
        "version": get_plugin_version(plugin),
        "options": get_option_values(plugin),
        "fingerprint": compute_fingerprint(plugin),
    }


def _describe_set(cubes: CubeSet, extracted: ExtractedSet) -> dict[str, Any]:
    content = hashlib.sha256("".join(sorted(extracted.features.hashes.tolist())).encode()).hexdigest()
    info = cubes.info
    return {
        "location": info.location,
        "cubes": len(cubes),
        "content": content,
        "wavelengths": info.wavelengths,
        "wavelengths_known": info.wavelengths_known,
        "structures": info.structures,
        "units": info.units,
        "made_by": info.provenance,
    }
