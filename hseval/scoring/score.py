"""Score a set of generated cubes against real ones: from three paths to a report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.options import build_options, options_class
from hseval.core.plugin_manager import plugins
from hseval.core.report import Report
from hseval.data.views import with_inside
from hseval.data.wavelengths import ResampledSet
from hseval.pipeline.context import Described, Progress, Run
from hseval.pipeline.extract import Description, describe
from hseval.pipeline.inputs import Sets, Source, common_field, open_sets, quick_subset, shared, without
from hseval.pipeline.worker import Chosen, Plan
from hseval.reporting.diagnosis import where
from hseval.reporting.figures import embedded_by, exhibits_of
from hseval.scoring.provenance import provenance
from hseval.scoring.score_metric import score_of
from hseval.scoring.segmentation.segment import Masked, choose, masked_sets, own_masks_note, plain_plan
from hseval.scoring.warnings import set_notes, shared_notes
from hseval.stats.multiple_testing import judged_together
from hseval.utils.distributed import Comm, connect
from hseval.utils.errors import HsevalError, first_line, nearest
from hseval.utils.feature_cache import Cache, default_path
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric
    from hseval.scoring.segmentation.jobs import Choice

DEFAULT_METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
ALL = "all"  # in place of a metric's name: every one
QUICK_CUBES, QUICK_PAIRS = 64, 112
RESAMPLED = "interpolated bands are smoother than the reference's: metrics that see noise may tell them from real"

Settings = Mapping[str, Mapping[str, Any]]


def score(
    samples: Source,
    *,
    ref: Source,
    train: Source | None = None,
    metrics: Sequence[str] | None = None,
    extractor: str | None = None,
    segmenter: str | None = None,
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
    ranks: bool = False,
    exhibits: bool = False,
) -> Report:
    """Score generated cubes against real ones.

    Args:
        samples: the generated set: a path, a CubeSet or an array ``(n, band, y, x)``.
        ref: real cubes that the generator has not seen.
        train: the real cubes that the generator was fitted on; never replaced by ``ref``.
        metrics: names, or ``all``; None: the default four.
        extractor: in place of every metric's default feature extractor.
        segmenter: whose masks structures are told by, in all sets; ``none``: the sets' own. None: a segmenter where the
            samples lack masks that the reference has.
        seed: one seed; every consumer derives its own stream from it.
        device: ``"cpu"``, ``"cuda"`` ...; None: CUDA where torch sees it.
        options: plugin name -> option -> value.
        layout: ``"byx"`` or ``"yxb"``, where files do not say.
        wavelengths: nm by band, a file, or ``"450:905:16"``, in place of what files say.
        resample: interpolate samples and training set to the reference's wavelengths.
        workers: processes; 0: this one; None: as many as there are cores, once it pays.
        batch_size: cubes an extractor gets at a time; None: 1 on a CPU (repeats to the last digit), 16 on a GPU.
        quick: a first look at 64 cubes of each set.
        cache: keep rows, and reuse them.
        verify: hash every cube anew instead of trusting file stamps.
        progress: called with (what, done, total).
        ranks: share the work with the other processes that torchrun started with this one.
        exhibits: keep pictures, spectra and points for an HTML report; needs the training set's features, too.

    Raises:
        HsevalError: unusable or incompatible input or options; one line says what and what would do.
    """
    settings = {name: dict(values) for name, values in (options or {}).items()}
    chosen = build_metrics(metrics, extractor=extractor, settings=settings, quick=quick)
    device = usable_device(device)
    extractors = _build_extractors(chosen, settings, device, extractor)
    if extractor not in {None, *extractors, *(each.options.get("extractor") for each in extractors.values())}:
        raise HsevalError(f"--extractor {extractor}: none of the metrics asked for uses a feature extractor")
    sets = open_sets(samples, ref, train, layout=layout, wavelengths=wavelengths, resample=resample)
    if not sets.reference.info.wavelengths_known:
        extractors = {name: each for name, each in extractors.items() if not each.needs_nm}
    choice = choose(segmenter, sets, extractors, settings, device)
    with Cache(default_path() if cache else None) as rows:
        comm = connect() if ranks else Comm()
        seen: dict[str, Mapping[str, Any]] | None = {} if exhibits else None
        run = Run(rows, comm, seed, device, workers, batch_size, quick, verify, progress, seen)
        described, notes, masked = _describe_sets(sets, chosen, extractors, run, choice)
        scores = [score_of(metric, described, run) for metric in chosen]
        scores = masked.told(scores, chosen, run) if masked is not None else scores
        scores = judged_together(scores)
        shown = exhibits_of(described, scores, run, extractor=embedded_by(chosen)) if exhibits else None
        notes.extend([rows.trouble] if rows.trouble else [])
    told = provenance(
        sets={role: (cubes, getattr(described, role)) for role, cubes in described.sets.named()},
        settings={
            "seed": seed,
            "metrics": [metric.name for metric in chosen],
            "extractor": extractor,
            "segmenter": segmenter,
            "options": settings,
            "device": device,
            "batch_size": batch_size,
            "quick": quick,
            "resample": resample,
            "layout": layout,
            "wavelengths": wavelengths,
        },
        metrics=chosen,
        extractors=[each.build() for each in extractors.values()],
        segmenter=masked.about.choice.build() if masked is not None else None,
    )
    notes.extend([RESAMPLED] if _resampled(sets) else [])
    notes.extend(where(Report(tuple(scores), (), told)))
    return Report(tuple(scores), tuple(notes), told, shown)


def _resampled(sets: Sets) -> bool:
    return any(isinstance(cubes, ResampledSet) for _, cubes in sets.named())


def build_metrics(
    names: Sequence[str] | None, *, extractor: str | None, settings: dict[str, dict[str, Any]], quick: bool = False
) -> list[Metric]:
    """Return the metrics asked for (``all``: every one), built with their options.

    Raises:
        HsevalError: an unknown metric, extractor or option, with the nearest name.
    """
    registry = plugins()
    asked = names if names is not None else DEFAULT_METRICS
    every = {ALL: registry.names("metric")}
    wanted = list(dict.fromkeys(name for each in asked for name in every.get(each, (each,))))
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
        _check_metric_needs(built[-1])
    return built


def _check_metric_needs(metric: Metric) -> None:
    try:
        _ = metric.needs.rows
    except HsevalError:
        raise
    except Exception as error:  # a third party's property may raise anything
        origin = plugins().origin("metric", metric.name)
        raise HsevalError(f"metric {metric.name!r} ({origin}): its needs can't be told: {first_line(error)}") from error


def _check_settings(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an option of no plugin, or with a wrong value, whether its plugin is used this time or not."""
    registry = plugins()
    kinds = {name: kind for kind in ("segmenter", "extractor", "metric") for name in registry.names(kind)}
    for name, values in settings.items():
        if name not in kinds:
            raise HsevalError(f"--set {name}: no metric, extractor or segmenter has that name{nearest(name, kinds)}")
        build_options(registry.find(kinds[name], name), values, owner=f"{kinds[name]} {name!r}")


