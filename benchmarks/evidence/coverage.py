"""Coverage of the 95 % intervals on simulated sets, whose true values are known.

A situation is a metric, two sizes and two populations of samples, ``a`` and ``b``, compared with one reference. Its
true values are means over ``--truths`` independent draws of both sets of the score of one complementary pair of splits
at (m, m): the expected value, its excess over the floor, and the difference between ``a`` and ``b``. Each repeat draws
the sets once, scores both and checks whether the three intervals contain the three true values.

Situations already in ``results/evidence/coverage.json`` with the same settings are not run again, so that an
interrupted run resumes (``--fresh`` starts over). With 200 repeats and a true coverage of 95 %, 92 % to 98 % is
observed in 19 of 20 cases.

    python -m benchmarks.evidence.coverage                                   # 40 minutes on two busy cores
    python -m benchmarks.evidence.coverage --repeats 50 --truths 400 --only fid --no-record
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.evidence.simulated_populations import KINDS, Population, build_inputs, build_metrics, draw_training_set
from benchmarks.helpers.machine import RESULTS, record
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.metric_inputs import build_evaluator
from hseval.scoring.score_metric import _score_split, score_metric
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.stats.paired import compare_paired
from hseval.stats.splits import draw_splits
from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

LOW, HIGH = 0.92, 0.98
DRAW_NAME = "fresh"  # random stream: draws that were not used for development
METRICS_WITH_TRAINING_SET = ("authenticity", "membership")


@dataclasses.dataclass(frozen=True)
class Situation:
    """A metric, the sizes of the sets, and the populations they are drawn from."""

    metric: str
    reference: int = 60
    samples: int = 60
    a: float = 0.0
    b: float = 1.0
    heavy: bool = False
    group: int = 1

    def __str__(self) -> str:
        tails = "heavy tails" if self.heavy else "Gaussian"
        groups = f", groups of {self.group}" if self.group > 1 else ""
        sizes = f"{self.reference} and {self.samples} cubes"
        return f"{self.metric}: {sizes}, {tails}{groups}, {self.a:g} and {self.b:g} away"

    def build_population(self, away: float) -> Population:
        """Return the population of one set."""
        return Population((KINDS[self.metric],), away, self.heavy, self.group)

    def draw(self, name: str, repeat: int) -> tuple[ExtractedInputs, ExtractedInputs]:
        """Return the extracted inputs of both sets of samples with one reference."""
        rng = create_rng(repeat, f"coverage {self} {name}")
        reference = self.build_population(0.0).draw(self.reference, rng)
        train = draw_training_set((KINDS[self.metric],)) if self.metric in METRICS_WITH_TRAINING_SET else None
        a, b = (self.build_population(away).draw(self.samples, rng) for away in (self.a, self.b))
        return build_inputs(reference, a, train=train), build_inputs(reference, b, train=train)


DEFAULTS = ("fid", "spectral-kl", "ms-ssim", "authenticity")
OTHERS = (
    *("kid", "vendi", "membership", "spectral-angle", "band-covariance", "power-spectrum"),
    *("plausibility", "prdc"),  # slow: a few minutes each
)
SITUATIONS = (
    *(Situation(metric) for metric in DEFAULTS),
    *(Situation(metric, heavy=True, b=4) for metric in ("fid", "ms-ssim", "authenticity")),
    *(Situation(metric, 90, 90, group=3) for metric in DEFAULTS),
    *(Situation(metric, 160, 400, heavy=True) for metric in ("spectral-kl", "ms-ssim", "authenticity")),
    *(Situation(metric, 24, 24, b=4) for metric in ("fid", "authenticity")),
    *(Situation(metric) for metric in OTHERS),
)


def simulate_truth(situation: Situation, draws: int) -> np.ndarray[Any, Any]:
    """Return value and excess ``(draws, 2 sets, 2)`` of one complementary pair of splits per draw."""
    (metric,) = build_metrics((situation.metric,))
    return np.array(
        [[_score_pair(metric, pair, repeat) for pair in situation.draw("truth", repeat)] for repeat in range(draws)]
    )


def _score_pair(metric: Any, pair: ExtractedInputs, seed: int) -> tuple[float, float]:
    evaluator = build_evaluator(metric, pair, _make_context(seed))
    inputs = evaluator.inputs
    splits = draw_splits(
        real_groups=inputs.real.groups,
        generated_groups=inputs.generated.groups,
        repeats=2,
        rng=create_rng(seed, "coverage splits"),
    )
    scores = [_score_split(evaluator, split) for split in splits]
    value = float(np.mean([score.value.value for score in scores]))
    return value, value - float(np.mean([score.floor.value for score in scores]))


def _make_context(seed: int) -> RunContext:
    return RunContext(FeatureCache(None), Ranks(), seed=seed)


def run_repeat(situation: Situation, repeat: int) -> dict[str, Any]:
    """Return the intervals of one draw."""
    (metric,) = build_metrics((situation.metric,))
    a, b = (
        adjust_verdicts([score_metric(metric, pair, _make_context(repeat)).score])[0]
        for pair in situation.draw(DRAW_NAME, repeat)
    )
    intervals = {
        f"{quantity} {name}": (value, interval)
        for name, score in (("a", a), ("b", b))
        for quantity, value, interval in (
            ("value", score.value, score.interval),
            ("excess", score.excess, score.excess_interval),
        )
    }
    statistics = [score.statistics for score in (a, b) if score.statistics is not None]
    if all(side.resamples is not None for side in statistics):
        comparison = compare_paired(a, b)
        intervals["a less b"] = (comparison.difference, comparison.interval)
    return {
        "intervals": intervals,
        "significant": {name: score.verdict != "like real" for name, score in (("a", a), ("b", b))},
        "none": next((side.no_interval for side in statistics if side.no_interval), None),
    }


def compute_coverage(truths: np.ndarray[Any, Any], repeats: list[dict[str, Any]]) -> dict[str, Any]:
    """Return coverage, misses on either side, and mean width over 2 x 1.96 standard deviations, by quantity."""
    means = truths.mean(axis=0)
    expected = {
        **{f"value {name}": means[index, 0] for index, name in enumerate("ab")},
        **{f"excess {name}": means[index, 1] for index, name in enumerate("ab")},
        "a less b": means[0, 0] - means[1, 0],
    }
    coverage = {}
    for quantity, true in expected.items():
        results = [repeat["intervals"].get(quantity, (0, None)) for repeat in repeats]
        results = [(value, interval) for value, interval in results if interval is not None]
        if not results:
            continue
        values, intervals = np.array([value for value, _ in results]), np.array([interval for _, interval in results])
        above, below = float((intervals[:, 0] > true).mean()), float((intervals[:, 1] < true).mean())
        std = values.std(ddof=1)
        coverage[quantity] = {
            "truth": float(true),
            "mean": float(values.mean()),
            "coverage": 1 - above - below,
            "above": above,
            "below": below,
            "width": float((intervals[:, 1] - intervals[:, 0]).mean() / (2 * 1.96 * std)) if std > 0 else None,
        }
    return coverage


def run_situation(situation: Situation, repeats: int, truths: int) -> dict[str, Any]:
    """Return one situation's result."""
    start = time.monotonic()
    with ProcessPoolExecutor() as pool:
        results = list(pool.map(partial(run_repeat, situation), range(repeats), chunksize=4))
    middle = time.monotonic()
    figures = compute_coverage(simulate_truth(situation, truths), results)
    return {
        **dataclasses.asdict(situation),
        "repeats": repeats,
        "truths": truths,
        "figures": figures,
        "significant": {name: float(np.mean([result["significant"][name] for result in results])) for name in "ab"},
        "without": float(np.mean([result["none"] is not None for result in results])),
        "why": next((result["none"] for result in results if result["none"]), None),
        "seconds": {"repeats": middle - start, "truth": time.monotonic() - middle},
    }


