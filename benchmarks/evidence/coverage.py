"""How often do intervals hold the truth? Simulated sets, so that the truth is known.

A situation is a metric, two sizes and two populations of samples, ``a`` and ``b``, held against one reference. Its
truth is the mean over ``--truths`` independent draws of both sets of what one complementary pair of splits at (m, m)
scores: the expected value, its excess over the floor, and the difference between ``a`` and ``b``. Each repeat draws the
sets once, scores both and asks whether the three intervals hold the three truths.

Situations already in ``results/evidence/coverage.json`` at the same settings are not run again, so that a run that was cut off
goes on (``--fresh`` starts over). With 200 repeats and a true coverage of 95 %, 92 % to 98 % is what chance allows in
19 of 20 cases.

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

from benchmarks.evidence.simulated_populations import KINDS, Population, described, metrics_of, training
from benchmarks.helpers.machine import RESULTS, record
from hseval.pipeline.context import ExtractedInputs, RunContext
from hseval.pipeline.metric_inputs import build_evaluator
from hseval.scoring.score_metric import _score_split, score_metric
from hseval.stats.multiple_testing import adjust_verdicts
from hseval.stats.paired import compare_paired
from hseval.stats.splits import draw_splits
from hseval.utils.distributed import Communicator
from hseval.utils.feature_cache import FeatureCache
from hseval.utils.random_streams import create_rng

LOW, HIGH = 0.92, 0.98
DRAWN = "fresh"  # draws that no choice was made on
TRAINED = ("authenticity", "membership")


@dataclasses.dataclass(frozen=True)
class Situation:
    """A metric, and what it is held against what."""

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

    def population(self, away: float) -> Population:
        """Return what one side is drawn from."""
        return Population((KINDS[self.metric],), away, self.heavy, self.group)

    def draw(self, name: str, repeat: int) -> tuple[ExtractedInputs, ExtractedInputs]:
        """Return both sets of samples, described, against one reference."""
        rng = create_rng(repeat, f"coverage {self} {name}")
        reference = self.population(0.0).draw(self.reference, rng)
        train = training((KINDS[self.metric],)) if self.metric in TRAINED else None
        one, two = (self.population(away).draw(self.samples, rng) for away in (self.a, self.b))
        return described(reference, one, train=train), described(reference, two, train=train)


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


def truth(situation: Situation, draws: int) -> np.ndarray[Any, Any]:
    """Return value and excess ``(draws, 2 sets, 2)`` of one complementary pair of splits a draw."""
    (metric,) = metrics_of((situation.metric,))
    return np.array(
        [[_one(metric, each, repeat) for each in situation.draw("truth", repeat)] for repeat in range(draws)]
    )


def _one(metric: Any, pair: ExtractedInputs, seed: int) -> tuple[float, float]:
    compared = build_evaluator(metric, pair, _run(seed))
    rows = compared.inputs
    dealt = draw_splits(
        real_groups=rows.real.groups,
        generated_groups=rows.generated.groups,
        repeats=2,
        rng=create_rng(seed, "coverage splits"),
    )
    found = [_score_split(compared, split) for split in dealt]
    value = float(np.mean([each.value.value for each in found]))
    return value, value - float(np.mean([each.floor.value for each in found]))


def _run(seed: int) -> RunContext:
    return RunContext(FeatureCache(None), Communicator(), seed=seed)


def repeated(situation: Situation, repeat: int) -> dict[str, Any]:
    """Return the intervals of one draw."""
    (metric,) = metrics_of((situation.metric,))
    one, two = (
        adjust_verdicts([score_metric(metric, each, _run(repeat))])[0] for each in situation.draw(DRAWN, repeat)
    )
    found = {
        f"{what} {name}": (value, span)
        for name, score in (("a", one), ("b", two))
        for what, value, span in (
            ("value", score.value, score.interval),
            ("excess", score.details["excess"], score.details["excess_interval"]),
        )
    }
    if all("resamples" in score.details for score in (one, two)):
        between = compare_paired(one, two)
        found["a less b"] = (between.difference, between.interval)
    return {
        "spans": found,
        "told": {name: score.verdict != "like real" for name, score in (("a", one), ("b", two))},
        "none": one.details.get("no_interval") or two.details.get("no_interval"),
    }


def covered(truths: np.ndarray[Any, Any], repeats: list[dict[str, Any]]) -> dict[str, Any]:
    """Return coverage, misses to either side, and mean width over 2 x 1.96 standard deviations, by figure."""
    means = truths.mean(axis=0)
    expected = {
        **{f"value {name}": means[place, 0] for place, name in enumerate("ab")},
        **{f"excess {name}": means[place, 1] for place, name in enumerate("ab")},
        "a less b": means[0, 0] - means[1, 0],
    }
    found = {}
    for what, true in expected.items():
        have = [each["spans"][what] for each in repeats if each["spans"].get(what, (0, None))[1] is not None]
        if not have:
            continue
        values, spans = np.array([value for value, _ in have]), np.array([span for _, span in have])
        above, below = float((spans[:, 0] > true).mean()), float((spans[:, 1] < true).mean())
        deviation = values.std(ddof=1)
        found[what] = {
            "truth": float(true),
            "mean": float(values.mean()),
            "coverage": 1 - above - below,
            "above": above,
            "below": below,
            "width": float((spans[:, 1] - spans[:, 0]).mean() / (2 * 1.96 * deviation)) if deviation > 0 else None,
        }
    return found


def ran(situation: Situation, repeats: int, truths: int) -> dict[str, Any]:
    """Return one situation's result."""
    start = time.monotonic()
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(partial(repeated, situation), range(repeats), chunksize=4))
    middle = time.monotonic()
    figures = covered(truth(situation, truths), found)
    return {
        **dataclasses.asdict(situation),
        "repeats": repeats,
        "truths": truths,
        "figures": figures,
        "told": {name: float(np.mean([each["told"][name] for each in found])) for name in "ab"},
        "without": float(np.mean([each["none"] is not None for each in found])),
        "why": next((each["none"] for each in found if each["none"]), None),
        "seconds": {"repeats": middle - start, "truth": time.monotonic() - middle},
    }


