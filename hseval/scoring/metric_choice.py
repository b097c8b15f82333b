"""The metrics of a score and their extractors: built with their options, and checked before any cube is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from hseval.core.capabilities import get_bounds
from hseval.core.options import build_options, get_options_class
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import Direction
from hseval.data.views import resolve_nested_options
from hseval.pipeline.worker import ExtractorSpec
from hseval.utils.errors import HsevalError, format_error, format_suggestion

if TYPE_CHECKING:
    from hseval.core.protocols import Metric

DEFAULT_METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
ALL_METRICS = "all"  # in place of a metric's name: every one
QUICK_PAIRS = 112

Settings = Mapping[str, Mapping[str, Any]]


def build_metrics(
    names: Sequence[str] | None, *, extractor: str | None, settings: dict[str, dict[str, Any]], quick: bool = False
) -> list[Metric]:
    """Return the metrics of :func:`choose_metrics` without the notes."""
    return choose_metrics(names, extractor=extractor, settings=settings, quick=quick)[0]


def choose_metrics(
    names: Sequence[str] | None, *, extractor: str | None, settings: dict[str, dict[str, Any]], quick: bool = False
) -> tuple[list[Metric], list[str]]:
    """Return the requested metrics, built with their options, and notes on those of ``all`` that can't be used.

    Raises:
        HsevalError: an unknown metric, extractor or option, with the nearest name; or a metric that was requested by
            its name can't be used.
    """
    registry = get_plugins()
    requested = names if names is not None else DEFAULT_METRICS
    aliases = {ALL_METRICS: registry.get_names("metric")}
    expanded = [name for name_or_alias in requested for name in aliases.get(name_or_alias, (name_or_alias,))]
    unique_names = list(dict.fromkeys(expanded))
    if not unique_names:
        raise HsevalError(f"no metric was requested{format_suggestion('', registry.get_names('metric'))}")
    if extractor is not None:
        registry.find("extractor", extractor)
    _check_settings(settings)
    built, notes = [], []
    for name in unique_names:
        fields = get_options_class(registry.find("metric", name)).__dataclass_fields__
        metric_options = dict(settings.get(name, {}))
        if extractor is not None and "extractor" in fields:
            metric_options.setdefault("extractor", extractor)
        if quick and "pairs" in fields:
            metric_options.setdefault("pairs", QUICK_PAIRS)
        try:
            metric = registry.build("metric", name, metric_options)
            _check_metric(metric)
        except HsevalError as error:
            if name in requested:
                raise
            notes.append(f"left out: {error}")
        else:
            built.append(metric)
    if not built:
        raise HsevalError(notes[0])
    return built, notes


def build_extractors(
    metrics: Sequence[Metric], settings: Settings, device: str, extractor: str | None
) -> dict[str, ExtractorSpec]:
    """Return the extractors that some metric needs; builds each once, so that a wrong option is reported early.

    Raises:
        HsevalError: a wrong option, or no metric uses the requested ``extractor``.
    """
    names = sorted({name for metric in metrics for name in metric.needs.features})
    specs = {
        name: ExtractorSpec(name, resolve_nested_options(name, settings, extractor=extractor), device) for name in names
    }
    for spec in specs.values():
        spec.build()
    if extractor not in {None, *specs, *(spec.options.get("extractor") for spec in specs.values())}:
        raise HsevalError(f"--extractor {extractor}: none of the requested metrics uses a feature extractor")
    return specs


def list_train_extractors(metrics: Sequence[Metric]) -> list[str]:
    """Return the names of the extractors that some metric needs of the training set."""
    return [name for metric in metrics if metric.needs.train for name in metric.needs.features]


def _check_metric(metric: Metric) -> None:
    """Raise HsevalError where a third party's metric lacks what a report needs of it."""
    subject = f"metric {metric.name!r} ({get_plugins().get_origin('metric', metric.name)})"
    try:
        _ = metric.needs.features
        low, high = get_bounds(metric)
    except HsevalError:
        raise
    except Exception as error:  # a property may raise anything
        raise HsevalError(f"{subject}: its needs or bounds can't be read: {format_error(error)}") from error
    if metric.better not in get_args(Direction):
        raise HsevalError(f"{subject}: better is {metric.better!r}, expected one of {', '.join(get_args(Direction))}")
    if not low < high:
        raise HsevalError(f"{subject}: bounds are {low} and {high}, expected the smaller value first")


def _check_settings(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise HsevalError for an option of an unknown plugin or with a wrong value, even if its plugin is not used."""
    registry = get_plugins()
    kinds = {name: kind for kind in ("segmenter", "extractor", "metric") for name in registry.get_names(kind)}
    for name, values in settings.items():
        if name not in kinds:
            suggestion = format_suggestion(name, kinds)
            raise HsevalError(f"--set {name}: no metric, extractor or segmenter has that name{suggestion}")
        build_options(registry.find(kinds[name], name), values, owner=f"{kinds[name]} {name!r}")