def format_line(name: str, result: Mapping[str, Any]) -> str:
    """Return one situation on one line: coverage by quantity in per cent, starred outside the target."""
    cells = [
        f"{quantity} {100 * figure['coverage']:5.1f}{' ' if LOW <= figure['coverage'] <= HIGH else '*'}"
        f"({100 * figure['above']:.0f}/{100 * figure['below']:.0f}; {figure['width'] or 0:.2f})"
        for quantity, figure in result["figures"].items()
    ]
    significant = ", ".join(f"{100 * share:.1f} %" for share in result["significant"].values())
    return f"{name:78} {'  '.join(cells)}  significant {significant}  {sum(result['seconds'].values()):.0f} s"


def format_table(situations: Mapping[str, Any]) -> list[str]:
    """Return the recorded result as a Markdown table: coverage in per cent and width, of ``a`` and ``b``."""
    rows = [
        "| situation | value | excess | difference | width | different from the floor |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in filter(situations.__contains__, map(str, SITUATIONS)):
        result = situations[name]
        figures = {quantity: f"{100 * figure['coverage']:.1f}" for quantity, figure in result["figures"].items()}
        pairs = (" / ".join(figures.get(f"{kind} {side}", "-") for side in "ab") for kind in ("value", "excess"))
        width = " / ".join(f"{figure['width']:.2f}" for figure in result["figures"].values() if figure["width"])
        significant = " / ".join(f"{100 * share:.1f}" for share in result["significant"].values())
        rows.append(f"| {name} | {' | '.join(pairs)} | {figures.get('a less b', '-')} | {width} | {significant} |")
    return rows


def format_summary(situations: Mapping[str, Any]) -> list[str]:
    """Return how many intervals of the default metrics and of the others reach the target, with means and ranges."""
    lines = []
    for names in (DEFAULTS, OTHERS):
        by_situation = [result["figures"] for result in situations.values() if result["metric"] in names]
        coverages = [figure["coverage"] for figures in by_situation for figure in figures.values()]
        within = sum(LOW <= coverage <= HIGH for coverage in coverages)
        above = sum(coverage > HIGH for coverage in coverages)
        below = len(coverages) - within - above
        lines.append(f"{len(coverages)} intervals: {within} within, {above} above, {below} below")
        for kind in ("value", "excess", "a less b"):
            some = [
                100 * figure["coverage"] for figures in by_situation for name, figure in figures.items() if kind in name
            ]
            lines.append(f"  {kind}: mean {np.mean(some):.1f} %, {min(some):.1f} to {max(some):.1f}")
    return lines


def _load_recorded(repeats: int, truths: int) -> dict[str, Any]:
    path = RESULTS / "evidence" / "coverage.json"
    situations = json.loads(path.read_text())["situations"] if path.exists() else {}
    return {
        name: entry for name, entry in situations.items() if (entry["repeats"], entry["truths"]) == (repeats, truths)
    }


def main() -> None:
    """Run the missing situations, record after each and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--truths", type=int, default=1000)
    parser.add_argument("--only", default="", help="situations whose names contain this")
    parser.add_argument("--fresh", action="store_true", help="run recorded situations again")
    parser.add_argument("--no-record", action="store_true", help="print without recording")
    parser.add_argument("--table", action="store_true", help="print the recorded result as Markdown, and run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        recorded = json.loads((RESULTS / "evidence" / "coverage.json").read_text())["situations"]
        print("\n".join([*format_table(recorded), "", *format_summary(recorded)]))
        return
    done = {} if arguments.fresh or arguments.no_record else _load_recorded(arguments.repeats, arguments.truths)
    for situation in SITUATIONS:
        name = str(situation)
        if arguments.only not in name:
            continue
        if name not in done:
            done[name] = run_situation(situation, arguments.repeats, arguments.truths)
            if not arguments.no_record:
                record("evidence/coverage", {"bar": [LOW, HIGH], "situations": done})
        print(format_line(name, done[name]), flush=True)


if __name__ == "__main__":
    main()
