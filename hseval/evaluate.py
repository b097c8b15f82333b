"""Score a set of generated cubes against real ones: from three paths to a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.cache import Cache, default_path
from hseval.comm import connect
from hseval.compare import score_of
from hseval.cubes import FIELD, CubeSet
from hseval.describe import Description, describe
from hseval.describer import Chosen, Plan
from hseval.errors import HsevalError, nearest
from hseval.notes import set_notes, shared_notes
from hseval.options import options_class
from hseval.plugins import plugins
from hseval.provenance import provenance
from hseval.report import Report
from hseval.run import Described, Progress, Run
from hseval.seeds import stream
from hseval.sets import Sets, Source, common_field, open_sets, quick_subset, shared, without

if TYPE_CHECKING:
    from hseval.hookspecs import Metric

DEFAULT_METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
QUICK_CUBES, QUICK_PAIRS = 64, 112

Settings = Mapping[str, Mapping[str, Any]]


def score(
    samples: Source,
    *,
    ref: Source,
    train: Source | None = None,
    metrics: Sequence[str] | None = None,
    extractor: str | None = None,
    seed: int = 0,
    device: str | None = None,
    options: Settings | None = None,
    layout: str | None = None,
    wavelengths: Any = None,
    resample: bool = False,
    workers: int | None = 0,
    batch_size: int | None = None,
    quick: bool = False,
    cache: bool = True,
    verify: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Score generated cubes against real ones.

    Args:
        samples: the generated set: a path, a CubeSet or an array ``(n, band, y, x)``.
        ref: real cubes that the generator has not seen.
        train: the real cubes that the generator was fitted on; never replaced by ``ref``.
        metrics: names; None: the default four.
        extractor: in place of every metric's default feature extractor.
        seed: one seed; every consumer derives its own stream from it.
        device: ``"cpu"``, ``"cuda"`` ...; None: CUDA where torch sees it.
        options: plugin name -> option -> value.
        layout: ``"byx"`` or ``"yxb"``, where files do not say.
        wavelengths: nm by band, a file, or ``"450:905:16"``, where files do not say.
        resample: interpolate samples and training set to the reference's wavelengths.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        batch_size: cubes an extractor gets at a time; None: 1 on a CPU (repeats to the last digit), 16 on a GPU.
        quick: a first look at 64 cubes of each set.
        cache: keep rows, and reuse them.
        verify: hash every cube anew instead of trusting file stamps.
        progress: called with (what, done, total).

    Raises:
        HsevalError: unusable or incompatible input or options; one line says what and what would do.
    """
    settings = {name: dict(values) for name, values in (options or {}).items()}
    chosen = build_metrics(metrics, extractor=extractor, settings=settings, quick=quick)
    device = _device(device)
    extractors = _build_extractors(chosen, settings, device)
    sets = open_sets(samples, ref, train, layout=layout, wavelengths=wavelengths, resample=resample)
    with Cache(default_path() if cache else None) as rows:
        run = Run(rows, connect(), seed, device, workers, batch_size, quick, verify, progress)
        described, notes = _describe_sets(sets, chosen, extractors, run)
        scores = [score_of(metric, described, run) for metric in chosen]
        notes.extend([rows.trouble] if rows.trouble else [])
    told = provenance(
        sets={role: (cubes, getattr(described, role)) for role, cubes in described.sets.named()},
        settings={"seed": seed, "device": device, "quick": quick, "resample": resample},
        metrics=chosen,
        extractors=[each.build() for each in extractors.values()],
    )
    return Report(tuple(scores), tuple(notes), told)


def build_metrics(
    names: Sequence[str] | None, *, extractor: str | None, settings: dict[str, dict[str, Any]], quick: bool = False
) -> list[Metric]:
    """Return the metrics asked for, built with their options.

    Raises:
        HsevalError: an unknown metric, extractor or option, with the nearest name.
    """
    registry = plugins()
    wanted = list(dict.fromkeys(names if names is not None else DEFAULT_METRICS))
    if not wanted:
        raise HsevalError(f"no metric was asked for{nearest('', registry.names('metric'))}")
    if extractor is not None:
        registry.find("extractor", extractor)
    _check_settings(settings)
    built = []
    for name in wanted:
        declared = options_class(registry.find("metric", name)).__dataclass_fields__  # type: ignore[attr-defined]
        values = dict(settings.get(name, {}))
        if extractor is not None and "extractor" in declared:
            values.setdefault("extractor", extractor)
        if quick and "pairs" in declared:
            values.setdefault("pairs", QUICK_PAIRS)
        built.append(registry.build("metric", name, values))
    return built


