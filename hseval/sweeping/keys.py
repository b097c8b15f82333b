"""What decides the result of each step, and the short keys by which results are found again.

A stage is decided by the generator (name, version, distribution with its version), the training set's content, the
seed and its options; a fit by all options; a run's samples by its fit, the options of sampling, their number and the
seed; its scores by its samples, the sets' content, and the versions and options of all that scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hseval import __version__
from hseval.evaluate import build_metrics
from hseval.identity import key
from hseval.options import as_dict
from hseval.plugins import plugins
from hseval.report import plain
from hseval.sweeping.content import content_of
from hseval.sweeping.expand import resolved
from hseval.sweeping.plan import Configuration, Plan

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
