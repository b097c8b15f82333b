"""False alarm rate of verdicts: how often real samples are significantly different from the floor, on simulated data.

Reference and samples are drawn from one distribution: Gaussian, with heavy tails (every cube scaled by a random gain),
or in groups. Each pair of sets is scored as usual: the metric's own ``relate`` on the full sets, then splits, floor and
verdict. Counted are verdicts by the splits alone, and, in the settings with ``with_p_values``, those that remain after
Holm's adjustment over a report's four scores: by metric, and the share of reports with any.

    python -m benchmarks.evidence.verdicts                   # about 4 minutes on one core
    python -m benchmarks.evidence.verdicts --repeats 40 --no-record
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np

from benchmarks.evidence.simulated_populations import KINDS, Population, build_inputs, build_metrics, draw_training_set
from benchmarks.helpers.machine import record
from hseval.core.report import Score
from hseval.pipeline.context import RunContext
from hseval.scoring.score_metric import SPLITS, score_metric
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

METRICS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
LIKE_REAL = "like real"


@dataclasses.dataclass(frozen=True)
class Setting:
    """Numbers of cubes and features, and their distribution.

    Attributes:
        with_p_values: whether p-values are computed as well, which takes most of the time.
    """

    samples: int
    reference: int
    features: int
    heavy: bool
    group: int = 1
    with_p_values: bool = False

    def __str__(self) -> str:
        kind = "heavy tails" if self.heavy else "Gaussian"
        groups = f", groups of {self.group}" if self.group > 1 else ""
        return f"{self.samples} samples, {self.reference} reference, {self.features} features, {kind}{groups}"


SETTINGS = (
    Setting(60, 60, 60, heavy=False, with_p_values=True),
    Setting(24, 24, 60, heavy=True, with_p_values=True),
    Setting(60, 60, 60, heavy=True),
    Setting(400, 160, 60, heavy=True),
    Setting(64, 64, 300, heavy=True),
    Setting(24, 160, 60, heavy=True),
    Setting(90, 90, 60, heavy=False, group=3),
)


def compute_score(name: str, setting: Setting, repeat: int) -> Score:
    """Return one metric's score of two sets from the same distribution.

    The features of each metric are drawn independently, so that false alarms are independent: the hardest case for an
    adjustment over all metrics.
    """
    (metric,) = build_metrics((name,))
    kind = (KINDS[name],)
    population = Population(kind, 0.0, setting.heavy, setting.group, setting.features)
    rng = create_rng(repeat, f"verdicts {name} {setting}")
    reference, samples = (population.draw(n, rng) for n in (setting.reference, setting.samples))
    train = draw_training_set(kind) if name == "authenticity" else None
    pair = build_inputs(reference, samples, train=train)
    context = RunContext(FeatureCache(None), Ranks(), seed=repeat)
    score = score_metric(metric, pair, context, with_interval=setting.with_p_values).score
    if score.floor is None and len(reference) >= 8:
        raise RuntimeError(f"{setting}, {score.name}: {score.verdict}")
    return score


def count_false_alarms(setting: Setting, repeats: int) -> dict[str, Any]:
    """Return the shares of false alarms: by metric, and of reports with any."""
    reports = [[compute_score(name, setting, repeat) for name in METRICS] for repeat in range(repeats)]
    shares = {"by the splits": _compute_shares(reports)}
    if setting.with_p_values:
        shares["Holm-adjusted"] = _compute_shares([adjust_verdicts(report) for report in reports])
    return shares


def _compute_shares(reports: list[list[Score]]) -> dict[str, float | None]:
    significant = np.array([[score.verdict != LIKE_REAL for score in report] for report in reports])
    has_floor = np.array([[score.floor is not None for score in report] for report in reports])
    shares = {
        name: float(significant[:, k].mean()) if has_floor[:, k].all() else None for k, name in enumerate(METRICS)
    }
    return {**shares, "any": float((significant & has_floor).any(axis=1).mean())}


def main() -> None:
    """Count false alarms in every setting, print the table and record the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--no-record", action="store_true", help="print without recording")
    arguments = parser.parse_args()
    results = {}
    print(
        f"{f'share of {arguments.repeats} with a significant difference':74}",
        *(f"{name:>12}" for name in (*METRICS, "any")),
    )
    for setting in SETTINGS:
        results[str(setting)] = count_false_alarms(setting, arguments.repeats)
        for rule, shares in results[str(setting)].items():
            cells = ("-" if share is None else f"{share:.3f}" for share in shares.values())
            print(f"{f'{setting}, {rule}':74}", *(f"{cell:>12}" for cell in cells), flush=True)
    if not arguments.no_record:
        record("evidence/verdicts", {"repeats": arguments.repeats, "splits": SPLITS, "false_alarms": results})


if __name__ == "__main__":
    main()
