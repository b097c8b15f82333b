"""Quality against sampling steps: the samplers of a trained run, from the same noise, scored against unseen eyes.

Besides ``fid`` and ``spectral-kl`` it measures vessel area relative to the reference's and the share of samples with
exactly one disc, both from the cubes alone. Finished measurements are stored and not repeated.

    python -m benchmarks.ldm.steps --checkpoint RUN [--ref REAL] [-n 128]

Without ``--ref`` the reference is ``reference.h5`` next to the run (written by ``benchmarks.ldm.demo``), drawn if it is
missing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.ldm.bars import get_stds
from benchmarks.ldm.eye_measures import DEPTHS
from benchmarks.ldm.runs import (
    REFERENCE_SEED,
    build_set,
    draw_eyes,
    format_markdown,
    load_eyes,
    load_or_measure,
    measure_anatomy,
    prepare_folder,
    save_result,
)
from hseval import CubeSet, open_set, score
from hseval.training.checkpoints import BEST
from hseval.utils.hashing import compute_sha256
from hseval_ldm.generator import Ldm
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run_config import get_checkpoints, read_config

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
    "seconds": ("seconds per cube", ".3f"),
}


def main(arguments: argparse.Namespace) -> None:
    """Run the unfinished measurements, print the table and record it."""
    run: Path = arguments.checkpoint
    out: Path = arguments.out or run.parent / "steps"
    prepare_folder(out)
    path = arguments.ref or draw_eyes(
        run.parent / "reference.h5",
        arguments.cubes,
        seed=REFERENCE_SEED,
        size=arguments.size,
        oversampling=arguments.oversampling,
    )
    reference = open_set(path)
    real = measure_anatomy(load_eyes(reference))
    stages = ("autoencoder", "diffusion")
    weights = {stage: compute_sha256(get_checkpoints(run / stage).get_path(BEST)) for stage in stages}
    settings = {"weights": weights, "reference": compute_sha256(Path(path)), "n": arguments.n, "seed": arguments.seed}
    rows = []
    for sampler, steps in list_runs(arguments, read_config(run).options.timesteps):
        print(f"{sampler}, {steps} steps", flush=True)
        measure = partial(measure_sampler, run, reference, real, arguments, sampler=sampler, steps=steps)
        rows.append(load_or_measure(out / f"{sampler}-{steps}.json", settings, measure))
    print(format_markdown(rows, COLUMNS))
    floors = rows[0]["floors"] if rows else {}
    print(f"real eyes: {', '.join(f'{name} {floor:.4g}' for name, floor in floors.items() if floor is not None)}")
    save_result("ldm_steps", {**settings, "real": real, "rows": rows}, out, recorded=not arguments.no_record)


def list_runs(arguments: argparse.Namespace, timesteps: int) -> Iterator[tuple[str, int]]:
    """Yield samplers and steps, up to the run's number of noise levels."""
    for sampler in arguments.samplers:
        yield from ((sampler, steps) for steps in arguments.steps or CURVES[sampler] if steps <= timesteps)


def measure_sampler(
    run: Path, reference: CubeSet, real: dict[str, float], arguments: argparse.Namespace, *, sampler: str, steps: int
) -> dict[str, Any]:
    """Return quality and seconds per cube of one sampler at one number of steps."""
    generator = Ldm(LdmOptions(sampler=sampler, steps=steps))
    generator.load(run, device="cpu")
    next(iter(generator.sample(1, seed=arguments.seed)))  # warm-up
    start = time.perf_counter()
    samples = build_set(generator.sample(arguments.n, seed=arguments.seed), generator.wavelengths)
    seconds = (time.perf_counter() - start) / arguments.n
    report = score(samples, ref=reference, metrics=METRICS, device="cpu")
    anatomy = measure_anatomy(load_eyes(samples))
    return {
        "sampler": sampler,
        "steps": steps,
        **{name: report[name].value for name in METRICS},
        "spreads": {name: list(get_stds(report[name]).values()) for name in METRICS},
        "floors": {name: report[name].floor for name in METRICS},
        "vessels": anatomy[DARK] / real[DARK],
        "one_disc": anatomy["one_bright_disc"],
        "anatomy": anatomy,
        "seconds": seconds,
    }


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run of hseval train-ldm")
    parser.add_argument("--ref", type=Path, help="real eyes not used for training")
    parser.add_argument("--out", type=Path, help="folder for results [default: steps, next to the run]")
    parser.add_argument("-n", type=int, default=128, help="samples at each number of steps")
    parser.add_argument("--samplers", nargs="+", choices=CURVES, default=tuple(CURVES))
    parser.add_argument("--steps", type=int, nargs="+", help="instead of each sampler's defaults")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cubes", type=int, default=256, help="number of eyes, if the reference is drawn")
    parser.add_argument("--size", type=int, default=64, help="side of its images, px")
    parser.add_argument("--oversampling", type=int, default=4)
    parser.add_argument("--no-record", action="store_true", help="write the result to the folder only")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_arguments())
