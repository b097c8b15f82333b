"""Scores one metric: splits its features at equal size, compares them, and compares value and floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from hseval.core.capabilities import get_options, get_plugin_version
from hseval.core.evaluation import HistogramValues, MetricEvaluator, MetricInputs, count_cubes
from hseval.core.protocols import Metric, ScoreParts
from hseval.core.report import Score, to_jsonable
from hseval.core.report_file import ShownDetails
from hseval.core.score_records import Resamples, SplitStatistics, StoredReplicates
from hseval.data.content_hash import compute_key
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.metric_inputs import build_evaluator
from hseval.stats.intervals import Uncertainty, compute_mean_excess, compute_uncertainty
from hseval.stats.resampling import SplitScore
from hseval.stats.splits import (
    MIN_SPLIT_SIZE,
    Split,
    average_details,
    compute_std,
    decide_verdict,
    draw_splits,
    is_separated,
)
from hseval.utils.errors import HsevalError, NotComputable, format_error
from hseval.utils.random_streams import create_rng
from hseval.utils.structured_files import MAX_DEPTH, check_depth

SPLITS, QUICK_SPLITS = 16, 6


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """A metric's score and, for an HTML report, the values of single cubes or pairs that it measured."""

    score: Score
    histogram_values: HistogramValues


@np.errstate(all="ignore")  # a value that is not finite becomes "not computed: its value is nan"
def score_metric(
    metric: Metric, inputs: ExtractedInputs, context: RunContext, *, with_interval: bool = True
) -> MetricResult:
    """Score one metric, with its interval if requested; an error in one metric does not affect the others."""
    histogram_values: HistogramValues = {}
    try:
        _check_needs(metric, inputs)
        evaluator = build_evaluator(metric, inputs, context)
        histogram_values = evaluator.collect_histogram_values() if context.exhibits else {}
        score = _compute_score(evaluator, inputs, context, with_interval=with_interval)
    except NotComputable as error:
        score = _make_missing_score(metric, str(error))
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        score = _make_missing_score(metric, f"it raised {format_error(error)}")
    return MetricResult(score, histogram_values)


def _make_missing_score(metric: Metric, reason: str) -> Score:
    return Score(name=metric.name, better=metric.better, verdict=f"not computed: {reason}")


def _check_needs(metric: Metric, inputs: ExtractedInputs) -> None:
    if metric.needs.train and inputs.train is None:
        raise NotComputable("needs --train")
    if metric.needs.train and not inputs.has_holdout:
        raise NotComputable("every reference cube is a training cube, so none is held out")
    features = inputs.reference.features
    extractors = {column.split("/", maxsplit=1)[0] for column in features.columns}
    if (metric.needs.nm or not extractors.issuperset(metric.needs.features)) and not features.wavelengths_known:
        raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")


