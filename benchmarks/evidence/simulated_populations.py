"""Simulated rows, so that the truth is known: what ``coverage.py`` and ``verdicts.py`` draw their sets from.

Rows of every extractor that a metric reads, Gaussian or with heavy tails, alone or in groups that share half of their
variance, and moved away from the reference by a chosen amount. Sets drawn so go the way of any score: the metric's own
``relate`` on the full sets, the core's splits, floor, interval and verdict.

Two metrics look at the cubes themselves and get stand-ins that keep their statistics: ``authenticity`` and
``membership`` compare distances that are drawn (of points in four dimensions) and not searched among maps.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.helpers import machine  # noqa: F401 - finds a checkout that is not installed
from hseval.core.cubes import FOV, ArraySet
from hseval.core.feature_table import UNGROUPED_PREFIX, FeatureTable
from hseval.core.hookspecs import Needs, ScoreParts
from hseval.metrics.authenticity import DISTANCE, Authenticity
from hseval.metrics.copying_tests import compute_copy_share, compute_copy_threshold
from hseval.metrics.membership import Membership, attack_auc
from hseval.metrics.ms_ssim import MsSsim
from hseval.pipeline.context import ExtractedInputs
from hseval.pipeline.extract import ExtractedSet
from hseval.pipeline.inputs import InputSets
from hseval.pipeline.pair_blocks import draw_pair_blocks
from hseval.utils.random_streams import create_rng

Float64Array = NDArray[np.float64]

STRUCTURES, BANDS, LEVELS, BINS, POINTS = ("artery", FOV), 4, 64, 6, 4
FEATURES = 30
NO_CUBES = ArraySet(np.zeros((1, BANDS, 1, 1), dtype=np.float32))
KINDS = {
    **dict.fromkeys(("fid", "kid", "prdc", "vendi"), "features"),
    **dict.fromkeys(("spectral-kl", "spectral-angle", "band-covariance", "plausibility"), "spectra"),
    **{"power-spectrum": "power", "ms-ssim": "pairs", "authenticity": "distances", "membership": "points"},
}


@dataclasses.dataclass(frozen=True)
class Population:
    """What cubes are drawn from.

    Attributes:
        kind: which rows: a value of ``KINDS``, or several of them.
        away: how far from the reference; 0: the same distribution, 1: slightly, 4: far.
        heavy: every cube is scaled by a random gain, 1 plus an exponential of mean 0.5.
        group: cubes to a group; they share half of their variance.
        features: their number.
    """

    kind: tuple[str, ...]
    away: float = 0.0
    heavy: bool = False
    group: int = 1
    features: int = FEATURES

    def draw(self, n: int, rng: np.random.Generator) -> FeatureTable:
        """Return ``n`` rows, sorted by content as the core does."""
        gain = 1 + rng.exponential(0.5, n) if self.heavy else np.ones(n)
        sizes = {"cubes": n, "groups": -(-n // self.group)}
        columns: dict[str, NDArray[Any]] = {}
        for kind in self.kind:
            columns |= _DRAWN[kind](_Mixed(rng, sizes["groups"], self.group, n), gain, self)
        names = np.array([rng.bytes(8).hex() for _ in range(n)])
        groups = np.array([UNGROUPED_PREFIX + name for name in names] if self.group == 1 else _grouped(n, self.group))
        if "pairs" in self.kind:
            return _paired_rows(columns["points"], groups, rng)
        return _rows(columns, names, groups)


class MsSsimOfRows(MsSsim):
    """``ms-ssim`` on rows of blocks that are drawn already."""

    @property
    def needs(self) -> Needs:
        """The drawn blocks' rows."""
        return Needs(features=("ms-ssim", "pairs"))


class AuthenticityOfDistances(Authenticity):
    """``authenticity`` on distances that are drawn."""

    needs = Needs(features=("authenticity",), train=True)

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Return the rows as they are."""
        return real, generated, train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the share of samples nearer than the held-out cubes' 1st percentile."""
        return ScoreParts(compute_copy_share(generated[DISTANCE], compute_copy_threshold(real[DISTANCE])))