def _check_settings(settings: Mapping[str, Any]) -> None:
    registry = plugins()
    known = {*registry.names("metric"), *registry.names("extractor")}
    for name in settings:
        if name not in known:
            raise HsevalError(f"--set {name}: no metric or extractor is called {name!r}{nearest(name, known)}")


def _device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise HsevalError(f"--device {device}: torch sees no GPU here; --device cpu works everywhere")
    try:
        return str(torch.device(device))
    except RuntimeError as error:
        raise HsevalError(f"--device {device}: no device of torch (cpu, cuda, cuda:1 ...)") from error


def _build_extractors(metrics: Sequence[Metric], settings: Settings, device: str) -> dict[str, Chosen]:
    """Return the extractors that some metric needs; each is built once here, so that a bad option shows now."""
    names = sorted({name for metric in metrics for name in metric.needs.rows})
    chosen = {name: Chosen(name, settings.get(name, {}), device) for name in names}
    for each in chosen.values():
        each.build()
    return chosen


def _describe_sets(
    sets: Sets, metrics: Sequence[Metric], extractors: Mapping[str, Chosen], run: Run
) -> tuple[Described, list[str]]:
    field, field_note = common_field(sets)
    structures = tuple(sorted({FIELD, *(name for _, cubes in sets.named() for name in cubes.structures)}))
    plan = Plan((), structures, sets.reference.wavelengths, field)
    found: dict[str, Description] = {}
    looked_at: dict[str, CubeSet] = {}
    for role, cubes in sets.named():
        needed = [name for name in extractors if role != "train" or _for_train(name, metrics)]
        looked_at[role] = _quick(cubes, plan, run) if run.quick else cubes
        its_plan = dataclasses.replace(plan, extractors=tuple(extractors[name] for name in needed))
        found[role] = _describe(looked_at[role], its_plan, run, what=role)
    notes = set_notes(sets, found, quick=QUICK_CUBES if run.quick else None)
    notes.extend([field_note] if field_note else [])
    notes.extend(shared_notes(found))
    reference, held_out = _held_out(found)
    seen = Sets(looked_at["samples"], looked_at["reference"], looked_at.get("train"))
    return Described(seen, plan, found["samples"], reference, found.get("train"), held_out), notes


def _for_train(extractor: str, metrics: Sequence[Metric]) -> bool:
    return any(metric.needs.train and extractor in metric.needs.rows for metric in metrics)


def _describe(cubes: CubeSet, plan: Plan, run: Run, *, what: str) -> Description:
    batch = run.batch_size or (1 if run.device == "cpu" else 16)
    return describe(
        cubes,
        plan,
        cache=run.cache,
        workers=run.workers if run.device == "cpu" else 0,
        batch_size=batch,
        comm=run.comm,
        verify=run.verify,
        progress=run.told(f"describing {what}"),
    )


def _quick(cubes: CubeSet, plan: Plan, run: Run) -> CubeSet:
    if len(cubes) <= QUICK_CUBES:
        return cubes
    hashed = _describe(cubes, plan, run, what="content")
    picked = quick_subset(hashed.rows.hashes.tolist(), QUICK_CUBES, stream(run.seed, "quick"))
    return cubes.subset(sorted(int(hashed.index[i]) for i in picked))


def _held_out(found: Mapping[str, Description]) -> tuple[Description, bool]:
    """Return the reference without training cubes; as it is, and False, where that leaves nothing.

    With nothing held out the reference still describes real cubes, but nothing can be said of copies.
    """
    reference = found["reference"]
    if "train" not in found:
        return reference, True
    both = shared(reference, found["train"])
    return (reference, False) if both.all() else (without(reference, both), True)
