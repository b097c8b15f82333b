"""``authenticity``: the share of samples that lie nearer to the training set than unseen real cubes do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hseval.core.hookspecs import Needs, ScoreParts
from hseval.core.options import option
from hseval.core.report import Better
from hseval.metrics.copy_search import common_details, laid, particulars, placements, search, step_of, vectors
from hseval.metrics.copying_tests import (
    IDENTICAL,
    authentic_share,
    cell_of,
    centres_of,
    copy_rank,
    copy_share,
    copy_threshold,
    copying_test,
    one_a_group,
    precedence_test,
    profiles,
)
from hseval.stats.quantile_shares import Side, expected_shares
from hseval.utils.errors import NotComputable
from hseval.utils.nearest_neighbors import Neighbors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hseval.core.feature_table import Rows
    from hseval.metrics.copy_search import Found, Placement

MAPS, PIXELS = "maps", "maps/pixels"
DISTANCE, NEAREST = "authenticity/distance", "authenticity/nearest"
SPACING, PLACEMENT = "authenticity/spacing", "authenticity/placement"
CALIBRATED, CELL, STEP = "authenticity/calibrated", "authenticity/cell", "authenticity/step"
AROUND = 50  # nearest training cubes whose mean distance calibrates that to the nearest
ENOUGH = 100  # held-out cubes below which the 1st percentile is the minimum
PAIRS = 10  # nearest pairs that are named
CAVEAT = (
    "no proof of privacy: only copies that are turned, mirrored, shifted a little, brightened or noisy are looked "
    "for; a sample may still give away what a training cube shows"
)


class Authenticity:
    """Share of samples nearer to the training set than the 1st percentile of held-out real cubes."""

    name: ClassVar[str] = "authenticity"
    summary: ClassVar[str] = "share of samples that are nearer to the training set than unseen real cubes are"
    better: ClassVar[Better] = "lower"
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[Needs] = Needs(rows=(MAPS,), train=True)

    @dataclasses.dataclass(frozen=True)
    class Options:
        """What can be set."""

        index: Literal["exact", "ivf"] = option("exact", "neighbour search; ivf is approximate, for large sets")

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def relate(self, *, real: Rows, fake: Rows, train: Rows | None) -> tuple[Rows, Rows, Rows | None]:
        """Search each cube's nearest training cube, once.

        Adds ``distance`` (0 to 2), ``nearest`` (the training cube's id), ``placement`` (index into
        :func:`placements` of ``step``: how the cube was turned and shifted to fit), ``spacing`` (the distance of
        that training cube to its own nearest other one), ``calibrated`` (the distance over the mean distance to
        the 50 nearest training cubes) and ``cell`` (of a small partition of the training set) to ``real`` and
        ``fake``; to ``train`` its own spacing, as ``distance``. Training cubes that are equal count as each
        other's neighbours, at distance 0.

        Raises:
            NotComputable: there is no training set.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        common = common_details(train[MAPS])
        maps = particulars(train[MAPS], common)
        base = Neighbors(vectors(maps), index=self.options.index)
        step = step_of(train[PIXELS], maps.shape[-1])
        places = placements(step)
        spacing = _spacing(maps, base, places)
        centres = centres_of(profiles(train[MAPS]))

        def add(rows: Rows) -> Rows:
            own = particulars(rows[MAPS], common)
            found = search(own, base, places)
            columns = {
                DISTANCE: found.distance,
                NEAREST: np.asarray(train.ids)[found.row],
                SPACING: spacing[found.row],
                PLACEMENT: found.placement,
                CALIBRATED: _calibrated(own, found, base, places),
                CELL: cell_of(profiles(rows[MAPS]), centres),
                STEP: np.tile(step, (len(rows), 1)),
            }
            return rows.adding(columns)

        return add(real), add(fake), train.adding({DISTANCE: spacing})

    def compare(self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator) -> ScoreParts:
        """Return the share of samples below the held-out cubes' 1st percentile, and what stands behind it.

        Raises:
            NotComputable: there is no training set, or one side has no cube.
        """
        if DISTANCE not in fake.columns:
            real, fake, train = self.relate(real=real, fake=fake, train=train)
        if not len(real) or not len(fake):
            raise NotComputable(f"{len(real)} held-out cubes and {len(fake)} samples, expected at least 1 of each")
        held, found = real[DISTANCE], fake[DISTANCE]
        threshold = copy_threshold(held)
        auth_pct = authentic_share(found, fake[SPACING]) * 100
        ratio = float(np.median(found) / np.median(held)) if np.median(held) > 0 else float("nan")
        tests = _tested(real, fake)
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
                **_shown(tests),
            },
            "nearest_pairs": _nearest_pairs(fake),
            "caveat": _caveat(len(held), threshold),
        }
        return ScoreParts(copy_share(found, threshold), details)

    def shown_values(self, *, real: Rows, fake: Rows) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Return each cube's distance to its nearest training cube, held-out cubes and samples, for a histogram."""
        return {"distance to the nearest training cube": (real[DISTANCE], fake[DISTANCE])}

    def expected(
        self, *, real: Rows, fake: Rows, size: int, draws: int, rngs: tuple[np.random.Generator, np.random.Generator]
    ) -> NDArray[np.float64]:
        """Return draws of the expected share and its floor: what hangs on the nearest held-out cubes."""
        return expected_shares(
            real=Side(real[DISTANCE], real.groups),
            fake=Side(fake[DISTANCE], fake.groups),
            size=size,
            rank=copy_rank(size),
            draws=draws,
            rngs=rngs,
            always=IDENTICAL,
        )


