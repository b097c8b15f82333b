"""One metric on described sets: its rows split at equal size, compared, and judged against the floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.core.report import Score
from hseval.data.content_hash import key
from hseval.pipeline.context import Described, Run
from hseval.pipeline.metric_inputs import Comparable, Related, comparable
from hseval.stats.intervals import Found, interval
from hseval.stats.resampling import Evaluated
from hseval.stats.splits import MINIMUM, Split, apart, mean_details, splits, spread, verdict
from hseval.utils.errors import HsevalError, NotComputable, first_line
from hseval.utils.random_streams import stream

if TYPE_CHECKING:
    from hseval.core.hookspecs import Metric

SPLITS, QUICK_SPLITS = 16, 6


def score_of(metric: Metric, described: Described, run: Run, *, intervals: bool = True) -> Score:
    """Return one metric's score, with its interval if asked for; what goes wrong in one leaves the others alone."""
    try:
        _check_needs(metric, described)
        return _judged(comparable(metric, described, run), described, run, intervals=intervals)
    except NotComputable as error:
        return _missing(metric, str(error))
    except HsevalError:
        raise
    except Exception as error:  # noqa: BLE001 - a third party's metric may raise anything
        return _missing(metric, f"it raised {first_line(error)}")


def _missing(metric: Metric, why: str) -> Score:
    return Score(metric.name, None, None, None, metric.better, f"not computed: {why}", 0)


def _check_needs(metric: Metric, described: Described) -> None:
    if metric.needs.train and described.train is None:
        raise NotComputable("needs --train")
    if metric.needs.train and not described.held_out:
        raise NotComputable("every reference cube is a training cube, so none is held out")
    described_by = {column.split("/", maxsplit=1)[0] for column in described.reference.rows.columns}
    if (metric.needs.nm or not described_by.issuperset(metric.needs.rows)) and not _nm(described):
        raise NotComputable("needs wavelengths in nm (--wavelengths FILE|450:905:16)")


def _nm(described: Described) -> bool:
    return described.reference.rows.wavelengths_known


def _judged(compared: Comparable, described: Described, run: Run, *, intervals: bool) -> Score:
    """Return the score at equal size beside its floor, with the value at full size in the details."""
    metric, rows = compared.metric, compared.rows
    full = compared.parts(rows.real, rows.fake, rows.train)
    sizes = {"samples": len(described.samples.rows), "reference": len(described.reference.rows)}
    dealt = splits(
        real_groups=rows.real.groups,
        fake_groups=rows.fake.groups,
        repeats=QUICK_SPLITS if run.quick else SPLITS,
        rng=stream(run.seed, f"{metric.name} splits"),
    )
    found = _over_splits(compared, dealt)
    details = {**full.details, "full_value": full.value, "full_size": sizes, "splits": len(found)}
    if not found:
        told = f"no floor: {'halves lack what it needs' if dealt else _too_few(rows)}"
        return Score(metric.name, full.value, None, None, metric.better, told, sizes["samples"], details)
    value, floor = ([parts.value for parts in each] for each in _sides(found))
    between = interval(compared, found) if intervals else Found(None, {})
    details |= {
        "spread": spread(value),
        "floor_spread": spread(floor),
        "splits_apart": apart(value, floor),
        "at_n": mean_details([parts.details for parts in _sides(found)[0]]),
        "floor_at_n": mean_details([parts.details for parts in _sides(found)[1]]),
        **between.details,
    }
    if "resamples" in details:
        details["resamples"] |= _about(compared, described, rows.cubes(dealt[0].real))
    return Score(
        name=metric.name,
        value=float(np.mean(value)),
        floor=float(np.mean(floor)),
        interval=between.interval,
        better=metric.better,
        verdict=verdict(value, floor, metric.better),
        n=rows.cubes(dealt[0].real),
        details=details,
    )


def _sides(found: Sequence[Evaluated]) -> tuple[list[Any], list[Any]]:
    return [each.value for each in found], [each.floor for each in found]


def _about(compared: Comparable, described: Described, size: int) -> dict[str, Any]:
    """Return what has to agree for two scores to be compared on shared resamples."""
    metric = compared.metric
    train = described.train if metric.needs.train else None
    return {
        "seed": compared.seed,
        "size": size,
        "reference": key(described.reference.contents),
        "train": None if train is None else key(train.contents),
        "settings": [metric.name, getattr(metric, "version", "1"), repr(getattr(metric, "options", None))],
    }


def _too_few(rows: Related) -> str:
    """Return which side leaves no splits of at least two rows a side."""
    if len(rows.fake) < MINIMUM:
        return "too few samples"
    return "too few independent real cubes to halve"


def _over_splits(compared: Comparable, dealt: Sequence[Split]) -> list[Evaluated]:
    """Return value and floor of the pairs of splits whose halves have all that the metric needs.

    A complementary pair is left out whole, so that value and floor are means over the same splits and every real cube
    weighs the same; where fewer than a quarter (or two) are left there is no floor.
    """
    found: list[Evaluated] = []
    for start in range(0, len(dealt), 2):
        try:
            found.extend([_evaluated(compared, split) for split in dealt[start : start + 2]])
        except NotComputable:
            continue
    return found if len(found) >= max(2, len(dealt) / 4) else []


def _evaluated(compared: Comparable, split: Split) -> Evaluated:
    rows = compared.rows
    real = rows.real.take(split.real)
    value = compared.parts(real, rows.fake.take(split.fake), rows.train)
    return Evaluated(split, value, compared.parts(real, rows.real.take(split.held), rows.train))
