"""One metric on described sets: its rows split at equal size, compared, and judged against the floor."""

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
    """Return one metric's score, with its interval if asked for; what goes wrong in one leaves the others alone."""
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
    described_by = {column.split("/", maxsplit=1)[0] for column in inputs.reference.features.columns}
    if (metric.needs.nm or not described_by.issuperset(metric.needs.features)) and not _has_wavelengths(inputs):
        raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")


def _has_wavelengths(inputs: ExtractedInputs) -> bool:
    return inputs.reference.features.wavelengths_known


def _compute_score(
    evaluator: MetricEvaluator, inputs: ExtractedInputs, context: RunContext, *, with_interval: bool
) -> Score:
    """Return the score at equal size beside its floor, with the value at full size in the details."""
    metric, rows = evaluator.metric, evaluator.inputs
    full = evaluator.compute_parts(rows.real, rows.generated, rows.train)
    sizes = {"samples": len(inputs.samples.features), "reference": len(inputs.reference.features)}
    dealt = draw_splits(
        real_groups=rows.real.groups,
        generated_groups=rows.generated.groups,
        repeats=QUICK_SPLITS if context.quick else SPLITS,
        rng=create_rng(context.seed, f"{metric.name} splits"),
    )
    found = _score_splits(evaluator, dealt)
    details = {**full.details, "full_value": full.value, "full_size": sizes, "splits": len(found)}
    if not found:
        told = f"no floor: {'halves lack what it needs' if dealt else _explain_too_few(rows)}"
        return Score(metric.name, full.value, None, None, metric.better, told, sizes["samples"], details)
    value, floor = ([parts.value for parts in each] for each in _collect_values_and_floors(found))
    between = compute_interval(evaluator, found) if with_interval else IntervalResult(None, {})
    details |= {
        "spread": compute_std(value),
        "floor_spread": compute_std(floor),
        "splits_apart": is_separated(value, floor),
        "at_n": average_details([parts.details for parts in _collect_values_and_floors(found)[0]]),
        "floor_at_n": average_details([parts.details for parts in _collect_values_and_floors(found)[1]]),
        **between.details,
    }
    if "resamples" in details:
        details["resamples"] |= _collect_resampling_settings(
            evaluator, inputs, rows.count_reference_cubes(dealt[0].real)
        )
    return Score(
        name=metric.name,
        value=float(np.mean(value)),
        floor=float(np.mean(floor)),
        interval=between.interval,
        better=metric.better,
        verdict=decide_verdict(value, floor, metric.better),
        n=rows.count_reference_cubes(dealt[0].real),
        details=details,
    )


def _collect_values_and_floors(split_scores: Sequence[SplitScore]) -> tuple[list[Any], list[Any]]:
    return [each.value for each in split_scores], [each.floor for each in split_scores]


def _collect_resampling_settings(evaluator: MetricEvaluator, inputs: ExtractedInputs, size: int) -> dict[str, Any]:
    """Return what has to agree for two scores to be compared on shared resamples."""
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
    """Return which side leaves no splits of at least two rows a side."""
    if len(metric_inputs.generated) < MIN_SPLIT_SIZE:
        return "too few samples"
    return "too few independent real cubes to halve"


def _score_splits(evaluator: MetricEvaluator, all_splits: Sequence[Split]) -> list[SplitScore]:
    """Return value and floor of the pairs of splits whose halves have all that the metric needs.

    A complementary pair is left out whole, so that value and floor are means over the same splits and every real cube
    weighs the same; where fewer than a quarter (or two) are left there is no floor.
    """
    found: list[SplitScore] = []
    for start in range(0, len(all_splits), 2):
        try:
            found.extend([_score_split(evaluator, split) for split in all_splits[start : start + 2]])
        except NotComputable:
            continue
    return found if len(found) >= max(2, len(all_splits) / 4) else []


def _score_split(evaluator: MetricEvaluator, split: Split) -> SplitScore:
    rows = evaluator.inputs
    real = rows.real.select(split.real)
    value = evaluator.compute_parts(real, rows.generated.select(split.generated), rows.train)
    return SplitScore(split, value, evaluator.compute_parts(real, rows.real.select(split.holdout), rows.train))
