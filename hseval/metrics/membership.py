"""``membership``: whether the samples give away which cubes the generator was trained on."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Better
from hseval.metrics.copy_search import (
    Found,
    common_details,
    list_length,
    near,
    particulars,
    placements,
    search,
    step_of,
    vectors,
)
from hseval.metrics.copying_tests import copy_threshold, copying_z, lower_tail, one_a_group, precedence_test
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows
    from hseval.metrics.copy_search import Placement


def attack_auc(*, members: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the probability that a member's distance is below a non-member's, equal ones counted half.

    The area under the ROC curve of an attacker who calls "member" what is near: 0.5, nothing is given away; 1,
    members are told without error.
    """
    from scipy.stats import rankdata

    m, n = len(members), len(others)
    beyond = float(rankdata(np.concatenate([members, others]))[:m].sum()) - m * (m + 1) / 2
    return 1 - beyond / (m * n)


def true_positives(*, members: NDArray[Any], others: NDArray[Any]) -> float:
    """Return the share of members told at no more than 1 % of non-members taken for members.

    Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022: an attack that is sure of a few
    cubes harms these, whatever it does on average. Fewer than 100 non-members resolve no 1 %: then none is allowed.
    """
    return float(np.mean(members < copy_threshold(others)))


MAPS, PIXELS, PARTICULARS = "maps", "maps/pixels", "membership/particulars"
PLACE = "membership/place"  # a cube's row in the full set, which lists name
SAMPLE = "membership/is-sample"
STEP = "membership/step"  # cells of a shift by one, as placements take it
SAMPLES, REAL = "membership/samples", "membership/real"  # lists of the nearest cubes of either
PAIRS = 10  # most exposed training cubes that are named
ENOUGH = 100  # held-out cubes below which 1 % of them can't be resolved
CAVEAT = (
    "one attack, by distance to the nearest sample; others may tell more. 0.5 says that this one fails, "
    "not that the samples give nothing away"
)