class MembershipOfPoints(Membership):
    """``membership`` of points, searched anew."""

    needs = Needs(features=("points",), train=True)

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Return the rows as they are."""
        return real, generated, train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the attack's AUC by the distance to the nearest sample."""
        assert train is not None
        return ScoreParts(attack_auc(members=_nearest(train, generated), nonmembers=_nearest(real, generated)))


def metrics_of(names: tuple[str, ...]) -> list[Any]:
    """Return metrics by name, on simulated rows."""
    from hseval.core.plugin_manager import get_plugins

    stand_ins = {each.name: each for each in (MsSsimOfRows, AuthenticityOfDistances, MembershipOfPoints)}
    return [stand_ins[name]() if name in stand_ins else get_plugins().build("metric", name) for name in names]


def described(real: FeatureTable, generated: FeatureTable, *, train: FeatureTable | None = None) -> ExtractedInputs:
    """Return rows as if sets of cubes had been described."""
    sets = InputSets(samples=NO_CUBES, reference=NO_CUBES, train=None)
    reference, samples, training = (None if rows is None else _description(rows) for rows in (real, generated, train))
    assert reference is not None and samples is not None
    return ExtractedInputs(sets=sets, plans={}, samples=samples, reference=reference, train=training)


def training(kind: tuple[str, ...]) -> FeatureTable:
    """Return the training set: the same in every draw, as the scores take it as given."""
    return Population(kind).draw(40, create_rng(0, "simulated training set"))


def _description(rows: FeatureTable) -> ExtractedSet:
    blank = ("",) * len(rows)
    return ExtractedSet(
        rows, np.arange(len(rows)), content_hashes=blank, mask_hashes=blank, invalid_ids=(), computed_count=0
    )


def _grouped(n: int, size: int) -> list[str]:
    return [f"group-{i // size}" for i in range(n)]


def _rows(columns: dict[str, NDArray[Any]], names: NDArray[Any], groups: NDArray[Any]) -> FeatureTable:
    rows = FeatureTable(columns, names, names, groups, np.linspace(450.0, 905.0, BANDS), structures=STRUCTURES)
    return rows.select(np.argsort(names, kind="stable"))


