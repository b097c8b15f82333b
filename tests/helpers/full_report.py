"""A report whose every record is filled, written by hand."""

from __future__ import annotations

import dataclasses

from hseval import Report, Score
from hseval.core.score_records import (
    DetectableDifference,
    OwnMaskScore,
    Resamples,
    SegmentationRecord,
    SplitStatistics,
    StoredReplicates,
)

FIGURES = (1.5, 1.0, 0.5)
REPLICATES = StoredReplicates((FIGURES,) * 4, 4, (FIGURES,) * 3, (FIGURES,), 3, 1, FIGURES, (0.0, 0.0, 0.0), (0.5, 0.5))
RESAMPLES = Resamples(2**63, 12, "abc", None, ("fid", "1", "Options()"), REPLICATES)
FULL = Score(
    name="fid", value=1.5, floor=1.0, excess=0.5, interval=(1.25, 1.75), excess_interval=(0.25, 0.75), p_value=0.01,
    p_adjusted=0.02, margin=0.125, equivalent="about 2 px of blur", better="lower", verdict="worse than real", n=12,
    details={"shown": {"a label": 2.0}, "structures": {"vein": {"value": 1.0, "by_wavelength": [1.0, None]}}},
    statistics=SplitStatistics(
        4, 24, 24, 1.375, 0.1, 0.2, True, {"structures": {}}, {}, None, DetectableDifference(24, 0.5, 0.25), RESAMPLES
    ),
    segmentation=SegmentationRecord(
        "pixels", {"vein": 0.9, "disc": None}, {"disc": "in no cube"}, {"vein": 0.8},
        OwnMaskScore(1.4, 1.0, "like real", 12, 0.1, 0.2, {"vein": {"value": 1.0}}),
    ),
)  # fmt: skip
DRAWN = dataclasses.replace(
    FULL,
    name="prdc",
    statistics=SplitStatistics(
        4, 24, 24, 1.0, resamples=dataclasses.replace(RESAMPLES, replicates=None, draws=(1.0, 2.0))
    ),
)
EMPTY = Score(name="authenticity", better="floor", verdict="not computed: needs --train")
PROVENANCE = {"hseval": "1", "command": ["hseval", "score"], "settings": {"seed": 0}}
REPORT = Report((FULL, DRAWN, EMPTY), ("a note",), PROVENANCE, differences=("fid: too blurred",))
