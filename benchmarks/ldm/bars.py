"""The targets of ``benchmarks.ldm.demo`` for the bundled generator, and whether they are met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.ldm.eye_measures import DEPTHS
from hseval import Report, Score

GENERATORS = ("ldm", "pca")
MIN_CONTRAST_RETENTION, MAX_AREA_DEVIATION, MIN_ONE_DISC_SHARE, MAX_MINUTES = 0.70, 0.30, 0.95, 30.0

Anatomies = Mapping[str, Mapping[str, float]]


class Bar(NamedTuple):
    """One target; ``pca`` and ``real`` are for comparison.

    ``stricter`` targets exceed the requirements: they are reported and do not count. Masks supplied by the generator
    may bias a measure, so each is also computed from the cubes alone.
    """

    what: str
    value: float
    asked: str
    met: bool
    pca: float = math.nan
    real: float = math.nan
    stricter: bool = False

    def format_outcome(self) -> str:
        """Return whether the target is met, as text."""
        if self.met:
            return "met"
        return "missed (stricter than required)" if self.stricter else "MISSED"


def compute_bars(
    reports: Mapping[str, Report], anatomies: Anatomies, reconstruction: Mapping[str, float], training_s: float
) -> list[Bar]:
    """Return all targets with the measured values; one that could not be measured is missed.

    Args:
        reports: of both generators.
        anatomies: of both generators' samples and of the ``reference``.
        reconstruction: figures of the held-out eyes' reconstructions.
        training_s: training time in seconds.
    """
    minutes = training_s / 60
    return [
        _build_minimum_bar(
            "vessel contrast retained by reconstructions",
            MIN_CONTRAST_RETENTION,
            reconstruction["contrast_retention_all"],
        ),
        *_compute_area_bars(anatomies),
        *_compute_disc_bars(anatomies),
        *_compute_score_bars(*(reports[name] for name in GENERATORS)),
        Bar("minutes of training", minutes, f"at most {MAX_MINUTES:.0f}", minutes <= MAX_MINUTES),
    ]


def summarize_score(score: Score) -> dict[str, Any]:
    """Return the recorded fields of a score."""
    fields = {"metric": score.name, "value": score.value, "floor": score.floor, "n": score.n, "verdict": score.verdict}
    further = {**get_stds(score), "median_ratio": score.details.get("median_ratio")}
    further["full_value"] = score.statistics.full_value if score.statistics else None
    return fields | {name: value for name, value in further.items() if value is not None}


def get_stds(score: Score) -> dict[str, float | None]:
    """Return the standard deviations over splits of a score and of its floor, as recorded."""
    statistics = score.statistics
    stds = (statistics.value_std, statistics.floor_std) if statistics else (None, None)
    return dict(zip(("spread", "floor_spread"), stds, strict=True))


def _build_minimum_bar(label: str, minimum: float, value: float, pca: float = math.nan, real: float = math.nan) -> Bar:
    return Bar(label, value, f"at least {minimum:.2f}", value >= minimum, pca, real)


def _compute_area_bars(anatomies: Anatomies) -> Iterator[Bar]:
    """Yield the targets of vessel area: from the masks, and from the cubes alone at each depth."""
    areas = {"vessel_share": "vessel area, masks"}
    areas |= {f"dark_share_{depth:g}": f"vessel area, cubes ({100 * depth:.0f} % darker)" for depth in DEPTHS}
    requirement = f"{1 - MAX_AREA_DEVIATION:.1f} to {1 + MAX_AREA_DEVIATION:.1f} of real"
    for name, label in areas.items():
        ours, theirs = (anatomies[side][name] / anatomies["reference"][name] for side in GENERATORS)
        yield Bar(
            label, ours, requirement, abs(ours - 1) <= MAX_AREA_DEVIATION, theirs, 1.0, stricter=name != "vessel_share"
        )


def _compute_disc_bars(anatomies: Anatomies) -> Iterator[Bar]:
    for name, label in (("one_disc", "exactly one disc, masks"), ("one_bright_disc", "exactly one disc, cubes")):
        bar = _build_minimum_bar(
            label, MIN_ONE_DISC_SHARE, *(anatomies[side][name] for side in (*GENERATORS, "reference"))
        )
        yield bar._replace(stricter=name != "one_disc")


def _compute_score_bars(ldm: Report, pca: Report) -> Iterator[Bar]:
    """Yield the targets of hseval's own metrics; a floor is the score of real eyes."""
    theirs = _to_float(pca["fid"].value)
    std = max(_to_float(get_stds(report["fid"])["floor_spread"]) for report in (ldm, pca))
    yield _build_score_bar(ldm, pca, "fid", f"below {theirs - std:.4g}", _to_float(ldm["fid"].value) < theirs - std)
    theirs = _to_float(pca["spectral-kl"].value)
    met = _to_float(ldm["spectral-kl"].value) <= theirs
    yield _build_score_bar(ldm, pca, "spectral-kl", f"at most {theirs:.4g}", met)
    met = ldm["authenticity"].verdict in ("like real", "closer than real")
    yield _build_score_bar(ldm, pca, "authenticity", "like real", met)


def _build_score_bar(ldm: Report, pca: Report, name: str, requirement: str, met: bool) -> Bar:
    ours, theirs = ldm[name], pca[name]
    return Bar(name, _to_float(ours.value), requirement, met, _to_float(theirs.value), _to_float(ours.floor))


def _to_float(value: float | None) -> float:
    return math.nan if value is None else float(value)
