"""hseval_ldm against the reference recipe (``reference_recipe.py``) with the same networks, on this machine's CPU.

    python -m benchmarks.ldm.sampling_speed --checkpoint RUN [--ref REAL] [--data TRAIN] [-n 64] [--threads 2]

RUN is a run of ``hseval train-ldm``, TRAIN the set it was trained on (by default the path stored in the run) and REAL
cubes not used for training (by default those of ``benchmarks.ldm.demo`` next to the run). Both sides have the run's
weights: the recipe samples in 300 ancestral steps, one cube at a time, and encodes in every training step; hseval_ldm
samples through its public generator and trains with its own stage and prefetcher. They alternate after a warm-up;
rates are medians over the rounds. The timed samples are also the scored ones.

On a CPU the generator samples in float32 and trains in bf16 if the CPU has matrix units for it. The targets apply to
these; the other precision is measured too.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import format_ratio, record, set_threads
from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.sampling_sides import (
    CPU,
    REFERENCE,
    compute_fid,
    list_precisions,
    load_generators,
    profile_sampling,
    time_sampling,
    time_training,
)
from benchmarks.ldm.stages import TrainedRun
from hseval.pipeline.open import open_set
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import CPU_BATCH_SIZE
from hseval_ldm.sampling.schedule import NoiseSchedule
from hseval_ldm.training.run_config import read_config

BARS = {"samples": 12.0, "training steps": 1.3, "share": 0.9}
MAX_CUBES = 1024  # of the training set
SAMPLING_DEFAULT = "float32"  # the generator's default on a CPU, so that a cube is the same on any CPU


def main(arguments: argparse.Namespace) -> None:
    """Measure, print and record."""
    threads = set_threads(arguments.threads)
    run = TrainedRun.read(arguments.checkpoint)
    data = open_set(str(arguments.data or read_config(arguments.checkpoint).location))
    schedule = NoiseSchedule(run.options.timesteps)
    recipe = Recipe(run.autoencoder, run.build_denoiser(), run.scale, schedule, device=CPU, noise=run.options.noise)
    ours = load_generators(arguments.checkpoint, arguments.steps)
    sampling = time_sampling(
        recipe, ours, run.normalization.structures, arguments.n // arguments.rounds, arguments.rounds
    )
    shares = {
        name: profile_sampling(generator, min(arguments.n, 4 * CPU_BATCH_SIZE)) for name, generator in ours.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        cubes = run.load_cubes(data, MAX_CUBES)
        steps = time_training(
            run, cubes, recipe, folder=Path(folder), count=arguments.train_steps, rounds=arguments.rounds
        )
    scores = {
        side: compute_fid(list(itertools.chain(*rounds)), arguments.ref, run.normalization.wavelengths)
        for side, rounds in sampling.outputs.items()
    }
    options = ours[SAMPLING_DEFAULT].options
    result = {
        "problem": describe_problem(run, options, recipe, threads),
        "samples_per_second": sampling.compute_rates(arguments.n // arguments.rounds),
        "training_steps_per_second": steps.compute_rates(arguments.train_steps),
        "seconds": {"sampling": sampling.seconds, "training": steps.seconds},
        "shares_of_sampling": shares,
        "fid": scores,
        "bars": compute_bars(sampling.compute_rates(1), steps.compute_rates(1), shares, scores),
        "diffusers": version("diffusers"),
    }
    print_table(result)
    if arguments.record:
        print(f"recorded in {record(arguments.record, result)}")


def describe_problem(run: TrainedRun, options: LdmOptions, recipe: Recipe, threads: int) -> dict[str, Any]:
    """Return sizes and settings of the measurement."""
    names = ("compression", "latent_channels", "width", "blocks", "base", "multipliers", "unet_blocks", "ldm_batch")
    return {
        "cubes": [len(run.normalization.mean), *run.normalization.size],
        "latents": list(run.autoencoder.latent_shape),
        **{name: getattr(run.options, name) for name in names},
        "timesteps": run.options.timesteps,
        "reference_steps": recipe.steps,
        "sampler": f"{options.sampler}, {options.steps} steps, batches of {CPU_BATCH_SIZE}",
        "threads": threads,
    }


def compute_bars(samples: Mapping[str, float], steps: Mapping[str, float], shares: Any, scores: Any) -> dict[str, Any]:
    """Return the value for each target; ``samples`` and ``steps`` are rates by side."""
    training = list_precisions()[-1]  # that of precision=auto
    ours, theirs = scores[SAMPLING_DEFAULT], scores[REFERENCE]
    share = shares[SAMPLING_DEFAULT]
    std = theirs["floor_spread"]
    as_good = None not in (ours["value"], theirs["value"], std) and ours["value"] <= theirs["value"] + std
    return {
        "samples": samples[SAMPLING_DEFAULT] / samples[REFERENCE],
        "training steps": steps[training] / steps[REFERENCE],
        "training precision": training,
        "share": share["unet"] + share["decoder"],
        "equal or better fid": as_good,
    }


def print_table(result: Mapping[str, Any]) -> None:
    """Print the table and the targets."""
    problem = result["problem"]
    print(
        f"cubes {problem['cubes']}, latents {problem['latents']}, base {problem['base']}; {problem['threads']} threads"
    )
    print(
        f"reference: {problem['reference_steps']} steps, one cube at a time, float32; hseval_ldm: {problem['sampler']}"
    )
    widths = {"samples/s": 10, "ratio": 7, "training steps/s": 17, "ratio ": 7}
    widths |= dict.fromkeys(("fid", "floor", "floor std"), 11)
    print(f"{'':10}" + "".join(f"{name:>{width}}" for name, width in widths.items()))
    samples, steps = result["samples_per_second"], result["training_steps_per_second"]
    for side, fid in result["fid"].items():
        rates = [figure for rate in (samples, steps) for figure in (rate[side], rate[side] / rate[REFERENCE])]
        figures = [*rates, fid["value"], fid["floor"], fid["floor_spread"]]
        cells = ("none" if value is None else f"{value:.4g}" for value in figures)
        print(f"{side:10}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths.values(), strict=True)))
    for name, share in result["shares_of_sampling"].items():
        print(f"sampling in {name}: " + ", ".join(f"{part} {value:.1%}" for part, value in share.items()))
    print_bars(result["bars"], result["fid"][REFERENCE]["n"])


def print_bars(bars: Mapping[str, Any], count: int) -> None:
    """Print each target and whether it is met."""
    print(f"samples/s, {SAMPLING_DEFAULT}: {format_ratio(bars['samples'], BARS['samples'])}")
    as_good = (
        "equal or better within the floor's standard deviation: met" if bars["equal or better fid"] else "worse: MISSED"
    )
    print(f"fid, {count} cubes per side: {as_good}")
    precision, ratio = bars["training precision"], bars["training steps"]
    print(f"training steps/s, {precision}: {format_ratio(ratio, BARS['training steps'])}")
    met = "met" if bars["share"] >= BARS["share"] else "MISSED"
    print(f"inside U-Net and decoder: {bars['share']:.1%} (target: {BARS['share']:.0%}): {met}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run of hseval train-ldm")
    parser.add_argument("--ref", type=Path, help="real cubes not used for training [default: RUN/../reference.h5]")
    parser.add_argument("--data", type=Path, help="the run's training set [default: the path stored in the run]")
    parser.add_argument("-n", type=int, default=64, help="cubes to draw on each side")
    parser.add_argument("--steps", type=int, help="steps of hseval_ldm's sampler [default: the run's]")
    parser.add_argument("--rounds", type=int, default=4, help="alternations of the sides")
    parser.add_argument("--train-steps", type=int, default=8, help="training steps a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", default="ldm/ldm", help="FOLDER/NAME in benchmarks/results; empty: do not record")
    arguments = parser.parse_args()
    arguments.ref = arguments.ref or arguments.checkpoint.parent / "reference.h5"
    if not arguments.ref.exists():  # checked before an hour of sampling
        parser.error(f"{arguments.ref} does not exist; --ref takes real cubes not used for training")
    if arguments.n % (arguments.rounds * CPU_BATCH_SIZE):
        parser.error(
            f"-n is {arguments.n}, expected a multiple of {arguments.rounds * CPU_BATCH_SIZE}: whole batches each round"
        )
    return arguments


if __name__ == "__main__":
    main(parse_arguments())
