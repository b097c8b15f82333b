"""The contract of metrics."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from hseval.core.cubes import FIELD, CubeSet
from hseval.core.feature_table import Rows
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.plugin_manager import plugins
from hseval.core.report import plain
from hseval.pipeline.extract import Description, describe
from hseval.pipeline.pairs import describe_pairs
from hseval.pipeline.worker import Chosen, Plan
from hseval.testing.contract import Contract, ContractError, close
from hseval.testing.examples import example_set
from hseval.utils.errors import HsevalError, NotComputable, first_line
from hseval.utils.feature_cache import Cache
from hseval.utils.random_streams import stream


def check_metric(
    metric: Any, *, real: CubeSet | None = None, fake: CubeSet | None = None, train: CubeSet | None = None
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
    _check_declared(contract)
    built = contract.built(metric)
    compare = contract.method(built, "compare", "compare(self, *, real, fake, train=None, rng)")
    contract.check_keyword_only(compare, ("real", "fake", "train", "rng"))
    _check_needs(contract, built)
    sets = (real or example_set(12, seed=1), fake or example_set(12, seed=2), train or example_set(12, seed=3))
    rows = _Frozen(built, contract, *_described(built, *sets))
    _check_value(contract, rows)
    _check_order(contract, rows)
    _check_few(contract, rows)


class _Frozen:
    """A metric with rows that it can't write to."""

    def __init__(self, metric: Any, contract: Contract, real: Rows, fake: Rows, train: Rows | None) -> None:
        self.metric, self.contract = metric, contract
        self.real, self.fake, self.train = (None if each is None else _frozen(each) for each in (real, fake, train))

    def compare(self, real: Rows | None = None, fake: Rows | None = None) -> Any:
        rng = stream(0, "check")
        real, fake = real or self.real, fake or self.fake
        try:
            return self.metric.compare(real=real, fake=fake, train=self.train, rng=rng)
        except KeyError as error:
            raise ContractError(f"{self.contract.who}: {_told_column(error, real)}") from error
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise ContractError(
                f"{self.contract.who}: compare writes to the rows it is given; other metrics share them, so copy first"
            ) from error


def _told_column(error: KeyError, rows: Rows | None) -> str:
    """Return what a KeyError of ``compare`` means: most often a column that was not asked for."""
    columns = ", ".join(sorted(name for name in rows.columns if not name.startswith("core/"))) if rows else ""
    return (
        f"compare raises KeyError ({error}); the rows have the columns {columns or 'none'}. Those of an extractor are "
        "there if needs = Needs(rows=('its-name', ...)) asks for it, and docs/plugins.md lists them"
    )


def _check_declared(contract: Contract) -> None:
    contract.check_named()
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
    _check_rows(contract, needs.rows)
    version = getattr(contract.factory, "version", None)
    contract.require(
        not needs.pairs or (isinstance(version, str) and version.strip()),
        f"its class attribute version is {version!r}; a metric that needs pairs has a text there, to be raised "
        "whenever describe_block gives other rows for the same cubes, because these rows are cached",
    )


def _check_rows(contract: Contract, rows: Any) -> None:
    """Check that ``needs.rows`` names extractors that are there."""
    contract.require(
        isinstance(rows, tuple) and all(isinstance(name, str) for name in rows),
        f"its needs.rows is {rows!r}; it has to be a tuple of names: with a single one, mind the comma, as in "
        "Needs(rows=('spectra',))",
    )
    for name in rows:
        try:
            plugins().find("extractor", name)
        except HsevalError as error:
            raise ContractError(f"{contract.who}: its needs.rows: {error}; rows are what extractors give") from error


