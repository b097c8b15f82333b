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
    """Check a metric's class, or an instance with options, on small sets (or on the sets given).

    Checked: its name, summary, ``better``, ``needs`` (with a ``version`` where that asks for pairs) and options;
    ``compare`` takes keywords only, returns a finite float or ScoreParts whose details fit into JSON, the same one
    for the same rng, whatever the order of rows; it leaves the rows alone; and one cube a side gives a value or
    NotComputable.

    Raises:
        ContractError: what was found, and what the contract asks.
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
    rows = _ReadOnlyMetric(built, contract, *_extract_features(built, *sets))
    _check_value(contract, rows)
    _check_order(contract, rows)
    _check_single_cube(contract, rows)


class _ReadOnlyMetric:
    """A metric with rows that it can't write to."""

    def __init__(
        self, metric: Any, contract: Contract, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> None:
        self.metric, self.contract = metric, contract
        self.real, self.generated, self.train = (
            None if each is None else _make_read_only(each) for each in (real, generated, train)
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
                f"{self.contract.subject}: compare writes to the rows it is given; other metrics share them, so copy first"
            ) from error


def _explain_key_error(error: KeyError, features: FeatureTable | None) -> str:
    """Return what a KeyError of ``compare`` means: most often a column that was not asked for."""
    columns = ", ".join(sorted(name for name in features.columns if not name.startswith("core/"))) if features else ""
    return (
        f"compare raises KeyError ({error}); the rows have the columns {columns or 'none'}. Those of an extractor are "
        "there if needs = Needs(rows=('its-name', ...)) asks for it, and docs/plugins.md lists them"
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
        f"its needs is {needs!r}; it has to be an instance of hseval.Needs, such as Needs(rows=('spectra',))",
    )
    assert isinstance(needs, Needs)
    _check_needed_features(contract, needs.features)
    version = getattr(contract.factory, "version", None)
    contract.require(
        not needs.pairs or (isinstance(version, str) and version.strip()),
        f"its class attribute version is {version!r}; a metric that needs pairs has a text there, to be raised "
        "whenever describe_block gives other rows for the same cubes, because these rows are cached",
    )


def _check_needed_features(contract: Contract, features: Any) -> None:
    """Check that ``needs.features`` names extractors that are there."""
    contract.require(
        isinstance(features, tuple) and all(isinstance(name, str) for name in features),
        f"its needs.features is {features!r}; it has to be a tuple of names: with a single one, mind the comma, as in "
        "Needs(rows=('spectra',))",
    )
    for name in features:
        try:
            get_plugins().find("extractor", name)
        except HsevalError as error:
            raise ContractError(
                f"{contract.subject}: its needs.features: {error}; rows are what extractors give"
            ) from error


def _check_value(contract: Contract, metric: _ReadOnlyMetric) -> None:
    first, again = metric.compare(), metric.compare()
    contract.require(
        isinstance(first, (float, int, np.floating, ScoreParts)) and not isinstance(first, bool),
        f"compare returns {type(first).__name__}; expected a float or hseval.ScoreParts(value, details)",
    )
    value = _get_value(first)
    contract.require(
        math.isfinite(value), f"compare returns {value}; where there is no value, raise hseval.NotComputable(why)"
    )
    contract.require(
        value == _get_value(again),
        f"compare gives {value!r} and then {_get_value(again)!r} for the same rows and seed; draw from the rng it is "
        "given, never from numpy's or torch's global state",
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
        _make_read_only(each.select(rng.permutation(len(each)))) for each in (metric.real, metric.generated)
    )
    value, shuffled = _get_value(metric.compare()), _get_value(metric.compare(real, generated))
    contract.require(
        is_close(value, shuffled),
        f"compare gives {value!r}, and {shuffled!r} for the same rows in another order; the order of rows means "
        "nothing (where you draw, draw by rows.hashes)",
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
            f"{contract.subject}: one cube a side raises {format_error(error)}; raise hseval.NotComputable with the reason"
        ) from error
    contract.require(
        math.isfinite(value), f"one cube a side gives {value}; raise hseval.NotComputable with the reason instead"
    )


def _get_value(result: Any) -> float:
    return float(result.value if isinstance(result, ScoreParts) else result)


def _extract_features(
    metric: Any, real: CubeSet, generated: CubeSet, train: CubeSet
) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
    """Return the rows that the core would hand to ``compare``."""
    chosen = tuple(ExtractorSpec(name) for name in metric.needs.features)
    plan = ExtractionPlan(chosen, tuple(sorted({FOV, *real.structures, *generated.structures})), real.wavelengths)
    with FeatureCache(None) as cache:
        found = [extract_features(cubes, plan, cache=cache) for cubes in (real, generated, train)]
        rows = [each.features for each in found]
        if metric.needs.pairs:
            rows[1] = _extract_pair_features(metric, generated, found[1], reference=rows[0], plan=plan)
            rows[0] = _extract_pair_features(metric, real, found[0], reference=rows[0], plan=plan)
    return _apply_relate(metric, (real, generated, train), rows[0], rows[1], rows[2] if metric.needs.train else None)


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
    more = {"cubes": InputSets(samples=sets[1], reference=sets[0], train=sets[2])} if metric.needs.cubes else {}
    related: tuple[FeatureTable, FeatureTable, FeatureTable | None] = metric.relate(
        real=real, generated=generated, train=train, **more
    )
    return related


def _make_read_only(features: FeatureTable) -> FeatureTable:
    columns = {name: column.copy() for name, column in features.columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    return features.add_columns(columns)
