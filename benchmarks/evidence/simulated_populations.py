"""Simulated features with known distribution, for ``coverage.py`` and ``verdicts.py``.

They replace the features of every extractor that a metric reads: Gaussian or with heavy tails, independent or in groups
that share half of their variance, and shifted away from the reference by a chosen amount. The sets are scored as usual:
the metric's own ``relate`` on the full sets, then splits, floor, interval and verdict.

Two metrics search among the cubes themselves and are replaced by versions with the same statistics: ``authenticity``
and ``membership`` compare distances that are simulated (of points in four dimensions) instead of searched among maps.
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
from hseval.core.protocols import Needs, ScoreParts
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
    """The distribution of a set.

    Attributes:
        kind: which features: one or several values of ``KINDS``.
        away: distance from the reference; 0: the same distribution, 1: slightly different, 4: far.
        heavy: every cube is scaled by a random gain, 1 plus an exponential of mean 0.5.
        group: cubes per group; they share half of their variance.
        features: number of features.
    """

    kind: tuple[str, ...]
    away: float = 0.0
    heavy: bool = False
    group: int = 1
    features: int = FEATURES

    def draw(self, n: int, rng: np.random.Generator) -> FeatureTable:
        """Return features of ``n`` cubes, sorted by content as in a score."""
        gain = 1 + rng.exponential(0.5, n) if self.heavy else np.ones(n)
        sizes = {"cubes": n, "groups": -(-n // self.group)}
        columns: dict[str, NDArray[Any]] = {}
        for kind in self.kind:
            columns |= _DRAW_FUNCTIONS[kind](_GroupedNormal(rng, sizes["groups"], self.group, n), gain, self)
        names = np.array([rng.bytes(8).hex() for _ in range(n)])
        groups = np.array(
            [UNGROUPED_PREFIX + name for name in names] if self.group == 1 else _name_groups(n, self.group)
        )
        if "pairs" in self.kind:
            return _draw_pair_features(columns["points"], groups, rng)
        return _build_features(columns, names, groups)


class MsSsimOfFeatures(MsSsim):
    """``ms-ssim`` on simulated features of pair blocks."""

    @property
    def needs(self) -> Needs:
        """The features of the simulated pair blocks."""
        return Needs(features=("ms-ssim", "pairs"))


class AuthenticityOfDistances(Authenticity):
    """``authenticity`` on simulated distances."""

    needs = Needs(features=("authenticity",), train=True)

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Return the features unchanged."""
        return real, generated, train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the share of samples nearer than the held-out cubes' 1st percentile."""
        return ScoreParts(compute_copy_share(generated[DISTANCE], compute_copy_threshold(real[DISTANCE])))


class MembershipOfPoints(Membership):
    """``membership`` on simulated points."""

    needs = Needs(features=("points",), train=True)

    def relate(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None
    ) -> tuple[FeatureTable, FeatureTable, FeatureTable | None]:
        """Return the features unchanged."""
        return real, generated, train

    def compare(
        self, *, real: FeatureTable, generated: FeatureTable, train: FeatureTable | None = None, rng: Any
    ) -> ScoreParts:
        """Return the attack's AUC by the distance to the nearest sample."""
        assert train is not None
        return ScoreParts(
            attack_auc(
                members=_compute_nearest_distances(train, generated),
                nonmembers=_compute_nearest_distances(real, generated),
            )
        )


def build_metrics(names: tuple[str, ...]) -> list[Any]:
    """Return metrics by name, for simulated features."""
    from hseval.core.plugin_manager import get_plugins

    simulated = {metric.name: metric for metric in (MsSsimOfFeatures, AuthenticityOfDistances, MembershipOfPoints)}
    return [simulated[name]() if name in simulated else get_plugins().build("metric", name) for name in names]