def line(name: str, found: Mapping[str, Any]) -> str:
    """Return one situation on one line: coverage by figure in per cent, those that miss the bar starred."""
    shown = [
        f"{what} {100 * each['coverage']:5.1f}{' ' if LOW <= each['coverage'] <= HIGH else '*'}"
        f"({100 * each['above']:.0f}/{100 * each['below']:.0f}; {each['width'] or 0:.2f})"
        for what, each in found["figures"].items()
    ]
    told = ", ".join(f"{100 * share:.1f} %" for share in found["told"].values())
    return f"{name:78} {'  '.join(shown)}  told {told}  {sum(found['seconds'].values()):.0f} s"


def table(situations: Mapping[str, Any]) -> list[str]:
    """Return the recorded result as a Markdown table: coverage in per cent and width, of ``a`` and ``b``."""
    rows = [
        "| situation | value | excess | difference | width | told from the floor |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in filter(situations.__contains__, map(str, SITUATIONS)):
        found = situations[name]
        figures = {what: f"{100 * each['coverage']:.1f}" for what, each in found["figures"].items()}
        pairs = (" / ".join(figures.get(f"{what} {side}", "-") for side in "ab") for what in ("value", "excess"))
        width = " / ".join(f"{each['width']:.2f}" for each in found["figures"].values() if each["width"])
        told = " / ".join(f"{100 * share:.1f}" for share in found["told"].values())
        rows.append(f"| {name} | {' | '.join(pairs)} | {figures.get('a less b', '-')} | {width} | {told} |")
    return rows


def summary(situations: Mapping[str, Any]) -> list[str]:
    """Return how many figures of the default metrics and of the others lie within the bar, with means and ranges."""
    lines = []
    for names in (DEFAULTS, OTHERS):
        chosen = [each["figures"] for each in situations.values() if each["metric"] in names]
        every = [each["coverage"] for figures in chosen for each in figures.values()]
        within = sum(LOW <= each <= HIGH for each in every)
        above = sum(each > HIGH for each in every)
        lines.append(f"{len(every)} figures: {within} within, {above} above, {len(every) - within - above} below")
        for what in ("value", "excess", "a less b"):
            some = [100 * each["coverage"] for figures in chosen for name, each in figures.items() if what in name]
            lines.append(f"  {what}: mean {np.mean(some):.1f} %, {min(some):.1f} to {max(some):.1f}")
    return lines


def _kept(repeats: int, truths: int) -> dict[str, Any]:
    path = RESULTS / "evidence" / "coverage.json"
    known = json.loads(path.read_text())["situations"] if path.exists() else {}
    return {name: each for name, each in known.items() if (each["repeats"], each["truths"]) == (repeats, truths)}


def main() -> None:
    """Run what is missing, record after each situation and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--truths", type=int, default=1000)
    parser.add_argument("--only", default="", help="situations whose names contain this")
    parser.add_argument("--fresh", action="store_true", help="run again what is recorded")
    parser.add_argument("--no-record", action="store_true", help="print, and leave the recorded result alone")
    parser.add_argument("--table", action="store_true", help="print the recorded result as Markdown, and run nothing")
    given = parser.parse_args()
    if given.table:
        recorded = json.loads((RESULTS / "evidence" / "coverage.json").read_text())["situations"]
        print("\n".join([*table(recorded), "", *summary(recorded)]))
        return
    done = {} if given.fresh or given.no_record else _kept(given.repeats, given.truths)
    for situation in SITUATIONS:
        name = str(situation)
        if given.only not in name:
            continue
        if name not in done:
            done[name] = ran(situation, given.repeats, given.truths)
            if not given.no_record:
                record("evidence/coverage", {"bar": [LOW, HIGH], "situations": done})
        print(line(name, done[name]), flush=True)


if __name__ == "__main__":
    main()
