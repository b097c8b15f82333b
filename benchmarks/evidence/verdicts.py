"""How often are samples told from the floor that are real cubes? Simulated rows, so that the truth is known.

Reference and samples are drawn from one distribution: Gaussian, with heavy tails (every cube scaled by a random gain),
or in groups. Each pair of sets goes the way of any score: the metric's own ``relate`` on the full sets, the core's
splits, floor and verdict. Counted are verdicts by the splits alone, and, in the settings with ``held``, those that are
left when a report's four scores are held together by Holm's rule: by metric, and how many reports have any.

    python -m benchmarks.evidence.verdicts                   # about 4 minutes on one core
    python -m benchmarks.evidence.verdicts --repeats 40 --no-record
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np

from benchmarks.evidence.simulated_populations import KINDS, Population, described, metrics_of, training
from benchmarks.helpers.machine import record
from hseval.core.report import Score
from hseval.pipeline.context import RunContext
from hseval.scoring.score_metric import SPLITS, score_metric
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.utils.distributed import Communicator
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
ALIKE = "like real"


@dataclasses.dataclass(frozen=True)
class Setting:
    """How many cubes there are, of what kind.

    Attributes:
        held: whether p-values are computed as well, which takes most of the time.
    """

    samples: int
    reference: int
    features: int
    heavy: bool
    group: int = 1
    held: bool = False

    def __str__(self) -> str:
        kind = "heavy tails" if self.heavy else "Gaussian"
        groups = f", groups of {self.group}" if self.group > 1 else ""
        return f"{self.samples} samples, {self.reference} reference, {self.features} features, {kind}{groups}"


SETTINGS = (
    Setting(60, 60, 60, heavy=False, held=True),
    Setting(24, 24, 60, heavy=True, held=True),
    Setting(60, 60, 60, heavy=True),
    Setting(400, 160, 60, heavy=True),
    Setting(64, 64, 300, heavy=True),
    Setting(24, 160, 60, heavy=True),
    Setting(90, 90, 60, heavy=False, group=3),
)


def scored(name: str, setting: Setting, repeat: int) -> Score:
    """Return one metric's score of two sets from the same distribution.

    The metrics' rows are drawn apart, so that their false alarms are independent, which is the hardest case for a rule
    over all of them.
    """
    (metric,) = metrics_of((name,))
    kind = (KINDS[name],)
    population = Population(kind, 0.0, setting.heavy, setting.group, setting.features)
    rng = create_rng(repeat, f"verdicts {name} {setting}")
    reference, samples = (population.draw(n, rng) for n in (setting.reference, setting.samples))
    train = training(kind) if name == "authenticity" else None
    pair = described(reference, samples, train=train)
    score = score_metric(
        metric, pair, RunContext(FeatureCache(None), Communicator(), seed=repeat), with_interval=setting.held
    )
    if score.floor is None and len(reference) >= 8:
        raise RuntimeError(f"{setting}, {score.name}: {score.verdict}")
    return score


def alarms(setting: Setting, repeats: int) -> dict[str, Any]:
    """Return the shares of false alarms: by metric, and of reports with any."""
    reports = [[scored(name, setting, repeat) for name in METRICS] for repeat in range(repeats)]
    found = {"by the splits": _shares(reports)}
    if setting.held:
        found["by Holm's rule"] = _shares([adjust_verdicts(report) for report in reports])
    return found


def _shares(reports: list[list[Score]]) -> dict[str, float | None]:
    told = np.array([[score.verdict != ALIKE for score in report] for report in reports])
    known = np.array([[score.floor is not None for score in report] for report in reports])
    shares = {name: float(told[:, k].mean()) if known[:, k].all() else None for k, name in enumerate(METRICS)}
    return {**shares, "any": float((told & known).any(axis=1).mean())}


def main() -> None:
    """Count false alarms in every setting, print the table and record the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--no-record", action="store_true", help="print, and leave the recorded result alone")
    given = parser.parse_args()
    found = {}
    print(f"{'share told from the floor, of ' + str(given.repeats):74}", *(f"{name:>12}" for name in (*METRICS, "any")))
    for setting in SETTINGS:
        found[str(setting)] = alarms(setting, given.repeats)
        for rule, shares in found[str(setting)].items():
            shown = ("-" if share is None else f"{share:.3f}" for share in shares.values())
            print(f"{f'{setting}, {rule}':74}", *(f"{each:>12}" for each in shown), flush=True)
    if not given.no_record:
        record("evidence/verdicts", {"repeats": given.repeats, "splits": SPLITS, "false_alarms": found})


if __name__ == "__main__":
    main()