def build_inputs(real: FeatureTable, generated: FeatureTable, *, train: FeatureTable | None = None) -> ExtractedInputs:
    """Return features as if they had been extracted from sets of cubes."""
    tables = {"samples": generated, "reference": real, "train": train}
    extracted = {role: _build_extracted_set(table) for role, table in tables.items() if table is not None}
    return ExtractedInputs(InputSets(NO_CUBES, NO_CUBES), {}, extracted)


def draw_training_set(kind: tuple[str, ...]) -> FeatureTable:
    """Return the training set: the same in every draw, as scores are conditional on it."""
    return Population(kind).draw(40, create_rng(0, "simulated training set"))


def _build_extracted_set(features: FeatureTable) -> ExtractedSet:
    blank = ("",) * len(features)
    return ExtractedSet(
        features, np.arange(len(features)), content_hashes=blank, mask_hashes=blank, invalid_ids=(), computed_count=0
    )


def _name_groups(n: int, size: int) -> list[str]:
    return [f"group-{i // size}" for i in range(n)]


def _build_features(columns: dict[str, NDArray[Any]], names: NDArray[Any], groups: NDArray[Any]) -> FeatureTable:
    features = FeatureTable(columns, names, names, groups, np.linspace(450.0, 905.0, BANDS), structures=STRUCTURES)
    return features.select(np.argsort(names, kind="stable"))


@dataclasses.dataclass(frozen=True)
class _GroupedNormal:
    """Draw standard normal numbers; the cubes of a group share half of their variance."""

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


def _draw_features(draw: _GroupedNormal, gain: Float64Array, population: Population) -> dict[str, NDArray[Any]]:
    """Draw ten strong factors and noise, shifted along a ramp."""
    factors = draw.normal(10) * np.linspace(2, 0.5, 10)
    features = factors @ draw_mixing_matrix(population.features) + 0.6 * draw.normal(population.features)
    return {"scattering": features * gain[:, None] + 0.3 * population.away * np.linspace(0, 1, population.features)}


@cache
def draw_mixing_matrix(dimension: int) -> Float64Array:
    """Return the factor loadings of the features: the same for every draw."""
    return create_rng(0, "verdicts mixing").standard_normal((10, dimension)) / 2


def _draw_spectra(draw: _GroupedNormal, gain: Float64Array, population: Population) -> dict[str, NDArray[Any]]:
    """Draw pixels from a normal around a cube's own mean spectrum, times its gain, with correlated bands.

    Away from the reference, spectra are tilted, brighter and noisier, and bands are less correlated.
    """
    n, shape = len(gain), (len(STRUCTURES), BANDS)
    tilt = 1 + 0.015 * population.away * np.linspace(0, 1, BANDS)
    center = (0.3 + 0.03 * draw.normal(1, 1) + 0.01 * draw.normal(*shape)) * tilt
    pixels = np.sort(center[..., None] + 0.05 * draw.rng.standard_normal((n, *shape, LEVELS)), axis=-1)
    levels = pixels * gain[:, None, None, None]
    correlation = np.clip(0.5 - 0.03 * population.away + 0.1 * draw.normal(len(STRUCTURES)), 0.05, 0.95)
    row, column = np.triu_indices(BANDS)
    cov = np.where(row == column, 1.0, correlation[..., None] + 0.05 * draw.normal(len(STRUCTURES), len(row)))
    at = ((np.array([0.0, 0.001, 0.01, 0.5, 0.99, 0.999, 1.0])) * (LEVELS - 1)).round().astype(int)
    return {
        "spectra/quantiles": levels.astype(np.float32),
        "spectra/pixels": np.full((n, len(STRUCTURES)), 500.0),
        "spectra/mean": levels.mean(axis=-1),
        "spectra/cov": cov * 0.05**2 * gain[:, None, None] ** 2,
        "values/quantiles": levels[:, -1][..., at],
        "noise-level": 0.01 * np.exp(0.1 * draw.normal(BANDS) + 0.03 * population.away) * gain[:, None],
    }


