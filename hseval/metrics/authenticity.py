"""``authenticity``: the share of samples that are nearer to the training set than held-out real cubes are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hseval.core.options import option
from hseval.core.protocols import Needs, ScoreParts
from hseval.core.report import Direction
from hseval.metrics.copy_search import (
    apply_placements,
    compute_common_details,
    compute_residual_details,
    compute_shift_step,
    find_nearest,
    list_placements,
    to_unit_vectors,
)
from hseval.metrics.copying_tests import (
    MAX_IDENTICAL_DISTANCE,
    assign_cells,
    check_sides,
    compute_authentic_share,
    compute_copy_rank,
    compute_copy_share,
    compute_copy_threshold,
    compute_profiles,
    copying_test,
    fit_cell_centers,
    list_nearest_pairs,
    precedence_test,
    select_one_per_group,
)
from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors
from hseval.utils.plural import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hseval.core.feature_table import FeatureTable, RelatedTables
    from hseval.metrics.copy_search import NearestMatches, Placement
    from hseval.utils.arrays import Array, Float32Array, Float64Array
    from hseval.utils.random_streams import Rng

LOWRES_MAPS, MAP_EXTENTS = "maps", "maps/pixels"
DISTANCE, NEAREST_ID = "authenticity/distance", "authenticity/nearest"
NN_DISTANCE, PLACEMENT = "authenticity/nn-distance", "authenticity/placement"
CALIBRATED_DISTANCE, CELL, SHIFT_STEP = "authenticity/calibrated", "authenticity/cell", "authenticity/step"
CALIBRATION_NEIGHBORS = 50  # training cubes whose mean distance calibrates the distance to the nearest one
MIN_HOLDOUT = 100  # with fewer held-out cubes the 1st percentile is the minimum
CAVEAT = (
    "no proof of privacy: only rotated, mirrored, slightly shifted, brightened or noisy copies are searched for; "
    "a sample may still reveal what a training cube shows"
)


class Authenticity:
    """Share of samples nearer to the training set than the 1st percentile of held-out real cubes."""

    name = "authenticity"
    summary = "share of samples that are nearer to the training set than held-out real cubes are"
    better: Direction = "lower"
    bounds = (0.0, 1.0)
    needs = Needs(features=(LOWRES_MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """Options of the metric."""

        index: Literal["exact", "ivf"] = option("exact", "nearest-neighbor search; ivf is approximate, for large sets")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None) -> RelatedTables:
        """Find each cube's nearest training cube, once.

        Adds to ``real`` and ``generated``: ``distance`` (0 to 2), ``nearest`` (the training cube's id), ``placement``
        (index into :func:`list_placements` of ``step``: how the cube was rotated and shifted to fit), ``nn-distance``
        (from that training cube to the nearest other one), ``calibrated`` (the distance divided by the mean distance
        to the 50 nearest training cubes) and ``cell`` (of a small partition of the training set). Adds to ``train``
        the distance to the nearest other training cube, as ``distance``; equal training cubes are neighbors at
        distance 0.

        Raises:
            NotComputable: there is no training set.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        common = compute_common_details(train[LOWRES_MAPS])
        maps = compute_residual_details(train[LOWRES_MAPS], common)
        base = NearestNeighbors(to_unit_vectors(maps), index=self.options.index)
        step = compute_shift_step(train[MAP_EXTENTS], maps.shape[-1])
        placements = list_placements(step)
        nn_distances = _compute_nn_distances(maps, base, placements)
        centers = fit_cell_centers(compute_profiles(train[LOWRES_MAPS]))

        def add_matches(table: FeatureTable) -> FeatureTable:
            details = compute_residual_details(table[LOWRES_MAPS], common)
            matches = find_nearest(details, base, placements)
            columns = {
                DISTANCE: matches.distance,
                NEAREST_ID: np.asarray(train.ids)[matches.row],
                NN_DISTANCE: nn_distances[matches.row],
                PLACEMENT: matches.placement,
                CALIBRATED_DISTANCE: _calibrate_distances(details, matches, base, placements),
                CELL: assign_cells(compute_profiles(table[LOWRES_MAPS]), centers),
                SHIFT_STEP: np.tile(step, (len(table), 1)),
            }
            return table.add_columns(columns)

        return add_matches(real), add_matches(generated), train.add_columns({DISTANCE: nn_distances})

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Rng
    ) -> ScoreParts:
        """Return the share of samples below the held-out cubes' 1st percentile, with thresholds and tests as details.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if DISTANCE not in generated.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        check_sides(real, generated)
        holdout, distances = real[DISTANCE], generated[DISTANCE]
        threshold = compute_copy_threshold(holdout)
        auth_pct = compute_authentic_share(distances, generated[NN_DISTANCE]) * 100
        ratio = float(np.median(distances) / np.median(holdout)) if np.median(holdout) > 0 else float("nan")
        tests = _run_copying_tests(real, generated)
        placements = list_placements(tuple(generated[SHIFT_STEP][0]))
        details = {
            "threshold": threshold,
            "held_out": len(holdout),
            "resolution": 1 / (len(holdout) + 1),
            "auth_pct": auth_pct,
            "median_ratio": ratio,
            **tests,
            "shown": {
                "AuthPct (0 to 100, higher is more authentic)": auth_pct,
                "median distance to the training set, samples / held-out": ratio,
                "copy threshold (distance)": threshold,
                **_select_visible(tests),
            },
            "nearest_pairs": list_nearest_pairs(
                {"sample": generated.ids, "training": generated[NEAREST_ID]},
                distances,
                [placements[i] for i in generated[PLACEMENT]],
            ),
            "caveat": _format_caveat(len(holdout), threshold),
        }
        return ScoreParts(compute_copy_share(distances, threshold), details)

    def shown_values(self, *, real: FeatureTable, generated: FeatureTable) -> dict[str, tuple[Array, Array]]:
        """Return each cube's distance to its nearest training cube, held-out cubes and samples, for a histogram."""
        return {"distance to the nearest training cube": (real[DISTANCE], generated[DISTANCE])}

    def expected(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        size: int,
        draws: int,
        rngs: tuple[np.random.Generator, np.random.Generator],
    ) -> Float64Array:
        """Return draws of the expected share and its floor, which depend on the nearest held-out cubes."""
        return draw_expected_shares(
            real=GroupedValues(real[DISTANCE], real.groups),
            generated=GroupedValues(generated[DISTANCE], generated.groups),
            size=size,
            rank=compute_copy_rank(size),
            draws=draws,
            rngs=rngs,
            always_below=MAX_IDENTICAL_DISTANCE,
        )


