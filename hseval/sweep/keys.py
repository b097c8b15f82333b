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
from hseval.core.options import options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import to_jsonable
from hseval.data.content_hash import RACY_SECONDS, compute_key
from hseval.scoring.score import build_metrics
from hseval.sweep.grid import resolve_options
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.utils.atomic_files import write_text
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_sha256

CONTENT_CACHE_FILE = "data.json"


def hash_path_content(path: Path, sweep_folder: Path) -> str:
    """Return the sha256 of a file, or of a folder's files with their names.

    Args:
        path: of the set.
        sweep_folder: of the sweep, where hashes are remembered; what was changed within the last two seconds is not.

    Raises:
        HsevalError: there is no such file or folder, or it can't be read.
    """
    known = _load_content_cache(sweep_folder / CONTENT_CACHE_FILE)
    files = _list_files(path)
    found: dict[str, Any] = {}
    for file in files:
        stamp = _get_stamp(file)
        before = known.get(str(file.absolute()))
        if before is not None and stamp is not None and before.get("stamp") == stamp:
            digest = before["sha256"]
        else:
            digest = compute_sha256(file)
        if digest is None:
            raise HsevalError(f"{file}: can't be read")
        found[str(file.absolute())] = {"stamp": stamp, "sha256": digest}
    if any(known.get(name) != entry for name, entry in found.items()):
        write_text(sweep_folder / CONTENT_CACHE_FILE, json.dumps(known | found, indent=1) + "\n")
    if path.is_file():
        return str(found[str(path.absolute())]["sha256"])
    named = [(file.relative_to(path).as_posix(), found[str(file.absolute())]["sha256"]) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise HsevalError(f"{path}: there is no such file or folder")
    return [path]


def _get_stamp(file: Path) -> list[int] | None:
    stat = file.stat()
    if time.time() - stat.st_ctime_ns / 1e9 < RACY_SECONDS:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _load_content_cache(path: Path) -> dict[str, Any]:
    """Return what is remembered; nothing where the file is missing or damaged: it can be found out again."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(each, dict) and "sha256" in each for each in found.values()):
            return found
    return {}


KeyInputs = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StepKey:
    """A record of what decides a result, and its key."""

    inputs: KeyInputs

    @property
    def digest(self) -> str:
        """Return the key: 16 hex digits."""
        return compute_key(to_jsonable(self.inputs))[:16]


@dataclasses.dataclass(frozen=True)
class RunKeys:
    """The keys of one run's steps.

    Attributes:
        stages: by name, in order; each decides the next.
        fit: None where the generator has none.
        samples: of what is drawn.
        scores: of the report.
    """

    stages: Mapping[str, StepKey]
    fit: StepKey | None
    samples: StepKey
    scores: StepKey


def hash_set_contents(plan: SweepPlan) -> dict[str, str | None]:
    """Return the content of the plan's sets by role, None where there is none; the folder of the sweep exists.

    Raises:
        HsevalError: a set is missing.
    """
    sets: dict[str, Path | None] = {"train": plan.data.train, "ref": plan.data.ref}
    return {role: None if path is None else hash_path_content(path, plan.out) for role, path in sets.items()}


def compute_run_keys(run: RunConfig, plan: SweepPlan, content_hashes: Mapping[str, str | None]) -> RunKeys:
    """Return the keys of a run."""
    factory = get_plugins().find("generator", run.generator)
    generator = {"generator": run.generator, "version": factory.version} | {
        "distribution": get_plugins().get_origin("generator", run.generator)
    }
    reading = {"layout": plan.data.layout, "wavelengths": plan.data.wavelengths}
    basis = {**generator, **reading, "seed": plan.seed, "train": content_hashes["train"]}
    options = resolve_options(run, with_sampling=False)
    stages: dict[str, StepKey] = {}
    decided: dict[str, Any] = {}
    for name, decides in getattr(factory, "stages", {}).items():
        decided = decided | {option: options[option] for option in decides}
        stages[name] = StepKey({**basis, "stage": name, "options": dict(sorted(decided.items()))})
    fit = StepKey({**basis, "options": options}) if hasattr(factory, "fit") else None
    drawn = {"options": resolve_options(run, with_sampling=True), "n": plan.sample_count, "seed": plan.seed}
    samples = StepKey({"fit": fit.digest if fit else None, **generator, **drawn})
    scores = StepKey(
        {"samples": samples.digest, **reading, "sets": dict(content_hashes), **_build_scoring_inputs(plan)}
    )
    return RunKeys(stages, fit, samples, scores)


def _build_scoring_inputs(plan: SweepPlan) -> dict[str, Any]:
    scoring, registry = plan.scoring, get_plugins()
    settings = {name: dict(values) for name, values in scoring.options.items()}
    built = build_metrics(scoring.metrics, extractor=scoring.extractor, settings=settings)
    extractors = {name for metric in built for name in metric.needs.features}
    return {
        "hseval": __version__,
        "scoring": options_to_dict(scoring),
        "metrics": {metric.name: registry.get_origin("metric", metric.name) for metric in built},
        "extractors": {name: _get_versions("extractor", name) for name in sorted(extractors)},
        "segmenter": scoring.segmenter and _get_versions("segmenter", scoring.segmenter),
    }


def _get_versions(kind: str, name: str) -> list[str]:
    known = name in get_plugins().get_names(kind)  # "none" is no segmenter
    return [get_plugins().get_origin(kind, name), get_plugins().find(kind, name).version] if known else [name]
