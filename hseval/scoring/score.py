"""Score a set of generated cubes against real ones: from three paths to a report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.cubes import FOV, CubeSet
from hseval.core.options import build_options, get_options_class
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import Report
from hseval.data.views import resolve_nested_options
from hseval.data.wavelengths import ResampledSet
from hseval.pipeline.context import ExtractedInputs, ProgressCallback, RunContext
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.inputs import (
    InputSets,
    Source,
    draw_quick_subset,
    exclude_cubes,
    find_common_field,
    find_shared_cubes,
    open_sets,
)
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.reporting.diagnosis import diagnose_report
from hseval.reporting.figures import build_figure_data, find_embedding_extractor
from hseval.scoring.provenance import collect_provenance
from hseval.scoring.score_metric import score_metric
from hseval.scoring.segmentation.segment import (
    SegmentedScore,
    build_unsegmented_plan,
    choose_segmenter,
    collect_own_mask_notes,
    segment_inputs,
)
from hseval.scoring.warnings import collect_overlap_notes, collect_set_notes
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.utils.distributed import Communicator, connect
from hseval.utils.errors import HsevalError, format_error, format_suggestion
from hseval.utils.feature_cache import FeatureCache, get_cache_path
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Metric
    from hseval.scoring.segmentation.jobs import SegmenterSpec

DEFAULT_METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
ALL_METRICS = "all"  # in place of a metric's name: every one
QUICK_CUBES, QUICK_PAIRS = 64, 112
RESAMPLED_NOTE = "interpolated bands are smoother than the reference's: metrics that see noise may tell them from real"

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
    progress: ProgressCallback | None = None,
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
    device = resolve_device(device)
    extractors = _build_extractors(chosen, settings, device, extractor)
    if extractor not in {None, *extractors, *(each.options.get("extractor") for each in extractors.values())}:
        raise HsevalError(f"--extractor {extractor}: none of the metrics asked for uses a feature extractor")
    sets = open_sets(samples, ref, train, layout=layout, wavelengths=wavelengths, resample=resample)
    if not sets.reference.info.wavelengths_known:
        extractors = {name: each for name, each in extractors.items() if not each.needs_nm}
    choice = choose_segmenter(segmenter, sets, extractors, settings, device)
    with FeatureCache(get_cache_path() if cache else None) as rows:
        comm = connect() if ranks else Communicator()
        seen: dict[str, Mapping[str, Any]] | None = {} if exhibits else None
        run = RunContext(rows, comm, seed, device, workers, batch_size, quick, verify, progress, seen)
        described, notes, masked = _extract_sets(sets, chosen, extractors, run, choice)
        scores = [score_metric(metric, described, run) for metric in chosen]
        scores = masked.annotate_scores(scores, chosen, run) if masked is not None else scores
        scores = adjust_verdicts(scores)
        shown = (
            build_figure_data(described, scores, run, extractor=find_embedding_extractor(chosen)) if exhibits else None
        )
        notes.extend([rows.first_error] if rows.first_error else [])
    told = collect_provenance(
        sets={role: (cubes, getattr(described, role)) for role, cubes in described.sets.items()},
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
        segmenter=masked.quality.spec.build() if masked is not None else None,
    )
    notes.extend([RESAMPLED_NOTE] if _has_resampled_set(sets) else [])
    notes.extend(diagnose_report(Report(tuple(scores), (), told)))
    return Report(tuple(scores), tuple(notes), told, shown)


def _has_resampled_set(sets: InputSets) -> bool:
    return any(isinstance(cubes, ResampledSet) for _, cubes in sets.items())


def build_metrics(
    names: Sequence[str] | None, *, extractor: str | None, settings: dict[str, dict[str, Any]], quick: bool = False
) -> list[Metric]:
    """Return the metrics asked for (``all``: every one), built with their options.

    Raises:
        HsevalError: an unknown metric, extractor or option, with the nearest name.
    """
    registry = get_plugins()
    asked = names if names is not None else DEFAULT_METRICS
    every = {ALL_METRICS: registry.get_names("metric")}
    wanted = list(dict.fromkeys(name for each in asked for name in every.get(each, (each,))))
    if not wanted:
        raise HsevalError(f"no metric was asked for{format_suggestion('', registry.get_names('metric'))}")
    if extractor is not None:
        registry.find("extractor", extractor)
    _check_settings(settings)
    built = []
    for name in wanted:
        declared = get_options_class(registry.find("metric", name)).__dataclass_fields__  # type: ignore[attr-defined]
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
        _ = metric.needs.features
    except HsevalError:
        raise
    except Exception as error:  # a third party's property may raise anything
        origin = get_plugins().get_origin("metric", metric.name)
        raise HsevalError(
            f"metric {metric.name!r} ({origin}): its needs can't be told: {format_error(error)}"
        ) from error


def _check_settings(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an option of no plugin, or with a wrong value, whether its plugin is used this time or not."""
    registry = get_plugins()
    kinds = {name: kind for kind in ("segmenter", "extractor", "metric") for name in registry.get_names(kind)}
    for name, values in settings.items():
        if name not in kinds:
            raise HsevalError(
                f"--set {name}: no metric, extractor or segmenter has that name{format_suggestion(name, kinds)}"
            )
        build_options(registry.find(kinds[name], name), values, owner=f"{kinds[name]} {name!r}")


