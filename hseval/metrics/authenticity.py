"""``authenticity``: the share of samples that lie nearer to the training set than unseen real cubes do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hseval.errors import NotComputable
from hseval.hookspecs import Needs, ScoreParts
from hseval.metrics.copies import PLACEMENTS, Found, common_details, particulars, search, vectors
from hseval.neighbors import Neighbors
from hseval.options import option
from hseval.report import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hseval.rows import Rows

MAPS = "maps"
DISTANCE, NEAREST = "authenticity/distance", "authenticity/nearest"
SPACING, PLACEMENT = "authenticity/spacing", "authenticity/placement"
PERCENTILE = 0.01  # of the held-out cubes' distances: nearer than that counts as a copy
ENOUGH = 100  # held-out cubes below which the 1st percentile is the minimum
IDENTICAL = 1e-4  # distances up to this are rounding: a copy, whatever the held-out cubes say
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
        ``PLACEMENTS``: how the cube was turned and shifted to fit) and ``spacing`` (the distance of that
        training cube to its own nearest other one) to ``real`` and ``fake``; to ``train`` its own spacing, as
        ``distance``. Training cubes that are equal count as each other's neighbours, at distance 0.

        Raises:
            NotComputable: there is no training set.
        """
        if train is None or not len(train):
            raise NotComputable("needs --train")
        common = common_details(train[MAPS])
        maps = particulars(train[MAPS], common)
        base = Neighbors(vectors(maps), index=self.options.index)
        spacing = _spacing(maps, base)
        related = (
            rows.adding(_columns(search(particulars(rows[MAPS], common), base), train.ids, spacing))
            for rows in (real, fake)
        )
        return next(related), next(related), train.adding({DISTANCE: spacing})

    def compare(
        self, *, real: Rows, fake: Rows, train: Rows | None = None, rng: np.random.Generator
    ) -> ScoreParts:
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
        details = {
            "threshold": threshold,
            "held_out": len(held),
            "resolution": 1 / (len(held) + 1),
            "auth_pct": auth_pct,
            "median_ratio": ratio,
            "shown": {
                "AuthPct (0 to 100, higher is more authentic)": auth_pct,
                "median distance to the training set, samples / held-out": ratio,
                "a copy is nearer than": threshold,
            },
            "nearest_pairs": _nearest_pairs(fake),
            "caveat": _caveat(len(held), threshold),
        }
        return ScoreParts(copy_share(found, threshold), details)


def copy_threshold(held: NDArray[Any]) -> float:
    """Return the 1st percentile of held-out distances; below 100 of them that is the minimum.

    Inverted distribution function, so that at most 1 % of the held-out cubes themselves lie strictly below.
    """
    return float(np.quantile(held, PERCENTILE, method="inverted_cdf"))


def copy_share(distances: NDArray[Any], threshold: float) -> float:
    """Return the share of distances strictly below the threshold, or no more than rounding away from 0."""
    return float(np.mean((distances < threshold) | (distances <= IDENTICAL)))


def authentic_share(distances: NDArray[Any], spacing: NDArray[Any]) -> float:
    """Return the share of samples farther from their nearest training cube than that one is from the others.

    Alaa et al., How Faithful is your Synthetic Data, ICML 2022, section 4.3. Nothing is subtracted. NaN where
    the training set has one cube, and so no spacing.
    """
    return float(np.mean(distances > spacing)) if np.isfinite(spacing).all() else float("nan")


def _spacing(maps: NDArray[np.float32], base: Neighbors) -> NDArray[np.float64]:
    """Return each training cube's distance to its nearest other one; NaN where there is only one."""
    if len(maps) == 1:
        return np.full(1, np.nan)
    return search(maps, base, exclude=np.arange(len(maps))).distance


def _columns(found: Found, ids: NDArray[Any], spacing: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    return {
        DISTANCE: found.distance,
        NEAREST: np.asarray(ids)[found.row],
        SPACING: spacing[found.row],
        PLACEMENT: found.placement,
    }


def _nearest_pairs(fake: Rows) -> list[dict[str, Any]]:
    first = np.argsort(fake[DISTANCE], kind="stable")[:PAIRS]
    return [
        {
            "sample": str(fake.ids[i]),
            "training": str(fake[NEAREST][i]),
            "distance": float(fake[DISTANCE][i]),
            "placement": str(PLACEMENTS[fake[PLACEMENT][i]]),
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
