"""``authenticity``: the share of samples that lie nearer to the training set than unseen real cubes do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
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
    compute_authentic_share,
    compute_copy_rank,
    compute_copy_share,
    compute_copy_threshold,
    compute_profiles,
    copying_test,
    fit_cell_centers,
    precedence_test,
    select_one_per_group,
)
from hseval.stats.quantile_shares import GroupedValues, draw_expected_shares
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import NearestNeighbors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hseval.core.feature_table import FeatureTable
    from hseval.metrics.copy_search import NearestMatches, Placement

LOWRES_MAPS, MAP_EXTENTS = "maps", "maps/pixels"
DISTANCE, NEAREST_ID = "authenticity/distance", "authenticity/nearest"
NN_DISTANCE, PLACEMENT = "authenticity/spacing", "authenticity/placement"
CALIBRATED_DISTANCE, CELL, SHIFT_STEP = "authenticity/calibrated", "authenticity/cell", "authenticity/step"
CALIBRATION_NEIGHBORS = 50  # nearest training cubes whose mean distance calibrates that to the nearest
MIN_HOLDOUT = 100  # held-out cubes below which the 1st percentile is the minimum
MAX_REPORTED_PAIRS = 10  # nearest pairs that are named
CAVEAT = (
    "no proof of privacy: only copies that are turned, mirrored, shifted a little, brightened or noisy are looked "
    "for; a sample may still give away what a training cube shows"
)


class Authenticity:
    """Share of samples nearer to the training set than the 1st percentile of held-out real cubes."""

    name: ClassVar[str] = "authenticity"
    summary: ClassVar[str] = "share of samples that are nearer to the training set than unseen real cubes are"
    better: ClassVar[Direction] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[Needs] = Needs(features=(LOWRES_MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        index: Literal["exact", "ivf"] = option("exact", "neighbour search; ivf is approximate, for large sets")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Search each cube's nearest training cube, once.

        Adds ``distance`` (0 to 2), ``nearest`` (the training cube's id), ``placement`` (index into
        :func:`placements` of ``step``: how the cube was turned and shifted to fit), ``spacing`` (the distance of
        that training cube to its own nearest other one), ``calibrated`` (the distance over the mean distance to
        the 50 nearest training cubes) and ``cell`` (of a small partition of the training set) to ``real`` and
        ``generated``; to ``train`` its own spacing, as ``distance``. Training cubes that are equal count as each
        other's neighbours, at distance 0.

        Raises:
            NotComputable: there is no training set.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        common = compute_common_details(train[LOWRES_MAPS])
        maps = compute_residual_details(train[LOWRES_MAPS], common)
        base = NearestNeighbors(to_unit_vectors(maps), index=self.options.index)
        step = compute_shift_step(train[MAP_EXTENTS], maps.shape[-1])
        places = list_placements(step)
        spacing = _compute_nn_distances(maps, base, places)
        centres = fit_cell_centers(compute_profiles(train[LOWRES_MAPS]))

        def add(rows: FeatureTable) -> FeatureTable:
            own = compute_residual_details(rows[LOWRES_MAPS], common)
            found = find_nearest(own, base, places)
            columns = {
                DISTANCE: found.distance,
                NEAREST_ID: np.asarray(train.ids)[found.row],
                NN_DISTANCE: spacing[found.row],
                PLACEMENT: found.placement,
                CALIBRATED_DISTANCE: _calibrate_distances(own, found, base, places),
                CELL: assign_cells(compute_profiles(rows[LOWRES_MAPS]), centres),
                SHIFT_STEP: np.tile(step, (len(rows), 1)),
            }
            return rows.add_columns(columns)

        return add(real), add(generated), train.add_columns({DISTANCE: spacing})

    def compare(
        self,
        *,
        real: FeatureTable,
        generated: FeatureTable,
        train: FeatureTable | None = None,
        rng: np.random.Generator,
    ) -> ScoreParts:
        """Return the share of samples below the held-out cubes' 1st percentile, and what stands behind it.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if DISTANCE not in generated.columns:
            real, generated, train = self.relate(real=real, generated=generated, train=train)
        if not len(real) or not len(generated):
            raise NotComputable(f"{len(real)} held-out cubes and {len(generated)} samples, expected at least 1 of each")
        held, found = real[DISTANCE], generated[DISTANCE]
        threshold = compute_copy_threshold(held)
        auth_pct = compute_authentic_share(found, generated[NN_DISTANCE]) * 100
        ratio = float(np.median(found) / np.median(held)) if np.median(held) > 0 else float("nan")
        tests = _run_copying_tests(real, generated)
        details = {
            "threshold": threshold,
            "held_out": len(held),
            "resolution": 1 / (len(held) + 1),
            "auth_pct": auth_pct,
            "median_ratio": ratio,
            **tests,
            "shown": {
                "AuthPct (0 to 100, higher is more authentic)": auth_pct,
                "median distance to the training set, samples / held-out": ratio,
                "a copy is nearer than": threshold,
                **_select_visible(tests),
            },
            "nearest_pairs": _list_nearest_pairs(generated),
            "caveat": _format_caveat(len(held), threshold),
        }
        return ScoreParts(compute_copy_share(found, threshold), details)

    def shown_values(
        self, *, real: FeatureTable, generated: FeatureTable
    ) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
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
    ) -> NDArray[np.float64]:
        """Return draws of the expected share and its floor: what hangs on the nearest held-out cubes."""
        return draw_expected_shares(
            real=GroupedValues(real[DISTANCE], real.groups),
            generated=GroupedValues(generated[DISTANCE], generated.groups),
            size=size,
            rank=compute_copy_rank(size),
            draws=draws,
            rngs=rngs,
            always_below=MAX_IDENTICAL_DISTANCE,
        )