def _compute_score(
    evaluator: MetricEvaluator, inputs: ExtractedInputs, context: RunContext, *, with_interval: bool
) -> Score:
    """Return the score at equal size with its floor, and the value and details at full size."""
    import msgspec

    metric, metric_inputs = evaluator.metric, evaluator.inputs
    full = evaluator.compute_parts(metric_inputs.real, metric_inputs.generated, metric_inputs.train)
    _check_types(full.details)
    details = to_jsonable(full.details)
    # With other types, or nested deeply, the report could not be read again.
    check_depth(details, MAX_DEPTH // 2)
    msgspec.convert(details, ShownDetails)
    splits = draw_splits(
        real_groups=metric_inputs.real.groups,
        generated_groups=metric_inputs.generated.groups,
        repeats=QUICK_SPLITS if context.quick else SPLITS,
        rng=create_rng(context.seed, f"{metric.name} splits"),
    )
    split_scores = _score_splits(evaluator, splits)
    statistics = SplitStatistics(
        count=len(split_scores),
        samples=len(inputs.samples.features),
        reference_cubes=len(inputs.reference.features),
        full_value=full.value,
    )
    if not split_scores:
        return Score(
            name=metric.name,
            value=full.value,
            better=metric.better,
            verdict=f"no floor: {'halves lack what it needs' if splits else _explain_too_few(metric_inputs)}",
            n=statistics.samples,
            details=details,
            statistics=statistics,
        )
    uncertainty = compute_uncertainty(evaluator, split_scores) if with_interval else Uncertainty()
    size = count_cubes(metric_inputs.real.select(splits[0].real))
    values, floors = [part.value for part in split_scores], [part.floor for part in split_scores]
    return Score(
        name=metric.name,
        value=float(np.mean([parts.value for parts in values])),
        floor=float(np.mean([parts.value for parts in floors])),
        excess=compute_mean_excess(split_scores),
        interval=uncertainty.interval,
        excess_interval=uncertainty.excess_interval,
        p_value=uncertainty.p_value,
        better=metric.better,
        verdict=decide_verdict([parts.value for parts in values], [parts.value for parts in floors], metric.better),
        n=size,
        details=details,
        statistics=_add_split_statistics(
            statistics, values, floors, uncertainty, _build_resamples(evaluator, inputs, size, uncertainty)
        ),
    )


def _check_types(value: Any) -> None:
    """Refuse details that a report would turn into text such as ``<function ...>``, sets among them.

    Raises:
        TypeError: the message names the type.
    """
    if isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_types(item)
    elif not (value is None or isinstance(value, (str, int, float, PurePath)) or hasattr(value, "tolist")):
        raise TypeError(f"details hold a {type(value).__name__}; expected numbers, text, arrays, lists, mappings")


def _add_split_statistics(
    statistics: SplitStatistics,
    values: Sequence[ScoreParts],
    floors: Sequence[ScoreParts],
    uncertainty: Uncertainty,
    resamples: Resamples | None,
) -> SplitStatistics:
    split_values, split_floors = [parts.value for parts in values], [parts.value for parts in floors]
    return dataclasses.replace(
        statistics,
        value_std=compute_std(split_values),
        floor_std=compute_std(split_floors),
        is_separated=is_separated(split_values, split_floors),
        value_details=to_jsonable(average_details([parts.details for parts in values]) or {}),
        floor_details=to_jsonable(average_details([parts.details for parts in floors]) or {}),
        no_interval=uncertainty.no_interval,
        detectable=uncertainty.detectable,
        resamples=resamples,
    )


def _build_resamples(
    evaluator: MetricEvaluator, inputs: ExtractedInputs, size: int, uncertainty: Uncertainty
) -> Resamples | None:
    """Return what comparisons with other scores need; None where there is no interval."""
    metric, evidence = evaluator.metric, uncertainty.evidence
    if evidence is None:
        return None
    train = inputs.train if metric.needs.train else None
    return Resamples(
        seed=evaluator.seed,
        size=size,
        reference=compute_key(inputs.reference.content_hashes),
        train=None if train is None else compute_key(train.content_hashes),
        settings=(metric.name, get_plugin_version(metric) or "1", repr(get_options(metric))),
        replicates=evidence if isinstance(evidence, StoredReplicates) else None,
        draws=evidence if isinstance(evidence, tuple) else None,
    )


def _explain_too_few(metric_inputs: MetricInputs) -> str:
    """Return which side leaves no splits of at least two rows per side."""
    if len(metric_inputs.generated) < MIN_SPLIT_SIZE:
        return "too few samples"
    return "too few independent real cubes to halve"


def _score_splits(evaluator: MetricEvaluator, all_splits: Sequence[Split]) -> list[SplitScore]:
    """Return value and floor of the pairs of splits whose halves have everything that the metric needs.

    Complementary pairs are left out as a whole, so that value and floor are means over the same splits and every real
    cube has the same weight. Without a quarter of the splits, or two, there is no floor: returns an empty list.
    """
    split_scores: list[SplitScore] = []
    for start in range(0, len(all_splits), 2):
        try:
            split_scores.extend([_score_split(evaluator, split) for split in all_splits[start : start + 2]])
        except NotComputable:
            continue
    return split_scores if len(split_scores) >= max(2, len(all_splits) / 4) else []


def _score_split(evaluator: MetricEvaluator, split: Split) -> SplitScore:
    inputs = evaluator.inputs
    real = inputs.real.select(split.real)
    value = evaluator.compute_parts(real, inputs.generated.select(split.generated), inputs.train)
    return SplitScore(split, value, evaluator.compute_parts(real, inputs.real.select(split.holdout), inputs.train))
