"""A score's 95 % interval, that of its excess over the floor, and what two generators must differ by to be told apart.

The estimand is the score's expected value at (m, m) over draws of both sets, the training set fixed; its bias at that
size is part of it, so that only the variance has to be estimated. See ``docs/intervals.md`` for the measured coverage.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.pipeline.metric_inputs import Comparable
from hseval.stats import folded_normal as folded
from hseval.stats import posterior_draws as drawn
from hseval.stats.resampling import Evaluated, Replicates, replicates
from hseval.stats.variance import FEWEST_APART, LEAST, LEVEL, freedom, quantile, smallest_difference
from hseval.utils.errors import HsevalError, NotComputable, first_line
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 4  # groups a side: of fewer the variance is hardly known


@dataclasses.dataclass(frozen=True)
class Found:
    """The interval of the value, None with a reason in the details; and the details."""

    interval: tuple[float, float] | None
    details: dict[str, Any]


def interval(comparable: Comparable, evaluated: Sequence[Evaluated]) -> Found:
    """Return a score's interval and what goes with it.

    Args:
        comparable: the metric with its rows.
        evaluated: its splits, in complementary pairs, with what each scored.
    """
    excess = float(np.mean([each.value.value - each.floor.value for each in evaluated]))
    if why := _lacking(comparable, evaluated):
        return _none(excess, why)
    try:
        if hasattr(comparable.metric, "expected"):
            return _of_draws(comparable, evaluated, excess)
        found = replicates(comparable, evaluated)
    except NotComputable as error:
        why = f"with some cubes left out there is no value: {error}"
        return _none(excess, why)
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        why = f"with some cubes left out it raised {first_line(error)}"
        return _none(excess, why)
    if not found.variance()[0] > 0:
        why = "whichever cubes are left out, the value stays: nothing says how far other cubes would move it"
        return _none(excess, why)
    signed = evaluated[0].value.signed is not None
    bounds = getattr(comparable.metric, "bounds", (-math.inf, math.inf))
    positive = bounds == (0.0, math.inf)
    sides = _sides(comparable, evaluated, found) if signed else None
    spans = _folded(comparable, found, sides) if sides else _spans(found, positive=positive)
    centre = float(np.mean([each.value.value for each in evaluated]))
    value, over = _clipped(_holding(spans, [centre, excess]), bounds)
    details = {"excess": excess, "excess_interval": list(over), "p_value": p_value(found, signed=signed)}
    details |= _differences(found, comparable.rows.cubes_of(comparable.rows.fake), positive=positive)
    details["resamples"] = told(found, sides)
    return Found(value, details)


def _none(excess: float, why: str) -> Found:
    return Found(None, {"excess": excess, "excess_interval": None, "no_interval": why})


def _of_draws(comparable: Comparable, evaluated: Sequence[Evaluated], excess: float) -> Found:
    """Return the interval of a metric that draws its expected value itself."""
    centre = float(np.mean([each.value.value for each in evaluated]))
    spans, details = drawn.spans(comparable, size=len(evaluated[0].split.real), value=centre)
    bounds = getattr(comparable.metric, "bounds", (-math.inf, math.inf))
    value, over = _clipped(_holding(spans, [centre, excess]), bounds)
    return Found(value, {"excess": excess, "excess_interval": list(over), **details})


def p_value(found: Replicates, *, signed: bool) -> float:
    """Return the two-sided p-value of an excess of 0 (of a signed difference of 0, where there is one)."""
    from scipy.stats import t

    place = 0 if signed else 2
    error = math.sqrt(found.variance()[place])
    estimate = float(found.splits.mean(axis=0)[place])
    if error == 0.0:
        return float(estimate == 0.0)
    return float(2 * t.sf(abs(estimate) / error, found.degrees()[place]))


def told(found: Replicates, signed: tuple[folded.Side, folded.Side] | None) -> dict[str, Any]:
    """Return what a comparison of two reports needs of one: see :mod:`hseval.stats.paired`.

    Args:
        found: the replicates.
        signed: the two sides of a signed difference, where the score is its absolute value.
    """
    jack = found.found
    _, within, across = jack.parts()
    return {
        "signed": signed is not None,
        "shares": None if signed is None else [side.share for side in signed],
        "splits": found.splits.tolist(),
        "used": found.used,
        "real": jack.real.tolist(),
        "real_pairs": [] if jack.real_pairs is None else jack.real_pairs.tolist(),
        "samples": {
            "blocks": len(jack.fake),
            "pairs": 0 if jack.fake_pairs is None else len(jack.fake_pairs),
            "variance": jack.fake_variance().tolist(),
            "twice": (within + across).tolist(),
        },
    }


def _lacking(comparable: Comparable, evaluated: Sequence[Evaluated]) -> str:
    """Return why there is no interval, or ``""``."""
    for side, rows in (("real cubes", comparable.rows.real), ("samples", comparable.rows.fake)):
        groups = len(np.unique(rows.groups))
        if groups < FEWEST:
            return f"{groups} independent groups of {side}, expected at least {FEWEST}"
    return ""


def _spans(found: Replicates, *, positive: bool) -> Floats:
    """Return the intervals ``(2, 2)`` of value and excess.

    A distance that is small varies less than one that is large, so what can't be negative gets its interval on the
    logarithm's scale. The excess, which can, gets Student's: it excludes 0 where the p-value is below 5 %.
    """
    reach = quantile(LEVEL, found.degrees()) * np.sqrt(found.variance())
    centre = found.splits.mean(axis=0)
    spans: Floats = np.stack([centre - reach, centre + reach], axis=1)[[0, 2]]
    if positive and centre[0] > 0:
        ratio = math.exp(reach[0] / centre[0])
        spans[0] = centre[0] / ratio, centre[0] * ratio
    return spans


def _folded(comparable: Comparable, found: Replicates, sides: tuple[folded.Side, folded.Side]) -> Floats:
    rng = stream(comparable.seed, f"{comparable.metric.name} interval")
    return folded.intervals(float(found.splits[:, 0].mean()), real=sides[0], fake=sides[1], rng=rng, level=LEVEL)


def _sides(
    comparable: Comparable, evaluated: Sequence[Evaluated], found: Replicates
) -> tuple[folded.Side, folded.Side]:
    """Return what is known of a signed difference's two sides."""
    size = len(evaluated[0].split.real)
    real, fake = (
        folded.Side(float(part[0]), count, min(1.0, size / len(rows)))
        for part, count, rows in (
            (found.found.real_variance(), len(found.found.real), comparable.rows.real),
            (found.found.fake_variance(), len(found.found.fake), comparable.rows.fake),
        )
    )
    return real, fake