def resolve_device(device: str | None) -> str:
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
        raise HsevalError(f"--device {device}: can't be computed on ({format_error(error)}); cpu works") from error
    return device


def _build_extractors(
    metrics: Sequence[Metric], settings: Settings, device: str, extractor: str | None = None
) -> dict[str, ExtractorSpec]:
    """Return the extractors that some metric needs; each is built once here, so that a bad option shows now."""
    names = sorted({name for metric in metrics for name in metric.needs.features})
    chosen = {
        name: ExtractorSpec(name, resolve_nested_options(name, settings, extractor=extractor), device) for name in names
    }
    for each in chosen.values():
        each.build()
    return chosen


def _extract_sets(
    sets: InputSets,
    metrics: Sequence[Metric],
    extractors: Mapping[str, ExtractorSpec],
    context: RunContext,
    segmenter_spec: SegmenterSpec | None = None,
) -> tuple[ExtractedInputs, list[str], SegmentedScore | None]:
    field, field_note = find_common_field(sets)
    plans = {role: _build_plan(cubes, field) for role, cubes in sets.items()}
    seen, whole = _draw_quick_sets(sets, plans, context) if context.quick else (sets, None)
    found: dict[str, ExtractedSet] = {}
    for role, cubes in seen.items():
        needed = [name for name in extractors if role != "train" or _is_needed_for_train(name, metrics, context)]
        plans[role] = dataclasses.replace(plans[role], extractors=tuple(extractors[name] for name in needed))
        found[role] = _extract_set(
            cubes, build_unsegmented_plan(segmenter_spec, seen, plans[role]), context, label=role
        )
    told = whole or found
    notes = collect_set_notes(sets, found, told, quick_count=QUICK_CUBES if context.quick else None)
    notes.extend([field_note] if field_note else [])
    notes.extend(collect_overlap_notes(told))
    described = _assemble_inputs(seen, plans, found)
    if segmenter_spec is None:
        return described, [*notes, *collect_own_mask_notes(seen, extractors)], None
    masked = segment_inputs(segmenter_spec, described, found, context, _extract_set)
    if isinstance(masked, str):  # nobody asked for a segmenter, and none can be fitted
        as_they_come = _extract_sets(sets, metrics, extractors, context)
        return as_they_come[0], [*as_they_come[1], masked], None
    return _assemble_inputs(seen, plans, masked.extracted_sets), [*notes, *masked.quality.iter_notes()], masked


def _assemble_inputs(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], extracted_sets: Mapping[str, ExtractedSet]
) -> ExtractedInputs:
    reference, held_out = _exclude_training_cubes(extracted_sets)
    return ExtractedInputs(sets, plans, extracted_sets["samples"], reference, extracted_sets.get("train"), held_out)


def _build_plan(cubes: CubeSet, field: NDArray[np.bool_] | None) -> ExtractionPlan:
    """Return a set's plan without extractors; its structures are its own, so that no other set changes its rows."""
    return ExtractionPlan((), tuple(sorted({FOV, *cubes.structures})), cubes.wavelengths, field)


def _is_needed_for_train(extractor: str, metrics: Sequence[Metric], context: RunContext) -> bool:
    if context.histogram_values is not None and extractor == find_embedding_extractor(metrics):
        return True
    return any(metric.needs.train and extractor in metric.needs.features for metric in metrics)


def _extract_set(cubes: CubeSet, plan: ExtractionPlan, context: RunContext, *, label: str) -> ExtractedSet:
    batch = context.batch_size or (1 if context.device == "cpu" else 16)
    return extract_features(
        cubes,
        plan,
        cache=context.cache,
        workers=context.workers if context.device == "cpu" else 0,
        batch_size=batch,
        comm=context.comm,
        verify=context.verify,
        progress=context.make_progress_callback(f"describing {label}"),
    )


def _draw_quick_sets(
    sets: InputSets, plans: Mapping[str, ExtractionPlan], context: RunContext
) -> tuple[InputSets, dict[str, ExtractedSet]]:
    """Return the sets cut to a few cubes each, and what hashing all of them told.

    Training cubes leave the reference before the draw: a cube that is shared has to be found in the whole sets.
    """
    whole = {
        role: _extract_set(cubes, plans[role], context, label=f"content of {role}") for role, cubes in sets.items()
    }
    reference, _ = _exclude_training_cubes(whole)
    drawn: dict[str, CubeSet] = {}
    for role, cubes in sets.items():
        described = reference if role == "reference" else whole[role]
        picked = draw_quick_subset(described.features.groups.tolist(), QUICK_CUBES, create_rng(context.seed, "quick"))
        drawn[role] = cubes.subset(sorted(int(described.index[i]) for i in picked))
    return InputSets(drawn["samples"], drawn["reference"], drawn.get("train")), whole


def _exclude_training_cubes(extracted_sets: Mapping[str, ExtractedSet]) -> tuple[ExtractedSet, bool]:
    """Return the reference without training cubes; as it is, and False, where that leaves nothing.

    With nothing held out the reference still describes real cubes, but nothing can be said of copies.
    """
    reference = extracted_sets["reference"]
    if "train" not in extracted_sets:
        return reference, True
    both = find_shared_cubes(reference, extracted_sets["train"])
    return (reference, False) if both.all() else (exclude_cubes(reference, both), True)