def _check_value(contract: Contract, rows: _Frozen) -> None:
    first, again = rows.compare(), rows.compare()
    contract.require(
        isinstance(first, (float, int, np.floating, ScoreParts)) and not isinstance(first, bool),
        f"compare returns {type(first).__name__}; expected a float or hseval.ScoreParts(value, details)",
    )
    value = _value(first)
    contract.require(
        math.isfinite(value), f"compare returns {value}; where there is no value, raise hseval.NotComputable(why)"
    )
    contract.require(
        value == _value(again),
        f"compare gives {value!r} and then {_value(again)!r} for the same rows and seed; draw from the rng it is "
        "given, never from numpy's or torch's global state",
    )
    if isinstance(first, ScoreParts):
        try:
            json.dumps(plain(first.details))
        except (TypeError, ValueError) as error:
            raise ContractError(f"{contract.who}: its details do not fit into JSON ({error})") from error


def _check_order(contract: Contract, rows: _Frozen) -> None:
    assert rows.real is not None
    assert rows.fake is not None
    rng = stream(1, "check order")
    real, fake = (_frozen(each.take(rng.permutation(len(each)))) for each in (rows.real, rows.fake))
    value, shuffled = _value(rows.compare()), _value(rows.compare(real, fake))
    contract.require(
        close(value, shuffled),
        f"compare gives {value!r}, and {shuffled!r} for the same rows in another order; the order of rows means "
        "nothing (where you draw, draw by rows.hashes)",
    )


def _check_few(contract: Contract, rows: _Frozen) -> None:
    assert rows.real is not None
    assert rows.fake is not None
    first = np.array([0])
    try:
        value = _value(rows.compare(_frozen(rows.real.take(first)), _frozen(rows.fake.take(first))))
    except NotComputable:
        return
    except Exception as error:
        raise ContractError(
            f"{contract.who}: one cube a side raises {first_line(error)}; raise hseval.NotComputable with the reason"
        ) from error
    contract.require(
        math.isfinite(value), f"one cube a side gives {value}; raise hseval.NotComputable with the reason instead"
    )


def _value(parts: Any) -> float:
    return float(parts.value if isinstance(parts, ScoreParts) else parts)


def _described(metric: Any, real: CubeSet, fake: CubeSet, train: CubeSet) -> tuple[Rows, Rows, Rows | None]:
    """Return the rows that the core would hand to ``compare``."""
    chosen = tuple(Chosen(name) for name in metric.needs.rows)
    plan = Plan(chosen, tuple(sorted({FIELD, *real.structures, *fake.structures})), real.wavelengths)
    with Cache(None) as cache:
        found = [describe(cubes, plan, cache=cache) for cubes in (real, fake, train)]
        rows = [each.rows for each in found]
        if metric.needs.pairs:
            rows[1] = _paired(metric, fake, found[1], reference=rows[0], plan=plan)
            rows[0] = _paired(metric, real, found[0], reference=rows[0], plan=plan)
    return _related(metric, (real, fake, train), rows[0], rows[1], rows[2] if metric.needs.train else None)


def _paired(metric: Any, cubes: CubeSet, found: Description, *, reference: Rows, plan: Plan) -> Rows:
    with Cache(None) as cache:
        rng = stream(0, "check pairs")
        return describe_pairs(metric, cubes, found, plan=plan, reference=reference, rng=rng, cache=cache)


def _related(
    metric: Any, sets: tuple[CubeSet, CubeSet, CubeSet], real: Rows, fake: Rows, train: Rows | None
) -> tuple[Rows, Rows, Rows | None]:
    from hseval.pipeline.inputs import Sets

    if not hasattr(metric, "relate"):
        return real, fake, train
    more = {"cubes": Sets(samples=sets[1], reference=sets[0], train=sets[2])} if metric.needs.cubes else {}
    related: tuple[Rows, Rows, Rows | None] = metric.relate(real=real, fake=fake, train=train, **more)
    return related


def _frozen(rows: Rows) -> Rows:
    columns = {name: column.copy() for name, column in rows.columns.items()}
    for column in columns.values():
        column.flags.writeable = False
    return rows.adding(columns)
