"""The contract of metrics."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from hseval.core.cubes import FOV, CubeSet
from hseval.core.feature_table import FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.plugin_manager import get_plugins
from hseval.core.report import to_jsonable
from hseval.pipeline.extract import ExtractedSet, extract_features
from hseval.pipeline.pairs import extract_pair_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.testing.contract import Contract, ContractError, is_close
from hseval.testing.examples import make_example_set
from hseval.utils.errors import HsevalError, NotComputable, format_error
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng


def check_metric(
    metric: Any, *, real: CubeSet | None = None, generated: CubeSet | None = None, train: CubeSet | None = None
) -> None:
    """Check a metric's class, or an instance with options, on small sets (or on the given sets).

    Checked: its name, summary, ``better``, ``needs`` (with a ``version`` where that asks for pairs) and options;
    ``compare`` takes keywords only and returns a finite float or ScoreParts whose details fit into JSON, the same one
    for the same rng and for any order of the features; it does not change the features; and one cube per side gives a
    value or NotComputable.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("metric", metric)
    _check_declarations(contract)
    built = contract.build(metric)
    compare = contract.get_method(built, "compare", "compare(self, *, real, generated, train=None, rng)")
    contract.check_keyword_only(compare, ("real", "generated", "train", "rng"))
    _check_needs(contract, built)
    sets = (
        real or make_example_set(12, seed=1),
        generated or make_example_set(12, seed=2),
        train or make_example_set(12, seed=3),
    )
    read_only = _ReadOnlyMetric(built, contract, *_extract_features(built, *sets))
    _check_value(contract, read_only)
    _check_order(contract, read_only)
    _check_single_cube(contract, read_only)


