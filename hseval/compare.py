"""One metric on described sets: its rows related, split at equal size, compared, and judged against the floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval.errors import HsevalError, NotComputable, first_line
from hseval.hookspecs import ScoreParts
from hseval.pairs import SIZE, describe_pairs
from hseval.report import Score
from hseval.run import Described, Run
from hseval.seeds import stream
from hseval.uncertainty import MINIMUM, Split, mean_details, splits, spread, verdict

if TYPE_CHECKING:
    from hseval.hookspecs import Metric
    from hseval.rows import Rows

SPLITS, QUICK_SPLITS = 16, 6

Compare = Callable[["Rows", "Rows"], ScoreParts]


@dataclasses.dataclass(frozen=True)
class Related:
    """The rows that ``compare`` gets: one a cube, or one a block of cubes for metrics of pairs."""

    real: Rows
    fake: Rows
    train: Rows | None

    def cubes(self, index: Any) -> int:
        """Return how many reference cubes the rows at ``index`` stand for."""
        return int(self.real[SIZE][index].sum()) if SIZE in self.real.columns else len(index)


def score_of(metric: Metric, described: Described, run: Run) -> Score:
    """Return one metric's score; what goes wrong in one leaves the others alone."""
    try:
        _check_needs(metric, described)
        return _judged(metric, _related(metric, described, run), described, run)
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


def _related(metric: Metric, described: Described, run: Run) -> Related:
    """Return the rows with what the metric adds once from the full sets."""
    wanted = metric.needs.rows
    train = described.train.rows.only(wanted) if described.train is not None and metric.needs.train else None
    if metric.needs.pairs:
        real, fake = (_pairs(metric, described, role, run) for role in ("reference", "samples"))
    else:
        real, fake = described.reference.rows.only(wanted), described.samples.rows.only(wanted)
    if not hasattr(metric, "relate"):
        return Related(real, fake, train)
    more: dict[str, Any] = {"cubes": described.sets} if metric.needs.cubes else {}
    return Related(*metric.relate(real=real, fake=fake, train=train, **more))


def _pairs(metric: Metric, described: Described, role: str, run: Run) -> Rows:
    return describe_pairs(
        metric,
        getattr(described.sets, role),
        getattr(described, role),
        plan=described.plans[role],
        reference=described.reference.rows,
        rng=stream(run.seed, f"{metric.name} pairs"),
        cache=run.cache,
        workers=run.workers,
        comm=run.comm,
        progress=run.told(f"{metric.name} of {role}"),
    )


def _judged(metric: Metric, rows: Related, described: Described, run: Run) -> Score:
    """Return the score at equal size beside its floor, with the value at full size in the details."""
    compare = _comparison(metric, rows, run)
    full = compare(rows.real, rows.fake)
    sizes = {"samples": len(described.samples.rows), "reference": len(described.reference.rows)}
    dealt = splits(
        real_groups=rows.real.groups,
        fake_groups=rows.fake.groups,
        repeats=QUICK_SPLITS if run.quick else SPLITS,
        rng=stream(run.seed, f"{metric.name} splits"),
    )
    values, floors = _over_splits(compare, rows, dealt)
    details = {**full.details, "full_value": full.value, "full_size": sizes, "splits": len(values)}
    if not values:
        told = f"no floor: {'halves lack what it needs' if dealt else _too_few(rows)}"
        return Score(metric.name, full.value, None, None, metric.better, told, sizes["samples"], details)
    value, floor = ([parts.value for parts in each] for each in (values, floors))
    details |= {
        "spread": spread(value),
        "floor_spread": spread(floor),
        "at_n": mean_details([parts.details for parts in values]),
        "floor_at_n": mean_details([parts.details for parts in floors]),
    }
    return Score(
        name=metric.name,
        value=float(np.mean(value)),
        floor=float(np.mean(floor)),
        interval=None,
        better=metric.better,
        verdict=verdict(value, floor, metric.better),
        n=rows.cubes(dealt[0].real),
        details=details,
    )


def _too_few(rows: Related) -> str:
    """Return which side leaves no splits of at least two rows a side."""
    if len(rows.fake) < MINIMUM:
        return "too few samples"
    return "too few independent real cubes to halve"


def _comparison(metric: Metric, rows: Related, run: Run) -> Compare:
    def compare(real: Rows, fake: Rows) -> ScoreParts:
        # The same stream in every call, so that a metric's own draws do not add to the spread over splits.
        parts = metric.compare(real=real, fake=fake, train=rows.train, rng=stream(run.seed, metric.name))
        parts = parts if isinstance(parts, ScoreParts) else ScoreParts(float(parts))
        if not np.isfinite(parts.value):
            raise NotComputable(f"its value is {parts.value}")
        return parts

    return compare


def _over_splits(
    compare: Compare, rows: Related, dealt: Sequence[Split]
) -> tuple[list[ScoreParts], list[ScoreParts]]:
    """Return values and floors over the splits whose halves have all that the metric needs.

    A split is left out whole, so that value and floor are means over the same ones; where fewer than a quarter (or
    two) are left there is no floor.
    """
    values, floors = [], []
    for split in dealt:
        try:
            value = compare(rows.real.take(split.real), rows.fake.take(split.fake))
            floor = compare(rows.real.take(split.real), rows.real.take(split.held))
        except NotComputable:
            continue
        values.append(value)
        floors.append(floor)
    return (values, floors) if len(values) >= max(2, len(dealt) / 4) else ([], [])
