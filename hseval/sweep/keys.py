"""Keys of the steps' results: short hashes of all that determines a result.

A stage is determined by the generator (name, version, distribution with its version), the training set's content, the
seed and the stage's options; a fit by all options; a run's samples by its fit, the options of sampling, their number
and the seed; its scores by its samples, the sets' content, and the versions and options of all plugins that score.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from hseval.core.capabilities import SupportsFit, get_stages
from hseval.core.options import options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import to_jsonable
from hseval.data.content_hash import RACY_SECONDS, compute_key
from hseval.scoring.metric_choice import build_metrics
from hseval.sweep.grid import resolve_options
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.sweep.store import read_record, write_record
from hseval.utils.errors import HsevalError
from hseval.utils.hashing import compute_sha256
from hseval.utils.input_files import check_regular_file
from hseval.utils.version import __version__

CONTENT_CACHE_FILE = "data.json"


class ContentRecord(TypedDict):
    """A file's hash, and what changes when it is modified; None: modified too recently to tell."""

    stamp: list[int] | None
    sha256: str


def hash_path_content(path: Path, sweep_folder: Path) -> str:
    """Return the sha256 of a file, or of a folder's files with their names.

    Args:
        path: of the set.
        sweep_folder: where hashes are cached; files modified within the last two seconds are always hashed.

    Raises:
        HsevalError: there is no such file or folder, or it can't be read.
    """
    cached = read_record(sweep_folder / CONTENT_CACHE_FILE, dict[str, ContentRecord]) or {}
    files = _list_files(path)
    entries: dict[str, ContentRecord] = {}
    for file in files:
        stamp = _get_stamp(file)
        entry = cached.get(str(file.absolute()))
        if entry is not None and stamp is not None and entry["stamp"] == stamp:
            digest = entry["sha256"]
        else:
            digest = _hash_file(file)
        entries[str(file.absolute())] = {"stamp": stamp, "sha256": digest}
    if any(cached.get(name) != entry for name, entry in entries.items()):
        write_record(sweep_folder / CONTENT_CACHE_FILE, cached | entries)
    if path.is_file():
        return entries[str(path.absolute())]["sha256"]
    digests = [(file.relative_to(path).as_posix(), entries[str(file.absolute())]["sha256"]) for file in files]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    try:
        return compute_sha256(file)
    except OSError as error:
        raise HsevalError(f"{file}: can't be read: {error.strerror}") from error


def _list_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.exists():
        raise HsevalError(f"{path}: there is no such file or folder")
    check_regular_file(path)
    return [path]


def _get_stamp(file: Path) -> list[int] | None:
    stat = file.stat()
    if time.time() - stat.st_ctime_ns / 1e9 < RACY_SECONDS:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


KeyInputs = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StepKey:
    """A record of all that determines a result, and the key computed from it."""

    inputs: KeyInputs

    @property
    def digest(self) -> str:
        """The key: 16 hex digits."""
        return compute_key(to_jsonable(self.inputs))[:16]


@dataclasses.dataclass(frozen=True)
class RunKeys:
    """The keys of one run's steps.

    Attributes:
        stages: by name, in order; each includes the options of those before.
        fit: None for generators that are not fitted.
        samples: of the samples.
        scores: of the report.
    """

    stages: Mapping[str, StepKey]
    fit: StepKey | None
    samples: StepKey
    scores: StepKey


def hash_set_contents(plan: SweepPlan) -> dict[str, str | None]:
    """Return the content hashes of the plan's sets by role, None for no set; the folder of the sweep must exist.

    Raises:
        HsevalError: a set is missing.
    """
    sets: dict[str, Path | None] = {"train": plan.data.train, "ref": plan.data.ref}
    return {role: None if path is None else hash_path_content(path, plan.out) for role, path in sets.items()}


def check_sets_unchanged(plan: SweepPlan, content_hashes: Mapping[str, str | None]) -> None:
    """Raise HsevalError if a set has other content than hashed by role: a result would be stored under an old key."""
    for role, digest in hash_set_contents(plan).items():
        if digest != content_hashes.get(role, digest):
            raise HsevalError(f"{getattr(plan.data, role)}: has changed since the sweep started; run it again")


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
    stage_options: dict[str, Any] = {}
    for name, option_names in get_stages(factory).items():
        stage_options = stage_options | {option: options[option] for option in option_names}
        stages[name] = StepKey({**basis, "stage": name, "options": dict(sorted(stage_options.items()))})
    fit = StepKey({**basis, "options": options}) if isinstance(factory, SupportsFit) else None
    sampling = {"options": resolve_options(run, with_sampling=True), "n": plan.sample_count, "seed": plan.seed}
    samples = StepKey({"fit": fit.digest if fit else None, **generator, **sampling})
    scores = StepKey(
        {"samples": samples.digest, **reading, "sets": dict(content_hashes), **_build_scoring_inputs(plan)}
    )
    return RunKeys(stages, fit, samples, scores)


def _build_scoring_inputs(plan: SweepPlan) -> dict[str, Any]:
    scoring, registry = plan.scoring, get_plugins()
    settings = {name: dict(values) for name, values in scoring.options.items()}
    metrics = build_metrics(scoring.metrics, extractor=scoring.extractor, settings=settings)
    extractors = {name for metric in metrics for name in metric.needs.features}
    return {
        "hseval": __version__,
        "scoring": options_to_dict(scoring),
        "metrics": {metric.name: registry.get_origin("metric", metric.name) for metric in metrics},
        "extractors": {name: _get_versions("extractor", name) for name in sorted(extractors)},
        "segmenter": scoring.segmenter and _get_versions("segmenter", scoring.segmenter),
    }


def _get_versions(kind: str, name: str) -> list[str]:
    if name not in get_plugins().get_names(kind):  # segmenter "none"
        return [name]
    return [get_plugins().get_origin(kind, name), get_plugins().find(kind, name).version]