def _holding(spans: Floats, estimates: Sequence[float]) -> Floats:
    """Return intervals that hold what was estimated: few splits of few cubes can lie beyond what a model expects."""
    found = np.array(estimates, dtype=np.float64)
    return np.stack([np.minimum(spans[:, 0], found), np.maximum(spans[:, 1], found)], axis=1)


def _clipped(spans: Floats, bounds: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Cut the value's interval where no value can be."""
    low, high = bounds
    value, excess = ((float(span[0]), float(span[1])) for span in spans)
    return (max(value[0], low), min(value[1], high)), excess


def _differences(found: Replicates, samples: int, *, positive: bool) -> dict[str, Any]:
    """Return the difference that is told between this generator and a worse one, at this many samples and at 4 times.

    The samples' part of the variance falls with their number, and what is of second order in it with its square.
    """
    jack = found.found
    plain, other = float(jack.fake_variance()[0]), float(jack.real_variance()[0])
    second = min(float(jack.parts()[1][0]), plain * (1 - LEAST))
    total = plain - second
    pairs = 0 if jack.fake_pairs is None else len(jack.fake_pairs)
    sides = [(np.array([plain]), len(jack.fake) - 1)]
    freed = freedom(np.array([total]), sides, [(np.array([second]), pairs)], fewest=FEWEST_APART)
    reach = float(quantile(LEVEL, freed)[0])
    value, floor = (float(each) for each in found.splits.mean(axis=0)[:2])
    # |a + e|^2 of noise e in d dimensions has the variance 2 F^2 / d + 4 |a|^2 F / d, F = E |e|^2: it grows with the
    # score as fast as if it were in proportion to the score less half its floor.
    score = value - min(value, max(floor, 0.0)) / 2 if positive else None
    first = max(total - second, 0.0)
    four = first / 4 + (total - first) / 16
    return {
        "samples": samples,
        "smallest_difference": smallest_difference(total, other, reach, score=score),
        "smallest_difference_at_4n": smallest_difference(four, other, reach, score=score),
    }
