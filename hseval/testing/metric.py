"""The contract of metrics."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from hseval.core.capabilities import UNBOUNDED, SupportsHeadline, get_bounds
from hseval.core.cubes import FOV, CubeSet
from hseval.core.evaluation import MetricInputs, relate_inputs
from hseval.core.feature_table import FeatureTable
from hseval.core.plugin_manager import get_plugins
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import to_jsonable
from hseval.core.report_file import ShownDetails
from hseval.pipeline.extract import extract_features
from hseval.pipeline.inputs import InputSets
from hseval.pipeline.pairs import extract_pair_features
from hseval.pipeline.worker import ExtractionPlan, ExtractorSpec
from hseval.testing.contract import CheckRecord, Contract, is_close
from hseval.testing.examples import make_example_set
from hseval.utils.errors import HsevalError, NotComputable
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng
from hseval.utils.structured_files import convert_record


def check_metric(
    metric: Any, *, real: CubeSet | None = None, generated: CubeSet | None = None, train: CubeSet | None = None
) -> CheckRecord:
    """Check a metric's class, or an instance with options, on small sets (or on the given sets).

    Checked: its name, summary, ``better``, ``needs`` (with a ``version`` where that asks for pairs) and options;
    ``compare`` takes keywords only and returns a finite float or ScoreParts whose details fit into JSON, the same one
    for the same rng and for any order of the features; it does not change the features; one cube per side gives a
    value or NotComputable; and where it has ``bounds`` and ``headline``, the value lies in the first, and the second
    returns it.

    Raises:
        ContractError: what was found, and what the contract requires.
    """
    contract = Contract("metric", metric)
    contract.check_attributes()
    contract.check_options()
    better = contract.get_member("better")
    contract.require(
        better in ("lower", "higher", "floor"),
        f"its class attribute better is {better!r}; expected 'lower', 'higher' or 'floor' (best is nearest the floor)",
    )
    built = contract.build()
    compare = contract.get_method(built, "compare", "compare(self, *, real, generated, train=None, rng)")
    contract.check_keyword_only(compare, ("real", "generated", "train", "rng"))
    _check_needs(contract, built)
    given = enumerate((real, generated, train), start=1)
    sets = [cubes or make_example_set(12, seed=seed) for seed, cubes in given]
    read_only = _ReadOnlyMetric(built, contract, *_extract_features(built, *sets))
    _check_value(contract, read_only)
    _check_order(contract, read_only)
    _check_single_cube(contract, read_only)
    return contract.get_record()


class _ReadOnlyMetric:
    """A metric with features that it can't write to."""

    def __init__(
        self, metric: Any, contract: Contract, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> None:
        self.metric, self.contract = metric, contract
        self.real, self.generated = _make_read_only(real), _make_read_only(generated)
        self.train = None if train is None else _make_read_only(train)

    def compare(self, real: FeatureTable | None = None, generated: FeatureTable | None = None) -> Any:
        rng = create_rng(0, "check")
        real, generated = real or self.real, generated or self.generated
        columns = ", ".join(sorted(name for name in real.columns if not name.startswith("core/")))
        message = (
            f"compare raises {{error}}; the features have the columns {columns or 'none'}. Those of an extractor "
            "are there if needs = Needs(features=('its-name', ...)) requests it; docs/plugins.md lists them"
        )
        try:
            with self.contract.explain_errors(message, KeyError):
                return self.metric.compare(real=real, generated=generated, train=self.train, rng=rng)
        except ValueError as error:
            self.contract.require(
                "read-only" not in str(error), "compare writes to its features; other metrics share them, so copy first"
            )
            raise


def _check_needs(contract: Contract, metric: Any) -> None:
    needs = getattr(metric, "needs", None)
    contract.require(
        isinstance(needs, Needs),
        f"its needs is {needs!r}; it has to be an instance of hseval.Needs, such as Needs(features=('spectra',))",
    )
    _check_needed_features(contract, metric.needs.features)
    version = contract.get_member("version")
    contract.require(
        not metric.needs.pairs or (isinstance(version, str) and version.strip()),
        f"its class attribute version is {version!r}; a metric that needs pairs has a str there, to be "
        "changed whenever describe_block returns other features for the same cubes, because they are cached",
    )


def _check_needed_features(contract: Contract, features: Any) -> None:
    contract.require(
        isinstance(features, tuple) and all(isinstance(name, str) for name in features),
        f"its needs.features is {features!r}; it has to be a tuple of names; a single name needs a comma, as in "
        "Needs(features=('spectra',))",
    )
    for name in features:
        with contract.explain_errors("its needs.features: {error}", HsevalError):
            get_plugins().find("extractor", name)


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
        with contract.explain_errors("its details do not fit into JSON ({error})", TypeError, ValueError, HsevalError):
            convert_record(json.loads(json.dumps(to_jsonable(first.details))), ShownDetails, "details")
    else:
        contract.skip("details in JSON", "compare returns a float")
    if (bounds := get_bounds(metric.metric)) == UNBOUNDED:
        contract.skip("bounds", "it has none")
    else:
        is_possible = bounds[0] <= value <= bounds[1]
        contract.require(is_possible, f"compare returns {value}, outside of bounds = {bounds}, where intervals are cut")
    _check_headline(contract, metric, first.signed_value if isinstance(first, ScoreParts) else value)


def _check_headline(contract: Contract, metric: _ReadOnlyMetric, value: float) -> None:
    if isinstance(metric.metric, SupportsHeadline):
        headline = metric.metric.headline(real=metric.real, generated=metric.generated, train=metric.train)
        contract.require(
            is_close(headline, value),
            f"headline returns {headline!r}, and compare {value!r}; both have to be the value (signed, where it is the "
            "absolute value of a difference), as intervals come from headline",
        )
    else:
        contract.skip("headline", "it has none")


def _check_order(contract: Contract, metric: _ReadOnlyMetric) -> None:
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
    first = np.array([0])
    tables = [_make_read_only(features.select(first)) for features in (metric.real, metric.generated)]
    with contract.explain_errors("one cube per side raises {error}; raise hseval.NotComputable(reason)"):
        try:
            value = _get_value(metric.compare(*tables))
        except NotComputable:
            return
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
        tables = [result.features for result in extracted]
        if metric.needs.pairs:
            settings: dict[str, Any] = {"plan": plan, "reference": tables[0], "cache": cache}
            for i, cubes in enumerate((real, generated)):
                rng = create_rng(0, "check pairs")
                tables[i] = extract_pair_features(metric, cubes, extracted[i], rng=rng, **settings)
    raw_inputs = MetricInputs(tables[0], tables[1], tables[2] if metric.needs.train else None)
    related = relate_inputs(metric, raw_inputs, InputSets(samples=generated, reference=real, train=train))
    return related.real, related.generated, related.train


def _make_read_only(features: FeatureTable) -> FeatureTable:
    columns = {name: column.copy() for name, column in features.columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    return features.add_columns(columns)
