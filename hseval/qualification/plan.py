"""What is to be done: which metrics, by which extractors, which degradations, at which severities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hseval.core.options import get_options_class, options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.pipeline.worker import ExtractorSpec
from hseval.qualification.report import MetricColumn
from hseval.scoring.score import build_metrics
from hseval.utils.errors import HsevalError, format_suggestion

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet
    from hseval.core.hookspecs import Metric
    from hseval.degradations.base import Degradation

Settings = Mapping[str, Mapping[str, Any]]

DEFAULT_PAIRS = (
    280  # of cubes, for metrics that compare pairs: ten blocks of eight cubes, one for each that is left out
)
MODE_EXTRACTOR = "scattering"  # the extractor whose rows tell modes apart, for degradations that pick cubes


@dataclasses.dataclass(frozen=True)
class Task:
    """One comparison: a degradation (None: nothing is done, which gives the floors) at one severity."""

    degradation: Degradation | None
    severity: float


def build_columns(
    names: Sequence[str] | None, *, extractors: Sequence[str] | None, settings: Settings
) -> list[MetricColumn]:
    """Return the metrics asked for, those that have a choice of extractor once for each of ``extractors``.

    Raises:
        HsevalError: an unknown metric, extractor or option (with the nearest name), or extractors that nothing uses.
    """
    found: dict[str, MetricColumn] = {}
    for extractor in extractors if extractors is not None else [None]:
        for metric in build_metrics(names, extractor=extractor, settings=_fill_default_pairs(settings)):
            column = _build_column(metric, with_extractor=extractors is not None)
            found[column.label] = column
    if extractors is not None and all(column.extractor is None for column in found.values()):
        asked = ",".join(extractors)
        raise HsevalError(f"--extractors {asked}: none of the metrics asked for uses a feature extractor")
    order = {label: place for place, label in enumerate(dict.fromkeys(column.metric for column in found.values()))}
    return sorted(found.values(), key=lambda column: order[column.metric])


def build_metric(column: MetricColumn) -> Metric:
    """Return the metric of a column."""
    built: Metric = get_plugins().build("metric", column.metric, column.options)
    return built


def select_extractors(
    columns: Sequence[MetricColumn], *, settings: Settings, device: str, needs_modes: bool
) -> dict[str, ExtractorSpec]:
    """Return the extractors that some column needs, each built once here, so that a bad option shows now.

    Args:
        columns: the metrics.
        settings: plugin name -> option -> value.
        device: where they compute.
        needs_modes: a degradation picks cubes by their features.
    """
    names = {name for column in columns for name in build_metric(column).needs.features} | (
        {MODE_EXTRACTOR} if needs_modes else set()
    )
    chosen = {name: ExtractorSpec(name, settings.get(name, {}), device) for name in sorted(names)}
    for each in chosen.values():
        each.build()
    return chosen


def select_degradations(
    requested: Sequence[str | Degradation] | None, data: CubeSet
) -> tuple[list[Degradation], dict[str, str]]:
    """Return the degradations that fit a set, and why the others do not.

    Args:
        requested: names, or degradations of one's own; None: all.
        data: the real cubes.

    Raises:
        HsevalError: an unknown name (with the nearest one), or none of them fits.
    """
    from hseval.degradations import find_degradation, list_degradations

    wanted = (
        list_degradations()
        if requested is None
        else [find_degradation(each) if isinstance(each, str) else each for each in requested]
    )
    if not wanted:
        raise HsevalError(
            f"no degradation was asked for{format_suggestion('', (each.name for each in list_degradations()))}"
        )
    by_name = {each.name: each for each in wanted}
    unfit = {name: why for name, each in by_name.items() if (why := each.explain_unmet_need(data)) is not None}
    fit = [each for name, each in by_name.items() if name not in unfit]
    if not fit:
        told = "; ".join(f"{name}: {why}" for name, why in unfit.items())
        raise HsevalError(f"{data.info.location}: no degradation can be applied ({told})")
    return fit, unfit


def build_tasks(degradations: Sequence[Degradation], *, sample_count: int) -> list[Task]:
    """Return all comparisons; the first one gives the floors.

    Args:
        degradations: what is done.
        sample_count: how many cubes stand for samples where near-copies of training cubes replace some of them.
    """
    tasks = [Task(None, 0.0)]
    for each in degradations:
        severities = round_copy_severities(each.severities, sample_count) if each.kind == "copies" else each.severities
        tasks.extend(Task(each, float(severity)) for severity in severities)
    return tasks


def round_copy_severities(severities: Sequence[float], sample_count: int) -> list[float]:
    """Return severities in % that are whole numbers of samples, each at least one more than the one before."""
    counts: list[int] = []
    for severity in severities:
        counts.append(max(round(severity / 100 * sample_count), counts[-1] + 1 if counts else 1))
    return [100 * count / sample_count for count in counts if count <= sample_count]


def _fill_default_pairs(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the settings with fewer pairs than a score takes, where nothing else is said."""
    registry = get_plugins()
    filled = {name: dict(values) for name, values in settings.items()}
    for name in registry.get_names("metric"):
        if "pairs" in get_options_class(registry.find("metric", name)).__dataclass_fields__:  # type: ignore[attr-defined]
            filled.setdefault(name, {}).setdefault("pairs", DEFAULT_PAIRS)
    return filled


def _build_column(metric: Metric, *, with_extractor: bool) -> MetricColumn:
    options = options_to_dict(getattr(metric, "options", None))
    extractor = options.get("extractor")
    label = f"{metric.name} ({extractor})" if with_extractor and extractor is not None else metric.name
    return MetricColumn(label, metric.name, extractor, options, metric.better)
