"""The records that stand behind a score: its splits, what its comparison with another score needs, and its masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

Interval = tuple[float, float]
Figures = tuple[float, float, float]  # value, floor and excess


@dataclasses.dataclass(frozen=True)
class StoredReplicates:
    """The jackknife's replicates of a score's figures (value, floor, excess), as a report stores them.

    Attributes:
        splits: the figures of every split, in complementary pairs.
        used_splits: splits that the replicates are means over.
        real: the figures with one block of the reference left out.
        real_pairs: second-order effects of pairs of blocks of the reference.
        generated_blocks: blocks of the samples.
        generated_pairs: pairs of blocks of the samples.
        generated_variance: the samples' part of the variance.
        second_order_variance: what is subtracted from it, as the jackknife counts second-order effects twice.
        shares: share of the reference's and of the samples' cubes that a split uses; None: the figures are not those
            of a signed difference.
    """

    splits: tuple[Figures, ...]
    used_splits: int
    real: tuple[Figures, ...]
    real_pairs: tuple[Figures, ...]
    generated_blocks: int
    generated_pairs: int
    generated_variance: Figures
    second_order_variance: Figures
    shares: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse replicates that no jackknife returns."""
        if not (self.splits and self.used_splits > 0 and min(len(self.real), self.generated_blocks) > 1):
            raise ValueError("replicates of too few splits or blocks")
        if min(self.generated_pairs, *self.generated_variance, *self.second_order_variance) < 0:
            raise ValueError("a negative variance or number of pairs")


@dataclasses.dataclass(frozen=True)
class Resamples:
    """What a paired comparison with another score needs: the settings that both must share, and replicates or draws.

    Attributes:
        seed: the seed.
        size: reference cubes per side of a split.
        reference: hash of the reference's cubes.
        train: hash of the training set's; None: the metric does not use it.
        settings: the metric's name, version and options.
        replicates: of the jackknife; None where there are draws.
        draws: from the posterior of the expected value, where the metric draws it itself (``Metric.expected``).
    """

    seed: int
    size: int
    reference: str
    train: str | None
    settings: tuple[str, ...]
    replicates: StoredReplicates | None = None
    draws: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a record without replicates and draws, or with both."""
        if (self.replicates is None) == (not self.draws) or not 0 <= self.seed < 2**64:
            raise ValueError("resamples need a seed and either replicates or draws")


@dataclasses.dataclass(frozen=True)
class DetectableDifference:
    """The smallest difference to a worse generator that is detected with 80 % power.

    Attributes:
        samples: number of samples of each generator.
        difference: at this number.
        difference_at_4n: at four times as many.
    """

    samples: int
    difference: float
    difference_at_4n: float


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """The statistics of a score over splits at equal size, and its value at full size.

    Attributes:
        count: number of splits; 0: there is no floor.
        samples: number of samples at full size.
        reference_cubes: number of reference cubes at full size.
        full_value: the value at full size, not comparable with the floor.
        value_std: standard deviation of the value over splits.
        floor_std: the same of the floor.
        is_separated: every split's value lies beyond every split's floor.
        value_details: the numbers in the metric's details, as means over splits.
        floor_details: the same of the floor.
        no_interval: why there is no interval.
        detectable: the smallest detectable difference of two generators.
        resamples: for comparisons with other scores.
    """

    count: int
    samples: int
    reference_cubes: int
    full_value: float
    value_std: float | None = None
    floor_std: float | None = None
    is_separated: bool = False
    value_details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    floor_details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    no_interval: str | None = None
    detectable: DetectableDifference | None = None
    resamples: Resamples | None = None


@dataclasses.dataclass(frozen=True)
class OwnMaskScore:
    """The score with the masks in the files instead of a segmenter's; fields as in :class:`Score`."""

    value: float | None
    floor: float | None
    verdict: str
    n: int
    value_std: float | None = None
    floor_std: float | None = None
    structures: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class SegmentationRecord:
    """The masks that a score uses, where a segmenter found them.

    Attributes:
        segmenter: its name.
        dice: structure -> Dice on held-out cubes; None: no such cube has the structure.
        left_out: structure -> why it is not scored.
        agreement: structure -> Dice of its masks and the samples' own; None: they have none.
        own_masks: the score with the masks in the files; None: the samples have none.
    """

    segmenter: str
    dice: Mapping[str, float | None]
    left_out: Mapping[str, str]
    agreement: Mapping[str, float | None] | None = None
    own_masks: OwnMaskScore | None = None