@dataclasses.dataclass(frozen=True)
class _Mixed:
    """Draws standard normal numbers, half of whose variance a group's cubes share."""

    rng: np.random.Generator
    groups: int
    size: int
    n: int

    def normal(self, *shape: int) -> Float64Array:
        own = self.rng.standard_normal((self.n, *shape))
        if self.size == 1:
            return own
        shared = self.rng.standard_normal((self.groups, *shape))[np.arange(self.n) // self.size]
        return np.asarray(np.sqrt(0.5) * (own + shared))


def _features(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    """Ten strong factors and noise, moved along a ramp."""
    factors = draw.normal(10) * np.linspace(2, 0.5, 10)
    found = factors @ mixing(of.features) + 0.6 * draw.normal(of.features)
    return {"scattering": found * gain[:, None] + 0.3 * of.away * np.linspace(0, 1, of.features)}


@cache
def mixing(dimension: int) -> Float64Array:
    """Return how factors add up to features: the same for every draw."""
    return create_rng(0, "verdicts mixing").standard_normal((10, dimension)) / 2


def _spectra(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    """Pixels are normal around a cube's own mean spectrum, times its gain; bands go together, more in some cubes.

    Away from the reference spectra are tilted, brighter, noisier, and bands go together less.
    """
    n, shape = len(gain), (len(STRUCTURES), BANDS)
    tilt = 1 + 0.015 * of.away * np.linspace(0, 1, BANDS)
    centre = (0.3 + 0.03 * draw.normal(1, 1) + 0.01 * draw.normal(*shape)) * tilt
    pixels = np.sort(centre[..., None] + 0.05 * draw.rng.standard_normal((n, *shape, LEVELS)), axis=-1)
    levels = pixels * gain[:, None, None, None]
    together = np.clip(0.5 - 0.03 * of.away + 0.1 * draw.normal(len(STRUCTURES)), 0.05, 0.95)
    down, right = np.triu_indices(BANDS)
    cov = np.where(down == right, 1.0, together[..., None] + 0.05 * draw.normal(len(STRUCTURES), len(down)))
    at = ((np.array([0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0])) * (LEVELS - 1)).round().astype(int)
    return {
        "spectra/levels": levels.astype(np.float32),
        "spectra/pixels": np.full((n, len(STRUCTURES)), 500.0),
        "spectra/mean": levels.mean(axis=-1),
        "spectra/cov": cov * 0.05**2 * gain[:, None, None] ** 2,
        "values/quantiles": levels[:, -1][..., at],
        "noise-level": 0.01 * np.exp(0.1 * draw.normal(BANDS) + 0.03 * of.away) * gain[:, None],
    }


def _power(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    """Decibels that fall with frequency; all of a cube's, and all of a bin's, go up and down together."""
    moved = 2 * draw.normal(1, 1) + draw.normal(1, BINS) + 0.5 * draw.normal(BANDS, BINS)
    fall = (-3.0 - 0.15 * of.away) * np.arange(BINS)
    return {"power/db": fall + moved * gain[:, None, None], "power/modes": np.full((len(gain), BINS), 50.0)}


def _points(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    """Points; away from the reference they crowd together, and some lie on a training point."""
    points = draw.normal(POINTS) * np.sqrt(gain)[:, None] * (1 - 0.07 * of.away)
    return {"points": points}


def _near_training(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    found = _points(draw, gain, of)["points"] / (1 - 0.07 * of.away)
    if of.away:
        copies = draw.rng.random(len(found)) < 0.08 * of.away
        base = training(("points-alone",))["points"]
        near = base[draw.rng.integers(len(base), size=len(found))]
        found = np.where(copies[:, None], near + 0.1 * draw.rng.standard_normal(found.shape), found)
    return {"points": found}


def _distances(draw: _Mixed, gain: Float64Array, of: Population) -> dict[str, NDArray[Any]]:
    """Log-normal distances to the training set; away from the reference all are nearer, and some are copies."""
    found = 0.9 * np.exp(0.1 * draw.normal() * gain) * (1 - 0.06 * of.away)
    copies = draw.rng.random(len(found)) < 0.02 * of.away
    return {DISTANCE: np.where(copies, 0.1 * found, found)}


def _nearest(rows: FeatureTable, among: FeatureTable) -> Float64Array:
    difference = rows["points"][:, None] - among["points"]
    return np.asarray(np.sqrt(np.square(difference).sum(axis=-1)).min(axis=1))


def _paired_rows(points: Float64Array, groups: NDArray[Any], rng: np.random.Generator) -> FeatureTable:
    """Return one row a block: the mean similarity of its pairs of points, which falls with their distance."""
    dealt = draw_pair_blocks(groups=groups.tolist(), shapes=[(1,)] * len(points), pairs=960, rng=rng)
    upper = [np.triu_indices(len(block.cube_indices), 1) for block in dealt]
    apart = [
        np.square(points[list(b.cube_indices)][:, None] - points[list(b.cube_indices)]).sum(axis=-1) for b in dealt
    ]
    value = np.array([np.exp(-each[where] / 8).mean() for each, where in zip(apart, upper, strict=True)])
    pairs = np.array([float(len(where[0])) for where in upper])
    columns = {
        "ms-ssim/2d": np.repeat(value[:, None], 5, axis=1),
        "ms-ssim/3d": np.repeat(value[:, None], 5, axis=1),
        "ms-ssim/2d-by-band": np.broadcast_to(value[:, None, None], (len(value), 5, BANDS)),
        "ms-ssim/pairs": np.repeat(pairs[:, None], 5, axis=1),
        "ms-ssim/offered": pairs,
        "pairs/cubes": np.array([len(block.cube_indices) for block in dealt]),
    }
    names = np.array([rng.bytes(8).hex() for _ in dealt])
    return _rows(columns, names, np.array([f"bin-{block.group_bin}" for block in dealt]))


_DRAWN = {
    "features": _features,
    "spectra": _spectra,
    "power": _power,
    "pairs": _points,
    "points-alone": _points,
    "points": _near_training,
    "distances": _distances,
}
