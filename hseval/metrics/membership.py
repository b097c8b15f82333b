"""``membership``: whether the samples give away which cubes the generator was trained on."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.copy_search import (
    NearestMatches,
    compute_common_details,
    compute_list_length,
    compute_residual_details,
    compute_shift_step,
    find_k_nearest,
    find_nearest,
    list_placements,
    to_unit_vectors,
)
from hseval.metrics.copying_tests import (
    compute_copy_threshold,
    lower_tail_p_value,
    mann_whitney_z,
    precedence_test,
    select_one_per_group,
)
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable
    from hseval.metrics.copy_search import Placement


def attack_auc(*, members: NDArray[Any], nonmembers: NDArray[Any]) -> float:
    """Return the probability that a member's distance is below a non-member's, equal ones counted half.

    The area under the ROC curve of an attacker who calls "member" what is near: 0.5, nothing is given away; 1,
    members are told without error.
    """
    from scipy.stats import rankdata

    m, n = len(members), len(nonmembers)
    beyond = float(rankdata(np.concatenate([members, nonmembers]))[:m].sum()) - m * (m + 1) / 2
    return 1 - beyond / (m * n)


def tpr_at_low_fpr(*, members: NDArray[Any], nonmembers: NDArray[Any]) -> float:
    """Return the share of members told at no more than 1 % of non-members taken for members.

    Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022: an attack that is sure of a few
    cubes harms these, whatever it does on average. Fewer than 100 non-members resolve no 1 %: then none is allowed.
    """
    return float(np.mean(members < compute_copy_threshold(nonmembers)))


LOWRES_MAPS, MAP_EXTENTS, RESIDUAL_DETAILS = "maps", "maps/pixels", "membership/particulars"
ROW_INDEX = "membership/place"  # a cube's row in the full set, which lists name
IS_GENERATED = "membership/is-sample"
SHIFT_STEP = "membership/step"  # cells of a shift by one, as placements take it
NEAREST_GENERATED, NEAREST_REAL = "membership/samples", "membership/real"  # lists of the nearest cubes of either
MAX_REPORTED_PAIRS = 10  # most exposed training cubes that are named
MIN_HOLDOUT = 100  # held-out cubes below which 1 % of them can't be resolved
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
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[Needs] = Needs(features=(LOWRES_MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Nothing can be set."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Search, once, the samples and the real cubes that are nearest to each training and each held-out cube.

        The lists are so long that a split's share of samples, or of held-out cubes in their place (the floor), has
        a listed one but for 1 cube in 1000, which ``compare`` then searches anew. A held-out cube's own group
        is in no list: no split has a group on both sides.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        if not len(real) or not len(generated):
            raise NotComputable(f"{len(real)} held-out cubes and {len(generated)} samples, expected at least 1 of each")
        common = compute_common_details(train[LOWRES_MAPS])
        step = compute_shift_step(train[MAP_EXTENTS], train[LOWRES_MAPS].shape[-1])
        real, generated, train = (
            _prepare_table(
                rows, compute_residual_details(rows[LOWRES_MAPS], common), step, is_generated=rows is generated
            )
            for rows in (real, generated, train)
        )
        size = max(1, min(len(generated), len(real) // 2))
        lists = functools.partial(_build_neighbor_lists, real=real, generated=generated, size=size)
        return (
            real.add_columns(lists(real, include_own_group=False)),
            generated,
            train.add_columns(lists(train, include_own_group=True)),
        )

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the attack's AUC on all training cubes against the held-out cubes ``real``.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if IS_GENERATED not in generated.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        if not len(real) or not len(generated):
            raise NotComputable(f"{len(real)} held-out cubes and {len(generated)} samples, expected at least 1 of each")
        assert train is not None
        members, others = _look_up_nearest(train, generated), _look_up_nearest(real, generated)
        auc = attack_auc(members=members.distance, nonmembers=others.distance)
        told = tpr_at_low_fpr(members=members.distance, nonmembers=others.distance)
        medians = {"training": float(np.median(members.distance)), "held_out": float(np.median(others.distance))}
        chances = _compute_p_values(train, real, members.distance, others.distance)
        details = {
            "true_positives": told,
            "threshold": compute_copy_threshold(others.distance),
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
            "nearest_pairs": _list_most_exposed(train, generated, members),
            "caveat": _format_caveat(len(real)),
        }
        return ScoreParts(auc, details)


def _prepare_table(
    table: FeatureTable, residual_details: NDArray[np.float32], step: tuple[float, float], *, is_generated: bool
) -> FeatureTable:
    """Return the rows with what the searches need in place of their maps."""
    columns = {
        ROW_INDEX: np.arange(len(table)),
        IS_GENERATED: np.full(len(table), is_generated),
        SHIFT_STEP: np.tile(step, (len(table), 1)),
        RESIDUAL_DETAILS: residual_details,
    }
    return table.select_extractors(()).add_columns(columns)


def _build_neighbor_lists(
    queries: FeatureTable, *, real: FeatureTable, generated: FeatureTable, size: int, include_own_group: bool
) -> dict[str, NDArray[Any]]:
    """Return the columns of the samples, and of the real cubes, that are nearest to each query."""
    columns: dict[str, NDArray[Any]] = {}
    for name, rows, barred in ((NEAREST_GENERATED, generated, False), (NEAREST_REAL, real, not include_own_group)):
        found = find_k_nearest(
            queries[RESIDUAL_DETAILS],
            to_unit_vectors(rows[RESIDUAL_DETAILS]),
            _get_placements(queries),
            k=compute_list_length(len(rows), size / len(rows)),
            groups=queries.groups if barred else None,
            base_groups=rows.groups if barred else None,
        )
        columns |= {f"{name}/{field}": column for field, column in found._asdict().items()}
    return columns


def _look_up_nearest(queries: FeatureTable, candidates: FeatureTable) -> NearestMatches:
    """Return the nearest of ``candidates`` for each query; its row is one of ``candidates``.

    The first of a query's list that is there is the nearest that is there; where none is, all are searched.
    """
    name = NEAREST_GENERATED if candidates[IS_GENERATED][0] else NEAREST_REAL
    rows = queries[f"{name}/row"]
    position = np.full(max(int(rows.max()), int(candidates[ROW_INDEX].max())) + 2, -1)  # the last stands for row -1
    position[candidates[ROW_INDEX]] = np.arange(len(candidates))
    here = position[rows]
    first = (np.arange(len(queries)), (here >= 0).argmax(axis=1))
    found = NearestMatches(queries[f"{name}/distance"][first], here[first], queries[f"{name}/placement"][first])
    missing = np.flatnonzero(found.row < 0)
    if len(missing):
        anew = find_nearest(
            queries[RESIDUAL_DETAILS][missing],
            NearestNeighbors(to_unit_vectors(candidates[RESIDUAL_DETAILS])),
            _get_placements(queries),
        )
        for column, value in zip(found, anew, strict=True):
            column[missing] = value
    return found


def _get_placements(table: FeatureTable) -> Sequence[Placement]:
    return list_placements(tuple(table[SHIFT_STEP][0]))


def _compute_p_values(
    train: FeatureTable, real: FeatureTable, members: NDArray[np.float64], nonmembers: NDArray[np.float64]
) -> dict[str, float | int]:
    """Return how probable such nearness is where training cubes are no nearer, on one cube of each group."""
    members = members[select_one_per_group(hashes=train.hashes, groups=train.groups)]
    nonmembers = nonmembers[select_one_per_group(hashes=real.hashes, groups=real.groups)]
    below, p = precedence_test(holdout=nonmembers, generated=members)
    return {
        "p": lower_tail_p_value(mann_whitney_z(holdout=nonmembers, generated=members)),
        "nearer_than_all": below,
        "p_nearer_than_all": p,
    }


def _list_most_exposed(train: FeatureTable, generated: FeatureTable, matches: NearestMatches) -> list[dict[str, Any]]:
    places = _get_placements(train)
    first = np.argsort(matches.distance, kind="stable")[:MAX_REPORTED_PAIRS]
    return [
        {
            "training": str(train.ids[i]),
            "sample": str(generated.ids[matches.row[i]]),
            "distance": float(matches.distance[i]),
            "placement": str(places[matches.placement[i]]),
        }
        for i in first
    ]


def _format_caveat(n_holdout: int) -> str:
    if n_holdout >= MIN_HOLDOUT:
        return CAVEAT
    return (
        f"{CAVEAT}; 1 % false alarms are none of {n_holdout} held-out cubes, so 1 in {n_holdout + 1} is told by chance"
    )
