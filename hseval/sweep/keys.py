"""What decides the result of each step, and the short keys by which results are found again.

A stage is decided by the generator (name, version, distribution with its version), the training set's content, the
seed and its options; a fit by all options; a run's samples by its fit, the options of sampling, their number and the
seed; its scores by its samples, the sets' content, and the versions and options of all that scores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval import __version__
from hseval.core.options import as_dict
from hseval.core.plugin_manager import plugins
from hseval.core.report import plain
from hseval.data.content_hash import RACY_SECONDS, key
from hseval.scoring.score import build_metrics
from hseval.sweep.grid import resolved
from hseval.sweep.plan import Configuration, Plan
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import sha256_of

FILE = "data.json"


def content_of(path: Path, folder: Path) -> str:
    """Return the sha256 of a file, or of a folder's files with their names.

    Args:
        path: of the set.
        folder: of the sweep, where hashes are remembered; what was changed within the last two seconds is not.

    Raises:
        HsevalError: there is no such file or folder, or it can't be read.
    """
    known = _read(folder / FILE)
    files = _files(path)
    found: dict[str, Any] = {}
    for file in files:
        stamp = _stamp(file)
        before = known.get(str(file.absolute()))
        if before is not None and stamp is not None and before.get("stamp") == stamp:
            digest = before["sha256"]
        else:
            digest = sha256_of(file)
        if digest is None:
            raise HsevalError(f"{file}: can't be read")
        found[str(file.absolute())] = {"stamp": stamp, "sha256": digest}
    if any(known.get(name) != entry for name, entry in found.items()):
        write_text(folder / FILE, json.dumps(known | found, indent=1) + "\n")
    if path.is_file():
        return str(found[str(path.absolute())]["sha256"])
    named = [(file.relative_to(path).as_posix(), found[str(file.absolute())]["sha256"]) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise HsevalError(f"{path}: there is no such file or folder")
    return [path]


def _stamp(file: Path) -> list[int] | None:
    stat = file.stat()
    if time.time() - stat.st_ctime_ns / 1e9 < RACY_SECONDS:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(path: Path) -> dict[str, Any]:
    """Return what is remembered; nothing where the file is missing or damaged: it can be found out again."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(each, dict) and "sha256" in each for each in found.values()):
            return found
    return {}


Decides = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Keyed:
    """A record of what decides a result, and its key."""

    of: Decides

    @property
    def key(self) -> str:
        """Return the key: 16 hex digits."""
        return key(plain(self.of))[:16]


@dataclasses.dataclass(frozen=True)
class Keys:
    """The keys of one run's steps.

    Attributes:
        stages: by name, in order; each decides the next.
        fit: None where the generator has none.
        samples: of what is drawn.
        scores: of the report.
    """

    stages: Mapping[str, Keyed]
    fit: Keyed | None
    samples: Keyed
    scores: Keyed


def contents(plan: Plan) -> dict[str, str | None]:
    """Return the content of the plan's sets by role, None where there is none; the folder of the sweep exists.

    Raises:
        HsevalError: a set is missing.
    """
    sets: dict[str, Path | None] = {"train": plan.data.train, "ref": plan.data.ref}
    return {role: None if path is None else content_of(path, plan.out) for role, path in sets.items()}


def keys_of(run: Configuration, plan: Plan, content: Mapping[str, str | None]) -> Keys:
    """Return the keys of a run."""
    factory = plugins().find("generator", run.generator)
    generator = {"generator": run.generator, "version": factory.version} | {
        "distribution": plugins().origin("generator", run.generator)
    }
    reading = {"layout": plan.data.layout, "wavelengths": plan.data.wavelengths}
    basis = {**generator, **reading, "seed": plan.seed, "train": content["train"]}
    options = resolved(run, sampling=False)
    stages: dict[str, Keyed] = {}
    decided: dict[str, Any] = {}
    for name, decides in getattr(factory, "stages", {}).items():
        decided = decided | {option: options[option] for option in decides}
        stages[name] = Keyed({**basis, "stage": name, "options": dict(sorted(decided.items()))})
    fit = Keyed({**basis, "options": options}) if hasattr(factory, "fit") else None
    drawn = {"options": resolved(run, sampling=True), "n": plan.samples, "seed": plan.seed}
    samples = Keyed({"fit": fit.key if fit else None, **generator, **drawn})
    scores = Keyed({"samples": samples.key, **reading, "sets": dict(content), **_scoring(plan)})
    return Keys(stages, fit, samples, scores)


def _scoring(plan: Plan) -> dict[str, Any]:
    scoring, registry = plan.scoring, plugins()
    settings = {name: dict(values) for name, values in scoring.options.items()}
    built = build_metrics(scoring.metrics, extractor=scoring.extractor, settings=settings)
    extractors = {name for metric in built for name in metric.needs.rows}
    return {
        "hseval": __version__,
        "scoring": as_dict(scoring),
        "metrics": {metric.name: registry.origin("metric", metric.name) for metric in built},
        "extractors": {name: _versions("extractor", name) for name in sorted(extractors)},
        "segmenter": scoring.segmenter and _versions("segmenter", scoring.segmenter),
    }


def _versions(kind: str, name: str) -> list[str]:
    known = name in plugins().names(kind)  # "none" is no segmenter
    return [plugins().origin(kind, name), plugins().find(kind, name).version] if known else [name]
