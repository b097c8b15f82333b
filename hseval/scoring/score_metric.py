"""Scores one metric: splits its features at equal size, compares them, and compares value and floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.report import Score
from hseval.data.content_hash import compute_key
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.metric_inputs import MetricEvaluator, MetricInputs, build_evaluator
from hseval.stats.intervals import IntervalResult, compute_interval
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

if TYPE_CHECKING:
    from hseval.core.hookspecs import Metric

SPLITS, QUICK_SPLITS = 16, 6


def score_metric(metric: Metric, inputs: ExtractedInputs, context: RunContext, *, with_interval: bool = True) -> Score:
    """Return one metric's score, with its interval if requested; an error in one metric does not affect the others."""
    try:
        _check_needs(metric, inputs)
        return _compute_score(build_evaluator(metric, inputs, context), inputs, context, with_interval=with_interval)
    except NotComputable as error:
        return _make_missing_score(metric, str(error))
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        return _make_missing_score(metric, f"it raised {format_error(error)}")


def _make_missing_score(metric: Metric, reason: str) -> Score:
    return Score(metric.name, None, None, None, metric.better, f"not computed: {reason}", 0)


def _check_needs(metric: Metric, inputs: ExtractedInputs) -> None:
    if metric.needs.train and inputs.train is None:
        raise NotComputable("needs --train")
    if metric.needs.train and not inputs.has_holdout:
        raise NotComputable("every reference cube is a training cube, so none is held out")
    extractors = {column.split("/", maxsplit=1)[0] for column in inputs.reference.features.columns}
    if (metric.needs.nm or not extractors.issuperset(metric.needs.features)) and not _has_wavelengths(inputs):
        raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")


def _has_wavelengths(inputs: ExtractedInputs) -> bool:
    return inputs.reference.features.wavelengths_known


def _compute_score(
    evaluator: MetricEvaluator, inputs: ExtractedInputs, context: RunContext, *, with_interval: bool
) -> Score:
    """Return the score at equal size with its floor, and the value at full size in the details."""
    metric, metric_inputs = evaluator.metric, evaluator.inputs
    full = evaluator.compute_parts(metric_inputs.real, metric_inputs.generated, metric_inputs.train)
    sizes = {"samples": len(inputs.samples.features), "reference": len(inputs.reference.features)}
    splits = draw_splits(
        real_groups=metric_inputs.real.groups,
        generated_groups=metric_inputs.generated.groups,
        repeats=QUICK_SPLITS if context.quick else SPLITS,
        rng=create_rng(context.seed, f"{metric.name} splits"),
    )
    split_scores = _score_splits(evaluator, splits)
    details = {**full.details, "full_value": full.value, "full_size": sizes, "splits": len(split_scores)}
    if not split_scores:
        verdict = f"no floor: {'halves lack what it needs' if splits else _explain_too_few(metric_inputs)}"
        return Score(metric.name, full.value, None, None, metric.better, verdict, sizes["samples"], details)
    values, floors = ([parts.value for parts in all_parts] for all_parts in _collect_values_and_floors(split_scores))
    result = compute_interval(evaluator, split_scores) if with_interval else IntervalResult(None, {})
    details |= {
        "spread": compute_std(values),
        "floor_spread": compute_std(floors),
        "splits_apart": is_separated(values, floors),
        "at_n": average_details([parts.details for parts in _collect_values_and_floors(split_scores)[0]]),
        "floor_at_n": average_details([parts.details for parts in _collect_values_and_floors(split_scores)[1]]),
        **result.details,
    }
    if "resamples" in details:
        details["resamples"] |= _collect_resampling_settings(
            evaluator, inputs, metric_inputs.count_reference_cubes(splits[0].real)
        )
    return Score(
        name=metric.name,
        value=float(np.mean(values)),
        floor=float(np.mean(floors)),
        interval=result.interval,
        better=metric.better,
        verdict=decide_verdict(values, floors, metric.better),
        n=metric_inputs.count_reference_cubes(splits[0].real),
        details=details,
    )


def _collect_values_and_floors(split_scores: Sequence[SplitScore]) -> tuple[list[Any], list[Any]]:
    return [split_score.value for split_score in split_scores], [split_score.floor for split_score in split_scores]


def _collect_resampling_settings(evaluator: MetricEvaluator, inputs: ExtractedInputs, size: int) -> dict[str, Any]:
    """Return the settings that two scores must share to be compared on their resamples."""
    metric = evaluator.metric
    train = inputs.train if metric.needs.train else None
    return {
        "seed": evaluator.seed,
        "size": size,
        "reference": compute_key(inputs.reference.content_hashes),
        "train": None if train is None else compute_key(train.content_hashes),
        "settings": [metric.name, getattr(metric, "version", "1"), repr(getattr(metric, "options", None))],
    }


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