def _spacing(maps: NDArray[np.float32], base: Neighbors, places: Sequence[Placement]) -> NDArray[np.float64]:
    """Return each training cube's distance to its nearest other one; NaN where there is only one."""
    if len(maps) == 1:
        return np.full(1, np.nan)
    return search(maps, base, places, exclude=np.arange(len(maps))).distance


def _calibrated(
    maps: NDArray[np.float32], found: Found, base: Neighbors, places: Sequence[Placement]
) -> NDArray[np.float64]:
    """Return each distance over the mean distance to the nearest training cubes, laid as it fits best.

    Carlini et al., Extracting training data from diffusion models, USENIX Security 2023, section 4.2, without their
    constant: a plain cube is near to every other, and is no copy for that. 1 where all distances are 0.
    """
    around, _ = base.nearest(vectors(laid(maps, found.placement, places)), k=min(AROUND, len(base.base)))
    mean = around.mean(axis=1)
    ratio: NDArray[np.float64] = np.divide(found.distance, mean, out=np.ones(len(mean)), where=mean > 0)
    return ratio


def _tested(held: Rows, fake: Rows) -> dict[str, Any]:
    """Return the tests of copying, on one cube of each group: p-values take cubes as independent."""
    held, fake = (rows.take(one_a_group(hashes=rows.hashes, groups=rows.groups)) for rows in (held, fake))
    copying = copying_test(held=held[DISTANCE], found=fake[DISTANCE], held_cells=held[CELL], found_cells=fake[CELL])
    below, p = precedence_test(held=held[CALIBRATED], found=fake[CALIBRATED])
    medians = {name: float(np.median(rows[CALIBRATED])) for name, rows in (("samples", fake), ("held_out", held))}
    return {"copying": copying._asdict(), "calibrated": {**medians, "below_all_held_out": below, "p": p}}


def _shown(tests: Mapping[str, Any]) -> dict[str, float]:
    copying, calibrated = tests["copying"], tests["calibrated"]
    return {
        "C_T, data-copying (below 0: nearer to the training set than unseen cubes)": copying["c_t"],
        "p that samples as a whole are no nearer": copying["p"],
        f"the same in the worst of {copying['cells']} cells": copying["worst_p"],
        "samples whose calibrated distance is below every held-out cube's": calibrated["below_all_held_out"],
        "p of so many": calibrated["p"],
    }


def _nearest_pairs(fake: Rows) -> list[dict[str, Any]]:
    places = placements(tuple(fake[STEP][0]))
    first = np.argsort(fake[DISTANCE], kind="stable")[:PAIRS]
    return [
        {
            "sample": str(fake.ids[i]),
            "training": str(fake[NEAREST][i]),
            "distance": float(fake[DISTANCE][i]),
            "placement": str(places[fake[PLACEMENT][i]]),
        }
        for i in first
    ]


def _caveat(held: int, threshold: float) -> str:
    said = [CAVEAT]
    if held < ENOUGH:
        said.append(f"the threshold is the minimum of {held} held-out distances, so it errs by about 1 in {held + 1}")
    if threshold <= IDENTICAL:
        said.append("held-out cubes are copies of training cubes: give a reference that the training set lacks")
    return "; ".join(said)
