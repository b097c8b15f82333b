"""What ``ldm_demo.py`` asks of the bundled generator, and whether it was met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.ldm.eye_measures import DEPTHS
from hseval import Report, Score

GENERATORS = ("ldm", "pca")
LEAST_KEPT, MOST_OFF, LEAST_ONE_DISC, MOST_MINUTES = 0.70, 0.30, 0.95, 30.0

Anatomies = Mapping[str, Mapping[str, float]]


class Bar(NamedTuple):
    """One thing that was asked for; ``pca`` and ``real`` are there to compare.

    ``stricter`` ones are more than was asked for: they are told, and decide nothing. A generator's own masks can
    flatter it, so what a detector finds in the cubes alone stands beside what the masks say.
    """

    what: str
    value: float
    asked: str
    met: bool
    pca: float = math.nan
    real: float = math.nan
    stricter: bool = False

    def told(self) -> str:
        """Return the outcome in words."""
        if self.met:
            return "met"
        return "missed (stricter than asked)" if self.stricter else "MISSED"


def held_against(
    reports: Mapping[str, Report], seen: Anatomies, kept: Mapping[str, float], training_s: float
) -> list[Bar]:
    """Return what was asked for beside what was measured; what could not be measured is missed.

    Args:
        reports: of both generators.
        seen: the anatomy of both generators' samples and of the ``reference``.
        kept: figures of the held-out eyes' reconstructions.
        training_s: how long the training took, seconds.
    """
    minutes = training_s / 60
    return [
        _at_least("vessels' contrast kept by reconstructions", LEAST_KEPT, kept["kept_all"]),
        *_areas(seen),
        *_discs(seen),
        *_scores(*(reports[name] for name in GENERATORS)),
        Bar("minutes of training", minutes, f"at most {MOST_MINUTES:.0f}", minutes <= MOST_MINUTES),
    ]


def summary(one: Score) -> dict[str, Any]:
    """Return what is recorded of a score."""
    detailed = {name: one.details.get(name) for name in ("spread", "floor_spread", "full_value", "median_ratio")}
    told = {"metric": one.name, "value": one.value, "floor": one.floor, "n": one.n, "verdict": one.verdict}
    return told | {name: each for name, each in detailed.items() if each is not None}


def _at_least(what: str, least: float, value: float, pca: float = math.nan, real: float = math.nan) -> Bar:
    return Bar(what, value, f"at least {least:.2f}", value >= least, pca, real)


def _areas(seen: Anatomies) -> Iterator[Bar]:
    """Yield the bars of vessel area: by the masks, and by the cubes alone at each depth."""
    areas = {"vessel_share": "vessel area, masks"}
    areas |= {f"dark_share_{depth:g}": f"vessel area, cubes ({100 * depth:.0f} % darker)" for depth in DEPTHS}
    asked = f"{1 - MOST_OFF:.1f} to {1 + MOST_OFF:.1f} of real"
    for name, what in areas.items():
        ours, theirs = (seen[side][name] / seen["reference"][name] for side in GENERATORS)
        yield Bar(what, ours, asked, abs(ours - 1) <= MOST_OFF, theirs, 1.0, stricter=name != "vessel_share")


def _discs(seen: Anatomies) -> Iterator[Bar]:
    for name, what in (("one_disc", "exactly one disc, masks"), ("one_bright_disc", "exactly one disc, cubes")):
        found = _at_least(what, LEAST_ONE_DISC, *(seen[side][name] for side in (*GENERATORS, "reference")))
        yield found._replace(stricter=name != "one_disc")


def _scores(ldm: Report, pca: Report) -> Iterator[Bar]:
    """Yield the bars of hseval's own metrics; a floor is what real eyes score."""
    theirs = _known(pca["fid"].value)
    spread = max(_known(report["fid"].details.get("floor_spread")) for report in (ldm, pca))
    yield _score(ldm, pca, "fid", f"below {theirs - spread:.4g}", _known(ldm["fid"].value) < theirs - spread)
    theirs = _known(pca["spectral-kl"].value)
    met = _known(ldm["spectral-kl"].value) <= theirs
    yield _score(ldm, pca, "spectral-kl", f"at most {theirs:.4g}", met)
    # The verdict tells a score from its floor by the spreads of both.
    near = ldm["authenticity"].verdict in ("like real", "closer than real")
    yield _score(ldm, pca, "authenticity", "like real", near)


def _score(ldm: Report, pca: Report, name: str, asked: str, met: bool) -> Bar:
    ours, theirs = ldm[name], pca[name]
    return Bar(name, _known(ours.value), asked, met, _known(theirs.value), _known(ours.floor))


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)