def _draw_power(draw: _GroupedNormal, gain: Float64Array, population: Population) -> dict[str, NDArray[Any]]:
    """Draw decibels that fall with frequency, correlated within a cube and within a frequency bin."""
    shift = 2 * draw.normal(1, 1) + draw.normal(1, BINS) + 0.5 * draw.normal(BANDS, BINS)
    fall = (-3.0 - 0.15 * population.away) * np.arange(BINS)
    return {"power/db": fall + shift * gain[:, None, None], "power/modes": np.full((len(gain), BINS), 50.0)}


def _draw_points(draw: _GroupedNormal, gain: Float64Array, population: Population) -> dict[str, NDArray[Any]]:
    """Draw points; away from the reference they are more concentrated."""
    points = draw.normal(POINTS) * np.sqrt(gain)[:, None] * (1 - 0.07 * population.away)
    return {"points": points}


def _draw_points_near_training(
    draw: _GroupedNormal, gain: Float64Array, population: Population
) -> dict[str, NDArray[Any]]:
    """Draw points; away from the reference some are near a training point."""
    points = _draw_points(draw, gain, population)["points"] / (1 - 0.07 * population.away)
    if population.away:
        copies = draw.rng.random(len(points)) < 0.08 * population.away
        base = draw_training_set(("points-alone",))["points"]
        near = base[draw.rng.integers(len(base), size=len(points))]
        points = np.where(copies[:, None], near + 0.1 * draw.rng.standard_normal(points.shape), points)
    return {"points": points}


def _draw_distances(draw: _GroupedNormal, gain: Float64Array, population: Population) -> dict[str, NDArray[Any]]:
    """Draw log-normal distances to the training set; away from the reference all are nearer, and some are copies."""
    distances = 0.9 * np.exp(0.1 * draw.normal() * gain) * (1 - 0.06 * population.away)
    copies = draw.rng.random(len(distances)) < 0.02 * population.away
    return {DISTANCE: np.where(copies, 0.1 * distances, distances)}


def _compute_nearest_distances(features: FeatureTable, base: FeatureTable) -> Float64Array:
    difference = features["points"][:, None] - base["points"]
    return np.asarray(np.sqrt(np.square(difference).sum(axis=-1)).min(axis=1))


def _draw_pair_features(points: Float64Array, groups: NDArray[Any], rng: np.random.Generator) -> FeatureTable:
    """Return features of pair blocks: the mean similarity of their pairs of points, which falls with distance."""
    blocks = draw_pair_blocks(groups=groups.tolist(), shapes=[(1,)] * len(points), pairs=960, rng=rng)
    upper = [np.triu_indices(len(block.cube_indices), 1) for block in blocks]
    squared_distances = [
        np.square(points[list(b.cube_indices)][:, None] - points[list(b.cube_indices)]).sum(axis=-1) for b in blocks
    ]
    value = np.array([np.exp(-d[indices] / 8).mean() for d, indices in zip(squared_distances, upper, strict=True)])
    pairs = np.array([float(len(indices[0])) for indices in upper])
    columns = {
        "ms-ssim/2d": np.repeat(value[:, None], 5, axis=1),
        "ms-ssim/3d": np.repeat(value[:, None], 5, axis=1),
        "ms-ssim/2d-by-band": np.broadcast_to(value[:, None, None], (len(value), 5, BANDS)),
        "ms-ssim/pairs": np.repeat(pairs[:, None], 5, axis=1),
        "ms-ssim/offered": pairs,
        "pairs/cubes": np.array([len(block.cube_indices) for block in blocks]),
    }
    names = np.array([rng.bytes(8).hex() for _ in blocks])
    return _build_features(columns, names, np.array([f"bin-{block.group_bin}" for block in blocks]))


_DRAW_FUNCTIONS = {
    "features": _draw_features,
    "spectra": _draw_spectra,
    "power": _draw_power,
    "pairs": _draw_points,
    "points-alone": _draw_points,
    "points": _draw_points_near_training,
    "distances": _draw_distances,
}
