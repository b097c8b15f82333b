"""The features that a metric compares: those it needs, and those that its ``relate`` adds from the full sets."""

from __future__ import annotations

from hseval.core.evaluation import MetricEvaluator, MetricInputs, relate_inputs
from hseval.core.feature_table import FeatureTable
from hseval.core.protocols import Metric
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.pairs import extract_pair_features
from hseval.utils.random_streams import create_rng


def build_evaluator(metric: Metric, inputs: ExtractedInputs, context: RunContext) -> MetricEvaluator:
    """Return the metric with its inputs."""
    names = metric.needs.features
    train = inputs.train.features.select_extractors(names) if inputs.train is not None and metric.needs.train else None
    if metric.needs.pairs:
        real, generated = (_extract_pairs(metric, inputs, role, context) for role in ("reference", "samples"))
    else:
        real, generated = (side.features.select_extractors(names) for side in (inputs.reference, inputs.samples))
    raw_inputs = MetricInputs(real, generated, train)
    return MetricEvaluator(metric, context.seed, raw_inputs, relate_inputs(metric, raw_inputs, inputs.sets))


def _extract_pairs(metric: Metric, inputs: ExtractedInputs, role: str, context: RunContext) -> FeatureTable:
    return extract_pair_features(
        metric,
        inputs.sets[role],
        inputs.extracted[role],
        plan=inputs.plans[role],
        reference=inputs.reference.features,
        rng=create_rng(context.seed, f"{metric.name} pairs"),
        cache=context.cache,
        workers=context.workers,
        ranks=context.ranks,
        progress=context.make_progress_callback(f"{metric.name} of {role}"),
    )