class _ReadOnlyMetric:
    """A metric with features that it can't write to."""

    def __init__(
        self, metric: Any, contract: Contract, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> None:
        self.metric, self.contract = metric, contract
        self.real, self.generated, self.train = (
            None if features is None else _make_read_only(features) for features in (real, generated, train)
        )

    def compare(self, real: FeatureTable | None = None, generated: FeatureTable | None = None) -> Any:
        rng = create_rng(0, "check")
        real, generated = real or self.real, generated or self.generated
        try:
            return self.metric.compare(real=real, generated=generated, train=self.train, rng=rng)
        except KeyError as error:
            raise ContractError(f"{self.contract.subject}: {_explain_key_error(error, real)}") from error
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ContractError(
                f"{self.contract.subject}: compare writes to its features; other metrics share them, so copy first"
            ) from error


def _explain_key_error(error: KeyError, features: FeatureTable | None) -> str:
    """Explain a KeyError of ``compare``: most often a column that was not requested."""
    columns = ", ".join(sorted(name for name in features.columns if not name.startswith("core/"))) if features else ""
    return (
        f"compare raises KeyError ({error}); the features have the columns {columns or 'none'}. Those of an extractor "
        "are there if needs = Needs(features=('its-name', ...)) requests it; docs/plugins.md lists them"
    )


def _check_declarations(contract: Contract) -> None:
    contract.check_attributes()
    contract.check_options()
    better = getattr(contract.factory, "better", None)
    contract.require(
        better in ("lower", "higher", "floor"),
        f"its class attribute better is {better!r}; expected 'lower', 'higher' or 'floor' (best is nearest the floor)",
    )


def _check_needs(contract: Contract, metric: Any) -> None:
    needs = getattr(metric, "needs", None)
    contract.require(
        isinstance(needs, Needs),
        f"its needs is {needs!r}; it has to be an instance of hseval.Needs, such as Needs(features=('spectra',))",
    )
    assert isinstance(needs, Needs)
    _check_needed_features(contract, needs.features)
    version = getattr(contract.factory, "version", None)
    contract.require(
        not needs.pairs or (isinstance(version, str) and version.strip()),
        f"its class attribute version is {version!r}; a metric that needs pairs has a str there, to be "
        "changed whenever describe_block returns other features for the same cubes, because they are cached",
    )


def _check_needed_features(contract: Contract, features: Any) -> None:
    """Check that ``needs.features`` names known extractors."""
    contract.require(
        isinstance(features, tuple) and all(isinstance(name, str) for name in features),
        f"its needs.features is {features!r}; it has to be a tuple of names; a single name needs a comma, as in "
        "Needs(features=('spectra',))",
    )
    for name in features:
        try:
            get_plugins().find("extractor", name)
        except HsevalError as error:
            raise ContractError(f"{contract.subject}: its needs.features: {error}") from error


def _check_value(contract: Contract, metric: _ReadOnlyMetric) -> None:
    first, again = metric.compare(), metric.compare()
    contract.require(
        isinstance(first, (float, int, np.floating, ScoreParts)) and not isinstance(first, bool),
        f"compare returns {type(first).__name__}; expected a float or hseval.ScoreParts(value, details)",
    )
    value = _get_value(first)
    contract.require(
        math.isfinite(value), f"compare returns {value}; if there is no value, raise hseval.NotComputable(reason)"
    )
    contract.require(
        value == _get_value(again),
        f"compare returns {value!r} and then {_get_value(again)!r} for the same features and seed; draw from its rng "
        "argument, never from numpy's or torch's global state",
    )
    if isinstance(first, ScoreParts):
        try:
            json.dumps(to_jsonable(first.details))
        except (TypeError, ValueError) as error:
            raise ContractError(f"{contract.subject}: its details do not fit into JSON ({error})") from error


def _check_order(contract: Contract, metric: _ReadOnlyMetric) -> None:
    assert metric.real is not None
    assert metric.generated is not None
    rng = create_rng(1, "check order")
    real, generated = (
        _make_read_only(features.select(rng.permutation(len(features)))) for features in (metric.real, metric.generated)
    )
    value, shuffled = _get_value(metric.compare()), _get_value(metric.compare(real, generated))
    contract.require(
        is_close(value, shuffled),
        f"compare returns {value!r}, and {shuffled!r} for the same features in another order; the order must not "
        "matter (draw by features.hashes)",
    )


def _check_single_cube(contract: Contract, metric: _ReadOnlyMetric) -> None:
    assert metric.real is not None
    assert metric.generated is not None
    first = np.array([0])
    try:
        value = _get_value(
            metric.compare(_make_read_only(metric.real.select(first)), _make_read_only(metric.generated.select(first)))
        )
    except NotComputable:
        return
    except Exception as error:
        raise ContractError(
            f"{contract.subject}: one cube per side raises {format_error(error)}; raise hseval.NotComputable(reason)"
        ) from error
    contract.require(
        math.isfinite(value), f"one cube per side gives {value}; raise hseval.NotComputable(reason) instead"
    )


def _get_value(result: Any) -> float:
    return float(result.value if isinstance(result, ScoreParts) else result)


def _extract_features(
    metric: Any, real: CubeSet, generated: CubeSet, train: CubeSet
) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
    """Return the features that the core would pass to ``compare``."""
    extractors = tuple(ExtractorSpec(name) for name in metric.needs.features)
    plan = ExtractionPlan(extractors, tuple(sorted({FOV, *real.structures, *generated.structures})), real.wavelengths)
    with FeatureCache(None) as cache:
        extracted = [extract_features(cubes, plan, cache=cache) for cubes in (real, generated, train)]
        features = [result.features for result in extracted]
        if metric.needs.pairs:
            features[1] = _extract_pair_features(metric, generated, extracted[1], reference=features[0], plan=plan)
            features[0] = _extract_pair_features(metric, real, extracted[0], reference=features[0], plan=plan)
    train_features = features[2] if metric.needs.train else None
    return _apply_relate(metric, (real, generated, train), features[0], features[1], train_features)


def _extract_pair_features(
    metric: Any, cubes: CubeSet, extraction: ExtractedSet, *, reference: FeatureTable, plan: ExtractionPlan
) -> FeatureTable:
    with FeatureCache(None) as cache:
        rng = create_rng(0, "check pairs")
        return extract_pair_features(metric, cubes, extraction, plan=plan, reference=reference, rng=rng, cache=cache)


def _apply_relate(
    metric: Any,
    sets: tuple[CubeSet, CubeSet, CubeSet],
    real: FeatureTable,
    generated: FeatureTable,
    train: FeatureTable | None,
) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
    from hseval.pipeline.inputs import InputSets

    if not hasattr(metric, "relate"):
        return real, generated, train
    extra = {"cubes": InputSets(samples=sets[1], reference=sets[0], train=sets[2])} if metric.needs.cubes else {}
    related: tuple[FeatureTable, FeatureTable, FeatureTable | None] = metric.relate(
        real=real, generated=generated, train=train, **extra
    )
    return related


def _make_read_only(features: FeatureTable) -> FeatureTable:
    columns = {name: column.copy() for name, column in features.columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    return features.add_columns(columns)