def usable_device(device: str | None) -> str:
    """Return a device that torch can compute on; under torchrun every rank gets a GPU of its own.

    Raises:
        HsevalError: it is no device, or nothing can be computed there.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.ones(1, device=device).cpu()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise HsevalError(f"--device {device}: can't be computed on ({first_line(error)}); cpu works") from error
    return device


def _build_extractors(
    metrics: Sequence[Metric], settings: Settings, device: str, extractor: str | None = None
) -> dict[str, Chosen]:
    """Return the extractors that some metric needs; each is built once here, so that a bad option shows now."""
    names = sorted({name for metric in metrics for name in metric.needs.rows})
    chosen = {name: Chosen(name, with_inside(name, settings, extractor=extractor), device) for name in names}
    for each in chosen.values():
        each.build()
    return chosen


def _describe_sets(
    sets: Sets, metrics: Sequence[Metric], extractors: Mapping[str, Chosen], run: Run, choice: Choice | None = None
) -> tuple[Described, list[str], Masked | None]:
    field, field_note = common_field(sets)
    plans = {role: _plan(cubes, field) for role, cubes in sets.named()}
    seen, whole = _quick(sets, plans, run) if run.quick else (sets, None)
    found: dict[str, Description] = {}
    for role, cubes in seen.named():
        needed = [name for name in extractors if role != "train" or _for_train(name, metrics, run)]
        plans[role] = dataclasses.replace(plans[role], extractors=tuple(extractors[name] for name in needed))
        found[role] = _describe(cubes, plain_plan(choice, seen, plans[role]), run, what=role)
    told = whole or found
    notes = set_notes(sets, found, told, quick=QUICK_CUBES if run.quick else None)
    notes.extend([field_note] if field_note else [])
    notes.extend(shared_notes(told))
    described = _settled(seen, plans, found)
    if choice is None:
        return described, [*notes, *own_masks_note(seen, extractors)], None
    masked = masked_sets(choice, described, found, run, _describe)
    if isinstance(masked, str):  # nobody asked for a segmenter, and none can be fitted
        as_they_come = _describe_sets(sets, metrics, extractors, run)
        return as_they_come[0], [*as_they_come[1], masked], None
    return _settled(seen, plans, masked.found), [*notes, *masked.about.notes()], masked


def _settled(sets: Sets, plans: Mapping[str, Plan], found: Mapping[str, Description]) -> Described:
    reference, held_out = _held_out(found)
    return Described(sets, plans, found["samples"], reference, found.get("train"), held_out)


def _plan(cubes: CubeSet, field: NDArray[np.bool_] | None) -> Plan:
    """Return a set's plan without extractors; its structures are its own, so that no other set changes its rows."""
    return Plan((), tuple(sorted({FIELD, *cubes.structures})), cubes.wavelengths, field)


def _for_train(extractor: str, metrics: Sequence[Metric], run: Run) -> bool:
    if run.shown is not None and extractor == embedded_by(metrics):
        return True
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


def _quick(sets: Sets, plans: Mapping[str, Plan], run: Run) -> tuple[Sets, dict[str, Description]]:
    """Return the sets cut to a few cubes each, and what hashing all of them told.

    Training cubes leave the reference before the draw: a cube that is shared has to be found in the whole sets.
    """
    whole = {role: _describe(cubes, plans[role], run, what=f"content of {role}") for role, cubes in sets.named()}
    reference, _ = _held_out(whole)
    drawn: dict[str, CubeSet] = {}
    for role, cubes in sets.named():
        described = reference if role == "reference" else whole[role]
        picked = quick_subset(described.rows.groups.tolist(), QUICK_CUBES, stream(run.seed, "quick"))
        drawn[role] = cubes.subset(sorted(int(described.index[i]) for i in picked))
    return Sets(drawn["samples"], drawn["reference"], drawn.get("train")), whole


def _held_out(found: Mapping[str, Description]) -> tuple[Description, bool]:
    """Return the reference without training cubes; as it is, and False, where that leaves nothing.

    With nothing held out the reference still describes real cubes, but nothing can be said of copies.
    """
    reference = found["reference"]
    if "train" not in found:
        return reference, True
    both = shared(reference, found["train"])
    return (reference, False) if both.all() else (without(reference, both), True)