def _compute_nn_distances(maps: Float32Array, base: NearestNeighbors, placements: Sequence[Placement]) -> Float64Array:
    """Return each training cube's distance to the nearest other one; NaN if there is only one."""
    if len(maps) == 1:
        return np.full(1, np.nan)
    return find_nearest(maps, base, placements, exclude=np.arange(len(maps))).distance


def _calibrate_distances(
    maps: Float32Array, matches: NearestMatches, base: NearestNeighbors, placements: Sequence[Placement]
) -> Float64Array:
    """Return each distance divided by the mean distance to the nearest training cubes, at the best placement.

    Carlini et al., Extracting training data from diffusion models, USENIX Security 2023, section 4.2, without their
    constant: a featureless cube is near to every other without being a copy. 1 if all distances are 0.
    """
    neighbor_distances, _ = base.find_nearest(
        to_unit_vectors(apply_placements(maps, matches.placement, placements)),
        k=min(CALIBRATION_NEIGHBORS, len(base.base)),
    )
    mean = neighbor_distances.mean(axis=1)
    return np.asarray(np.divide(matches.distance, mean, out=np.ones(len(mean)), where=mean > 0))


def _run_copying_tests(holdout: FeatureTable, generated: FeatureTable) -> dict[str, Any]:
    """Return the results of the copying tests, on one cube of each group: p-values assume independent cubes."""
    holdout, generated = (
        table.select(select_one_per_group(hashes=table.hashes, groups=table.groups)) for table in (holdout, generated)
    )
    copying = copying_test(
        holdout=holdout[DISTANCE],
        generated=generated[DISTANCE],
        holdout_cells=holdout[CELL],
        generated_cells=generated[CELL],
    )
    below, p = precedence_test(holdout=holdout[CALIBRATED_DISTANCE], generated=generated[CALIBRATED_DISTANCE])
    medians = {
        name: float(np.median(table[CALIBRATED_DISTANCE]))
        for name, table in (("samples", generated), ("held_out", holdout))
    }
    return {"copying": copying._asdict(), "calibrated": {**medians, "below_all_held_out": below, "p": p}}


def _select_visible(tests: Mapping[str, Any]) -> dict[str, float]:
    copying, calibrated = tests["copying"], tests["calibrated"]
    return {
        "C_T of the data-copying test (below 0: nearer to the training set than held-out cubes)": copying["c_t"],
        "data-copying test p, all samples": copying["p"],
        f"data-copying test p in the worst of {format_count(copying['cells'], 'cell')}": copying["worst_p"],
        "samples with a calibrated distance below every held-out cube's": calibrated["below_all_held_out"],
        "precedence test p": calibrated["p"],
    }


def _format_caveat(n_holdout: int, threshold: float) -> str:
    caveats = [CAVEAT]
    if n_holdout < MIN_HOLDOUT:
        caveats.append(
            f"the threshold is the minimum of {format_count(n_holdout, 'held-out distance')}: "
            f"its false-positive rate is about 1 in {n_holdout + 1}"
        )
    if threshold <= MAX_IDENTICAL_DISTANCE:
        caveats.append("held-out cubes are copies of training cubes: use a reference without training cubes")
    return "; ".join(caveats)
