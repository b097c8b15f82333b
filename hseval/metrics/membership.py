"""``membership``: do the samples reveal which cubes the generator was trained on?"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from hseval.core.protocols import Needs, ScoreParts
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
    check_sides,
    compute_copy_threshold,
    list_nearest_pairs,
    lower_tail_p_value,
    mann_whitney_z,
    precedence_test,
    select_one_per_group,
)
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.metrics.copy_search import Placement
    from hseval.utils.arrays import Array, Float32Array, Float64Array
    from hseval.utils.random_streams import Rng


def attack_auc(*, members: Array, nonmembers: Array) -> float:
    """Return the probability that a member's distance is below a non-member's, equal ones counted half.

    This is the area under the ROC curve of an attack that classifies near cubes as members: 0.5 is chance, 1 means
    that all members are identified.
    """
    from scipy.stats import mannwhitneyu

    u_statistic = mannwhitneyu(members, nonmembers, method="asymptotic").statistic
    return float(1 - u_statistic / (len(members) * len(nonmembers)))


def tpr_at_low_fpr(*, members: Array, nonmembers: Array) -> float:
    """Return the true-positive rate of the attack at a false-positive rate of at most 1 %.

    Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022: an attack that is certain about
    a few cubes harms these, whatever its average. With fewer than 100 non-members, no false positive is allowed.
    """
    return float(np.mean(members < compute_copy_threshold(nonmembers)))


LOWRES_MAPS, MAP_EXTENTS, RESIDUAL_DETAILS = "maps", "maps/pixels", "membership/residual-details"
ROW_INDEX = "membership/row"  # a cube's row in the full set, as in the lists
IS_GENERATED = "membership/is-sample"
SHIFT_STEP = "membership/step"  # cells of a shift by one step, down and to the right
NEAREST_GENERATED, NEAREST_REAL = "membership/samples", "membership/real"  # lists of the nearest cubes of either set
MIN_HOLDOUT = 100  # with fewer held-out cubes a rate of 1 % can't be resolved
CAVEAT = (
    "one attack, by distance to the nearest sample; others may be stronger. 0.5 means that this attack fails, "
    "not that the samples reveal nothing"
)


class Membership:
    """Area under the ROC curve of an attack that classifies cubes near a sample as training cubes.

    It is the full black-box attack of Chen et al., GAN-Leaks, CCS 2020, with the distance of ``authenticity``.
    """

    name = "membership"
    summary = "how well distance to the samples separates training cubes from held-out ones (AUC)"
    better: Direction = "lower"
    bounds = (0.0, 1.0)
    needs = Needs(features=(LOWRES_MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """There are no options."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Find, once, the samples and the real cubes that are nearest to each training and each held-out cube.

        The lists are long enough that a split's share of samples, or of held-out cubes in their place (the floor),
        contains a listed one for all but 1 cube in 1000; ``compare`` searches for those again. Lists exclude a
        held-out cube's own group: no split has a group on both sides.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        check_sides(real, generated)
        common = compute_common_details(train[LOWRES_MAPS])
        step = compute_shift_step(train[MAP_EXTENTS], train[LOWRES_MAPS].shape[-1])
        real, generated, train = (
            _prepare_table(
                table, compute_residual_details(table[LOWRES_MAPS], common), step, is_generated=table is generated
            )
            for table in (real, generated, train)
        )
        size = max(1, min(len(generated), len(real) // 2))
        build_lists = functools.partial(_build_neighbor_lists, real=real, generated=generated, size=size)
        return (
            real.add_columns(build_lists(real, include_own_group=False)),
            generated,
            train.add_columns(build_lists(train, include_own_group=True)),
        )

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the attack's AUC on all training cubes against the held-out cubes ``real``.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if IS_GENERATED not in generated.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        check_sides(real, generated)
        assert train is not None
        placements = _get_placements(train)
        members, nonmembers = _look_up_nearest(train, generated), _look_up_nearest(real, generated)
        auc = attack_auc(members=members.distance, nonmembers=nonmembers.distance)
        tpr = tpr_at_low_fpr(members=members.distance, nonmembers=nonmembers.distance)
        medians = {"training": float(np.median(members.distance)), "held_out": float(np.median(nonmembers.distance))}
        tests = _compute_p_values(train, real, members.distance, nonmembers.distance)
        details = {
            "true_positives": tpr,
            "threshold": compute_copy_threshold(nonmembers.distance),
            "training": len(train),
            "held_out": len(real),
            "resolution": 1 / (len(real) + 1),
            "median_distance": medians,
            **tests,
            "shown": {
                "Mann-Whitney test p": tests["p"],
                "true-positive rate at a false-positive rate of 1 %": tpr,
                "training cubes nearer to a sample than every held-out cube": tests["nearer_than_all"],
                "precedence test p": tests["p_nearer_than_all"],
                "median distance to the nearest sample, training cubes": medians["training"],
                "median distance to the nearest sample, held-out cubes": medians["held_out"],
            },
            "nearest_pairs": list_nearest_pairs(
                {"training": train.ids, "sample": generated.ids[members.row]},
                members.distance,
                [placements[i] for i in members.placement],
            ),
            "caveat": _format_caveat(len(real)),
        }
        return ScoreParts(auc, details)


def _prepare_table(
    table: FeatureTable, residual_details: Float32Array, step: tuple[float, float], *, is_generated: bool
) -> FeatureTable:
    """Return the table with the columns that the searches need instead of the maps."""
    columns = {
        ROW_INDEX: np.arange(len(table)),
        IS_GENERATED: np.full(len(table), is_generated),
        SHIFT_STEP: np.tile(step, (len(table), 1)),
        RESIDUAL_DETAILS: residual_details,
    }
    return table.select_extractors(()).add_columns(columns)


def _build_neighbor_lists(
    queries: FeatureTable, *, real: FeatureTable, generated: FeatureTable, size: int, include_own_group: bool
) -> dict[str, Array]:
    """Return the columns of the samples, and of the real cubes, that are nearest to each query."""
    columns: dict[str, Array] = {}
    for name, base, exclude_group in (
        (NEAREST_GENERATED, generated, False),
        (NEAREST_REAL, real, not include_own_group),
    ):
        lists = find_k_nearest(
            queries[RESIDUAL_DETAILS],
            to_unit_vectors(base[RESIDUAL_DETAILS]),
            _get_placements(queries),
            k=compute_list_length(len(base), size / len(base)),
            groups=queries.groups if exclude_group else None,
            base_groups=base.groups if exclude_group else None,
        )
        columns |= {f"{name}/{field}": column for field, column in lists._asdict().items()}
    return columns


def _look_up_nearest(queries: FeatureTable, candidates: FeatureTable) -> NearestMatches:
    """Return the nearest of ``candidates`` for each query; rows are indices into ``candidates``.

    The first candidate in a query's list is the nearest one; if the list has none, all candidates are searched.
    """
    name = NEAREST_GENERATED if candidates[IS_GENERATED][0] else NEAREST_REAL
    rows = queries[f"{name}/row"]
    position = np.full(max(int(rows.max()), int(candidates[ROW_INDEX].max())) + 2, -1)  # the last is that of row -1
    position[candidates[ROW_INDEX]] = np.arange(len(candidates))
    listed = position[rows]
    first = (np.arange(len(queries)), (listed >= 0).argmax(axis=1))
    matches = NearestMatches(queries[f"{name}/distance"][first], listed[first], queries[f"{name}/placement"][first])
    missing = np.flatnonzero(matches.row < 0)
    if len(missing):
        new_matches = find_nearest(
            queries[RESIDUAL_DETAILS][missing],
            NearestNeighbors(to_unit_vectors(candidates[RESIDUAL_DETAILS])),
            _get_placements(queries),
        )
        for column, new_values in zip(matches, new_matches, strict=True):
            column[missing] = new_values
    return matches


def _get_placements(table: FeatureTable) -> Sequence[Placement]:
    return list_placements(tuple(table[SHIFT_STEP][0]))


def _compute_p_values(
    train: FeatureTable, real: FeatureTable, members: Float64Array, nonmembers: Float64Array
) -> dict[str, float | int]:
    """Return the p-values of training cubes being nearer than held-out ones, on one cube of each group."""
    members = members[select_one_per_group(hashes=train.hashes, groups=train.groups)]
    nonmembers = nonmembers[select_one_per_group(hashes=real.hashes, groups=real.groups)]
    below, p = precedence_test(holdout=nonmembers, generated=members)
    return {
        "p": lower_tail_p_value(mann_whitney_z(holdout=nonmembers, generated=members)),
        "nearer_than_all": below,
        "p_nearer_than_all": p,
    }


def _format_caveat(n_holdout: int) -> str:
    if n_holdout >= MIN_HOLDOUT:
        return CAVEAT
    return (
        f"{CAVEAT}; {format_count(n_holdout, 'held-out cube')} can't resolve a false-positive rate of 1 %: "
        f"1 training cube in {n_holdout + 1} is identified by chance"
    )
