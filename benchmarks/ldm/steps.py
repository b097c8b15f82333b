"""Quality against sampling steps: the samplers of a trained run, from the same noise, scored against unseen eyes.

Beside ``fid`` and ``spectral-kl`` stands what scores alone do not show: vessel area relative to the reference's and the
share of samples with exactly one disc, both from the cubes alone. What is finished is kept and not done again.

    python -m benchmarks.ldm.steps --checkpoint RUN [--ref REAL] [-n 128]

Without ``--ref`` the reference is the one that ``ldm_demo.py`` left beside the run, or eyes drawn in its place.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ldm.eye_measures import DEPTHS
from benchmarks.ldm.runs import REFERENCE_SEED, anatomy, as_set, begin, draw_eyes, in_memory, keep, markdown, once
from hseval import CubeSet, Report, open_set, score
from hseval.utils.hashing import compute_sha256
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.checkpoint import BEST, get_path
from hseval_ldm.training.run_config import read_config

STEPS = (4, 6, 8, 12, 16, 20, 30, 50)
CURVES: dict[str, tuple[int, ...]] = {"dpm-solver": STEPS, "ddim": STEPS, "ddpm": (50, 300)}
METRICS = ("fid", "spectral-kl")
DARK = f"dark_share_{DEPTHS[-1]:g}"
COLUMNS = {
    "sampler": ("sampler", ""),
    "steps": ("steps", "d"),
    "fid": ("fid", ".4g"),
    "spectral-kl": ("spectral-kl", ".4g"),
    "vessels": ("vessel area / real", ".2f"),
    "one_disc": ("one disc", ".2f"),
    "seconds": ("seconds a cube", ".3f"),
}


def main(given: argparse.Namespace) -> None:
    """Sample and score what is not finished, print the table and record it."""
    run: Path = given.checkpoint
    out: Path = given.out or run.parent / "steps"
    begin(out)
    path = given.ref or draw_eyes(
        run.parent / "reference.h5", given.cubes, seed=REFERENCE_SEED, size=given.size, oversampling=given.oversampling
    )
    reference = open_set(path)
    real = anatomy(in_memory(reference))
    weights = {stage: compute_sha256(get_path(run / stage, BEST)) for stage in ("autoencoder", "diffusion")}
    settings = {"weights": weights, "reference": compute_sha256(Path(path)), "n": given.n, "seed": given.seed}
    rows = []
    for sampler, steps in wanted(given, read_config(run).options.timesteps):
        print(f"{sampler}, {steps} steps", flush=True)
        kept = out / f"{sampler}-{steps}.json"
        again = partial(measured, run, reference, real, given, sampler=sampler, steps=steps)
        rows.append(once(kept, settings, again))
    print(markdown(rows, COLUMNS))
    floors = rows[0]["floors"] if rows else {}
    print(f"real eyes: {', '.join(f'{name} {floor:.4g}' for name, floor in floors.items() if floor is not None)}")
    keep("ldm_steps", {**settings, "real": real, "rows": rows}, out, recorded=not given.no_record)


def wanted(given: argparse.Namespace, timesteps: int) -> Iterator[tuple[str, int]]:
    """Yield samplers and steps, as far as the run's noise levels go."""
    for sampler in given.samplers:
        yield from ((sampler, steps) for steps in given.steps or CURVES[sampler] if steps <= timesteps)


def measured(
    run: Path, reference: CubeSet, real: dict[str, float], given: argparse.Namespace, *, sampler: str, steps: int
) -> dict[str, Any]:
    """Return what one sampler gives at one number of steps, and how long a cube takes it."""
    generator = Ldm(LdmOptions(sampler=sampler, steps=steps))
    generator.load(run, device="cpu")
    next(iter(generator.sample(1, seed=given.seed)))  # a first batch is slower than the next
    start = time.perf_counter()
    made = as_set(generator.sample(given.n, seed=given.seed), generator.wavelengths)
    seconds = (time.perf_counter() - start) / given.n
    report = score(made, ref=reference, metrics=METRICS, device="cpu")
    seen = anatomy(in_memory(made))
    return {
        "sampler": sampler,
        "steps": steps,
        **{name: report[name].value for name in METRICS},
        "spreads": spreads(report),
        "floors": {name: report[name].floor for name in METRICS},
        "vessels": seen[DARK] / real[DARK],
        "one_disc": seen["one_bright_disc"],
        "anatomy": seen,
        "seconds": seconds,
    }


def spreads(report: Report) -> dict[str, Any]:
    """Return the spread of each metric over splits, and that of its floor."""
    return {name: [report[name].details.get(which) for which in ("spread", "floor_spread")] for name in METRICS}


def options() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run of hseval train-ldm")
    parser.add_argument("--ref", type=Path, help="real eyes that the run has not seen")
    parser.add_argument("--out", type=Path, help="folder for results [default: steps, beside the run]")
    parser.add_argument("-n", type=int, default=128, help="samples at each number of steps")
    parser.add_argument("--samplers", nargs="+", choices=CURVES, default=tuple(CURVES))
    parser.add_argument("--steps", type=int, nargs="+", help="in place of each sampler's own")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cubes", type=int, default=256, help="of a reference that is drawn")
    parser.add_argument("--size", type=int, default=64, help="side of its pictures, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--no-record", action="store_true", help="leave the result in the folder alone")
    return parser.parse_args()


if __name__ == "__main__":
    main(options())
