"""Plan of a qualify run: which metrics, with which extractors, which degradations, at which severities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.options import get_option_values, get_options_class
from hseval.core.plugin_manager import get_plugins
from hseval.pipeline.worker import ExtractorSpec
from hseval.qualification.report import MetricColumn
from hseval.scoring.metric_choice import build_metrics
from hseval.utils.errors import HsevalError, format_suggestion

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.core.protocols import Metric
    from hseval.degradations.base import Degradation

Settings = Mapping[str, Mapping[str, Any]]

# Pairs of cubes, for metrics of pairs: ten blocks of eight cubes, as many as the jackknife leaves out.
DEFAULT_PAIRS = 280
MODE_EXTRACTOR = "scattering"  # the extractor whose features separate modes, for degradations that pick cubes


@dataclasses.dataclass(frozen=True)
class Task:
    """One comparison: a degradation at one severity; without a degradation (None), the floors."""

    degradation: Degradation | None
    severity: float


def build_columns(
    names: Sequence[str] | None, *, extractors: Sequence[str] | None, settings: Settings
) -> list[MetricColumn]:
    """Return the requested metrics; those with an extractor option once for each of ``extractors``.

    Raises:
        HsevalError: an unknown metric, extractor or option (with the nearest name), or extractors that no metric uses.
    """
    columns: dict[str, MetricColumn] = {}
    for extractor in extractors if extractors is not None else [None]:
        for metric in build_metrics(names, extractor=extractor, settings=_fill_default_pairs(settings)):
            column = _build_column(metric, with_extractor=extractors is not None)
            columns[column.label] = column
    if extractors is not None and all(column.extractor is None for column in columns.values()):
        requested = ",".join(extractors)
        raise HsevalError(f"--extractors {requested}: none of the requested metrics uses a feature extractor")
    order = {metric: i for i, metric in enumerate(dict.fromkeys(column.metric for column in columns.values()))}
    return sorted(columns.values(), key=lambda column: order[column.metric])


def build_metric(column: MetricColumn) -> Metric:
    """Return the metric of a column."""
    metric: Metric = get_plugins().build("metric", column.metric, column.options)
    return metric


def select_extractors(
    columns: Sequence[MetricColumn], *, settings: Settings, device: str, needs_modes: bool
) -> dict[str, ExtractorSpec]:
    """Return the extractors that the columns need, each built once here, so that a bad option is reported early.

    Args:
        columns: the metrics.
        settings: plugin name -> option -> value.
        device: that extractors run on.
        needs_modes: whether a degradation picks cubes by their features.
    """
    names = {name for column in columns for name in build_metric(column).needs.features} | (
        {MODE_EXTRACTOR} if needs_modes else set()
    )
    extractors = {name: ExtractorSpec(name, settings.get(name, {}), device) for name in sorted(names)}
    for extractor in extractors.values():
        extractor.build()
    return extractors


def select_degradations(
    requested: Sequence[str | Degradation] | None, data: CubeSet
) -> tuple[list[Degradation], dict[str, str]]:
    """Return the degradations that are applicable to a set, and by name why the others are not.

    Args:
        requested: names, or custom degradations; None: all.
        data: the real cubes.

    Raises:
        HsevalError: an unknown name (with the nearest one), or none of them is applicable.
    """
    from hseval.degradations import find_degradation, list_degradations

    degradations = (
        list_degradations()
        if requested is None
        else [find_degradation(entry) if isinstance(entry, str) else entry for entry in requested]
    )
    if not degradations:
        names = (degradation.name for degradation in list_degradations())
        raise HsevalError(f"no degradation was requested{format_suggestion('', names)}")
    by_name = {degradation.name: degradation for degradation in degradations}
    not_applied = {
        name: reason
        for name, degradation in by_name.items()
        if (reason := degradation.explain_unmet_need(data)) is not None
    }
    applicable = [degradation for name, degradation in by_name.items() if name not in not_applied]
    if not applicable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in not_applied.items())
        raise HsevalError(f"{data.info.location}: no degradation can be applied ({reasons})")
    return applicable, not_applied


def build_tasks(degradations: Sequence[Degradation], *, sample_count: int) -> list[Task]:
    """Return all comparisons; the first one gives the floors.

    Args:
        degradations: to apply.
        sample_count: number of cubes that serve as samples, some of which near-copies of training cubes replace.
    """
    tasks = [Task(None, 0.0)]
    for degradation in degradations:
        severities: Sequence[float] = degradation.severities
        if degradation.kind == "copies":
            severities = round_copy_severities(severities, sample_count)
        tasks.extend(Task(degradation, float(severity)) for severity in severities)
    return tasks


def round_copy_severities(severities: Sequence[float], sample_count: int) -> list[float]:
    """Return severities in % that are whole numbers of samples, strictly increasing."""
    counts: list[int] = []
    for severity in severities:
        counts.append(max(round(severity / 100 * sample_count), counts[-1] + 1 if counts else 1))
    return [100 * count / sample_count for count in counts if count <= sample_count]


def _fill_default_pairs(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings with fewer pairs than a score uses, unless they set the number of pairs."""
    registry = get_plugins()
    filled = {name: dict(values) for name, values in settings.items()}
    for name in registry.get_names("metric"):
        if "pairs" in get_options_class(registry.find("metric", name)).__dataclass_fields__:
            filled.setdefault(name, {}).setdefault("pairs", DEFAULT_PAIRS)
    return filled


def _build_column(metric: Metric, *, with_extractor: bool) -> MetricColumn:
    options = get_option_values(metric)
    extractor = options.get("extractor")
    label = f"{metric.name} ({extractor})" if with_extractor and extractor is not None else metric.name
    return MetricColumn(label, metric.name, extractor, options, metric.better)