def _compute_nn_distances(
    maps: NDArray[np.float32], base: NearestNeighbors, placements: Sequence[Placement]
) -> NDArray[np.float64]:
    """Return each training cube's distance to its nearest other one; NaN where there is only one."""
    if len(maps) == 1:
        return np.full(1, np.nan)
    return find_nearest(maps, base, placements, exclude=np.arange(len(maps))).distance


def _calibrate_distances(
    maps: NDArray[np.float32], matches: NearestMatches, base: NearestNeighbors, placements: Sequence[Placement]
) -> NDArray[np.float64]:
    """Return each distance over the mean distance to the nearest training cubes, laid as it fits best.

    Carlini et al., Extracting training data from diffusion models, USENIX Security 2023, section 4.2, without their
    constant: a plain cube is near to every other, and is no copy for that. 1 where all distances are 0.
    """
    around, _ = base.find_nearest(
        to_unit_vectors(apply_placements(maps, matches.placement, placements)),
        k=min(CALIBRATION_NEIGHBORS, len(base.base)),
    )
    mean = around.mean(axis=1)
    ratio: NDArray[np.float64] = np.divide(matches.distance, mean, out=np.ones(len(mean)), where=mean > 0)
    return ratio


def _run_copying_tests(holdout: FeatureTable, generated: FeatureTable) -> dict[str, Any]:
    """Return the tests of copying, on one cube of each group: p-values take cubes as independent."""
    holdout, generated = (
        rows.select(select_one_per_group(hashes=rows.hashes, groups=rows.groups)) for rows in (holdout, generated)
    )
    copying = copying_test(
        holdout=holdout[DISTANCE],
        generated=generated[DISTANCE],
        holdout_cells=holdout[CELL],
        generated_cells=generated[CELL],
    )
    below, p = precedence_test(holdout=holdout[CALIBRATED_DISTANCE], generated=generated[CALIBRATED_DISTANCE])
    medians = {
        name: float(np.median(rows[CALIBRATED_DISTANCE]))
        for name, rows in (("samples", generated), ("held_out", holdout))
    }
    return {"copying": copying._asdict(), "calibrated": {**medians, "below_all_held_out": below, "p": p}}


def _select_visible(tests: Mapping[str, Any]) -> dict[str, float]:
    copying, calibrated = tests["copying"], tests["calibrated"]
    return {
        "C_T, data-copying (below 0: nearer to the training set than unseen cubes)": copying["c_t"],
        "p that samples as a whole are no nearer": copying["p"],
        f"the same in the worst of {copying['cells']} cells": copying["worst_p"],
        "samples whose calibrated distance is below every held-out cube's": calibrated["below_all_held_out"],
        "p of so many": calibrated["p"],
    }


def _list_nearest_pairs(generated: FeatureTable) -> list[dict[str, Any]]:
    places = list_placements(tuple(generated[SHIFT_STEP][0]))
    first = np.argsort(generated[DISTANCE], kind="stable")[:MAX_REPORTED_PAIRS]
    return [
        {
            "sample": str(generated.ids[i]),
            "training": str(generated[NEAREST_ID][i]),
            "distance": float(generated[DISTANCE][i]),
            "placement": str(places[generated[PLACEMENT][i]]),
        }
        for i in first
    ]


def _format_caveat(n_holdout: int, threshold: float) -> str:
    said = [CAVEAT]
    if n_holdout < MIN_HOLDOUT:
        said.append(
            f"the threshold is the minimum of {n_holdout} held-out distances, so it errs by about 1 in {n_holdout + 1}"
        )
    if threshold <= MAX_IDENTICAL_DISTANCE:
        said.append("held-out cubes are copies of training cubes: give a reference that the training set lacks")
    return "; ".join(said)