class Membership:
    """Area under the ROC curve of an attack: cubes nearer to a sample are called training cubes.

    The attack is the full black-box attack of Chen et al., GAN-Leaks, CCS 2020, with the distance of ``authenticity``.
    """

    name: ClassVar[str] = "membership"
    summary: ClassVar[str] = "how well nearness to the samples tells training cubes from held-out ones (AUC)"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[Needs] = Needs(rows=(MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Nothing can be set."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Search, once, the samples and the real cubes that are nearest to each training and each held-out cube.

        The lists are so long that a split's share of samples, or of held-out cubes in their place (the floor), has
        a listed one but for 1 cube in 1000, which ``compare`` then searches anew. A held-out cube's own group
        is in no list: no split has a group on both sides.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        if not len(real) or not len(fake):
            raise NotComputable(f"{len(real)} held-out cubes and {len(fake)} samples, expected at least 1 of each")
        common = common_details(train[MAPS])
        step = step_of(train[PIXELS], train[MAPS].shape[-1])
        real, fake, train = (
            _placed(rows, particulars(rows[MAPS], common), step, sample=rows is fake) for rows in (real, fake, train)
        )
        size = max(1, min(len(fake), len(real) // 2))
        lists = functools.partial(_lists, real=real, fake=fake, size=size)
        return real.adding(lists(real, own_group=False)), fake, train.adding(lists(train, own_group=True))

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the attack's AUC on all training cubes against the held-out cubes ``real``.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if SAMPLE not in fake.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        if not len(real) or not len(fake):
            raise NotComputable(f"{len(real)} held-out cubes and {len(fake)} samples, expected at least 1 of each")
        assert train is not None
        members, others = _nearest(train, fake), _nearest(real, fake)
        auc = attack_auc(members=members.distance, others=others.distance)
        told = true_positives(members=members.distance, others=others.distance)
        medians = {"training": float(np.median(members.distance)), "held_out": float(np.median(others.distance))}
        chances = _chances(train, real, members.distance, others.distance)
        details = {
            "true_positives": told,
            "threshold": copy_threshold(others.distance),
            "training": len(train),
            "held_out": len(real),
            "resolution": 1 / (len(real) + 1),
            "median_distance": medians,
            **chances,
            "shown": {
                "p of such an AUC by chance": chances["p"],
                "training cubes told at 1 % false alarms (share)": told,
                "training cubes nearer than every held-out cube": chances["nearer_than_all"],
                "p of so many": chances["p_nearer_than_all"],
                "median distance of a training cube to the nearest sample": medians["training"],
                "the same of a held-out cube": medians["held_out"],
            },
            "nearest_pairs": _most_exposed(train, fake, members),
            "caveat": _caveat(len(real)),
        }
        return ScoreParts(auc, details)


def _placed(rows: Rows, own: NDArray[np.float32], step: tuple[float, float], *, sample: bool) -> Rows:
    """Return the rows with what the searches need in place of their maps."""
    columns = {
        PLACE: np.arange(len(rows)),
        SAMPLE: np.full(len(rows), sample),
        STEP: np.tile(step, (len(rows), 1)),
        PARTICULARS: own,
    }
    return rows.only(()).adding(columns)


def _lists(queries: Rows, *, real: Rows, fake: Rows, size: int, own_group: bool) -> dict[str, NDArray[Any]]:
    """Return the columns of the samples, and of the real cubes, that are nearest to each query."""
    columns: dict[str, NDArray[Any]] = {}
    for name, rows, barred in ((SAMPLES, fake, False), (REAL, real, not own_group)):
        found = near(
            queries[PARTICULARS],
            vectors(rows[PARTICULARS]),
            _places(queries),
            k=list_length(len(rows), size / len(rows)),
            groups=queries.groups if barred else None,
            base_groups=rows.groups if barred else None,
        )
        columns |= {f"{name}/{field}": column for field, column in found._asdict().items()}
    return columns


def _nearest(queries: Rows, among: Rows) -> Found:
    """Return the nearest of ``among`` for each query; its row is one of ``among``.

    The first of a query's list that is there is the nearest that is there; where none is, all are searched.
    """
    name = SAMPLES if among[SAMPLE][0] else REAL
    rows = queries[f"{name}/row"]
    position = np.full(max(int(rows.max()), int(among[PLACE].max())) + 2, -1)  # the last stands for row -1
    position[among[PLACE]] = np.arange(len(among))
    here = position[rows]
    first = (np.arange(len(queries)), (here >= 0).argmax(axis=1))
    found = Found(queries[f"{name}/distance"][first], here[first], queries[f"{name}/placement"][first])
    missing = np.flatnonzero(found.row < 0)
    if len(missing):
        anew = search(queries[PARTICULARS][missing], Neighbors(vectors(among[PARTICULARS])), _places(queries))
        for column, value in zip(found, anew, strict=True):
            column[missing] = value
    return found


def _places(rows: Rows) -> Sequence[Placement]:
    return placements(tuple(rows[STEP][0]))


def _chances(
    train: Rows, real: Rows, members: NDArray[np.float64], others: NDArray[np.float64]
) -> dict[str, float | int]:
    """Return how probable such nearness is where training cubes are no nearer, on one cube of each group."""
    members = members[one_a_group(hashes=train.hashes, groups=train.groups)]
    others = others[one_a_group(hashes=real.hashes, groups=real.groups)]
    below, p = precedence_test(held=others, found=members)
    return {"p": lower_tail(copying_z(held=others, found=members)), "nearer_than_all": below, "p_nearer_than_all": p}


def _most_exposed(train: Rows, fake: Rows, found: Found) -> list[dict[str, Any]]:
    places = _places(train)
    first = np.argsort(found.distance, kind="stable")[:PAIRS]
    return [
        {
            "training": str(train.ids[i]),
            "sample": str(fake.ids[found.row[i]]),
            "distance": float(found.distance[i]),
            "placement": str(places[found.placement[i]]),
        }
        for i in first
    ]


def _caveat(held: int) -> str:
    if held >= ENOUGH:
        return CAVEAT
    return f"{CAVEAT}; 1 % false alarms are none of {held} held-out cubes, so 1 in {held + 1} is told by chance"
