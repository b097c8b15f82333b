"""hseval_ldm against the reference recipe (``reference_recipe.py``) with the same networks, on this machine's CPU.

    python -m benchmarks.ldm.sampling_speed --checkpoint RUN [--ref REAL] [--data TRAIN] [-n 64] [--threads 2]

RUN is a run of ``hseval train-ldm``, TRAIN the set it was trained on (by default where the run found it) and REAL
cubes it has not seen (by default those that ``ldm_demo.py`` left beside the run). Both sides have the run's weights:
the recipe samples in 300 ancestral steps, one cube at a time, and encodes in every training step; hseval_ldm samples
through its public generator and trains with its own stage and feed. They take turns, after a warm-up; rates are
medians over the rounds. Samples that were timed are those that are scored.

On a CPU the generator samples in float32 and trains in bf16 where there are matrix units for it. That is what the
bars are held against; the other precision is measured too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import record, set_threads, verdict
from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.sampling_sides import CPU, REFERENCE, generators, inside, precisions, quality, sampled, trained
from benchmarks.ldm.stages import Trained
from hseval.pipeline.open import open_set
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import CPU_BATCH_SIZE
from hseval_ldm.sampling.schedule import NoiseSchedule
from hseval_ldm.training.run_config import read_config

BARS = {"samples": 12.0, "training steps": 1.3, "share": 0.9}
MOST_CUBES = 1024  # of the training set
SAMPLING_DEFAULT = "float32"  # what the generator takes on a CPU, so that a cube is the same on any


def main(given: argparse.Namespace) -> None:
    """Measure, print and record."""
    threads = set_threads(given.threads)
    run = Trained.read(given.checkpoint)
    data = open_set(str(given.data or read_config(given.checkpoint).location))
    schedule = NoiseSchedule("cosine", run.options.timesteps)
    recipe = Recipe(run.autoencoder, run.denoiser(), run.scale, schedule, device=CPU, noise=run.options.noise)
    ours = generators(given.checkpoint, given.steps)
    drawn = sampled(recipe, ours, run.normalisation.structures, given.n // given.rounds, given.rounds)
    shares = {name: inside(generator, min(given.n, 4 * CPU_BATCH_SIZE)) for name, generator in ours.items()}
    with tempfile.TemporaryDirectory() as folder:
        known = run.known(data, MOST_CUBES)
        steps = trained(run, known, recipe, folder=Path(folder), each=given.train_steps, rounds=given.rounds)
    scores = {
        side: quality([one for part in parts for one in part], given.ref, run.normalisation.wavelengths)
        for side, parts in drawn.made.items()
    }
    options = ours[SAMPLING_DEFAULT].options
    result = {
        "problem": problem(run, options, recipe, threads),
        "samples_per_second": drawn.rates(given.n // given.rounds),
        "training_steps_per_second": steps.rates(given.train_steps),
        "seconds": {"sampling": drawn.seconds, "training": steps.seconds},
        "shares_of_sampling": shares,
        "fid": scores,
        "judged": judged(drawn.rates(1), steps.rates(1), shares, scores),
        "diffusers": version("diffusers"),
    }
    show(result)
    if given.record:
        print(f"recorded in {record(given.record, result)}")


def problem(run: Trained, options: LdmOptions, recipe: Recipe, threads: int) -> dict[str, Any]:
    """Return what was measured, in figures."""
    names = ("compression", "latent_channels", "width", "blocks", "base", "multipliers", "unet_blocks", "ldm_batch")
    return {
        "cubes": [len(run.normalisation.mean), *run.normalisation.size],
        "latents": list(run.autoencoder.latent_shape),
        **{name: getattr(run.options, name) for name in names},
        "timesteps": run.options.timesteps,
        "reference_steps": recipe.steps,
        "sampler": f"{options.sampler}, {options.steps} steps, batches of {CPU_BATCH_SIZE}",
        "threads": threads,
    }


def judged(samples: Mapping[str, float], steps: Mapping[str, float], shares: Any, scores: Any) -> dict[str, Any]:
    """Return each bar with what it is held against; samples and steps are rates by side."""
    training = precisions()[-1]  # what precision=auto stands for
    ours, theirs = scores[SAMPLING_DEFAULT], scores[REFERENCE]
    share = shares[SAMPLING_DEFAULT]
    spread = theirs["floor_spread"]
    as_good = None not in (ours["value"], theirs["value"], spread) and ours["value"] <= theirs["value"] + spread
    return {
        "samples": samples[SAMPLING_DEFAULT] / samples[REFERENCE],
        "training steps": steps[training] / steps[REFERENCE],
        "training precision": training,
        "share": share["unet"] + share["decoder"],
        "equal or better fid": as_good,
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the table and what it says of the bars."""
    told = result["problem"]
    print(f"cubes {told['cubes']}, latents {told['latents']}, base {told['base']}; {told['threads']} threads")
    print(f"reference: {told['reference_steps']} steps one by one, float32; hseval_ldm: {told['sampler']}")
    widths = {"samples/s": 10, "ratio": 7, "training steps/s": 17, "ratio ": 7}
    widths |= dict.fromkeys(("fid", "floor", "its spread"), 11)
    print(f"{'':10}" + "".join(f"{name:>{width}}" for name, width in widths.items()))
    samples, steps = result["samples_per_second"], result["training_steps_per_second"]
    for side, fid in result["fid"].items():
        rates = [figure for rate in (samples, steps) for figure in (rate[side], rate[side] / rate[REFERENCE])]
        figures = [*rates, fid["value"], fid["floor"], fid["floor_spread"]]
        cells = ("none" if value is None else f"{value:.4g}" for value in figures)
        print(f"{side:10}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths.values(), strict=True)))
    for name, share in result["shares_of_sampling"].items():
        print(f"sampling in {name}: " + ", ".join(f"{part} {value:.1%}" for part, value in share.items()))
    show_bars(result["judged"], result["fid"][REFERENCE]["n"])


def show_bars(found: Mapping[str, Any], count: int) -> None:
    """Print each bar, and whether it is met."""
    print(f"samples/s, {SAMPLING_DEFAULT}: {verdict(found['samples'], BARS['samples'])}")
    as_good = "equal or better within the floor's spread: met" if found["equal or better fid"] else "worse: MISSED"
    print(f"fid, {count} cubes a side: {as_good}")
    precision, ratio = found["training precision"], found["training steps"]
    print(f"training steps/s, {precision}: {verdict(ratio, BARS['training steps'])}")
    met = "met" if found["share"] >= BARS["share"] else "MISSED"
    print(f"inside U-Net and decoder: {found['share']:.1%} (bar: {BARS['share']:.0%}): {met}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run of hseval train-ldm")
    parser.add_argument("--ref", type=Path, help="real cubes that the run has not seen [default: RUN/../reference.h5]")
    parser.add_argument("--data", type=Path, help="the run's training set [default: where the run found it]")
    parser.add_argument("-n", type=int, default=64, help="cubes to draw on each side")
    parser.add_argument("--steps", type=int, help="steps of hseval_ldm's sampler [default: the run's]")
    parser.add_argument("--rounds", type=int, default=4, help="how often the sides take turns")
    parser.add_argument("--train-steps", type=int, default=8, help="training steps a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", default="ldm", help="name in benchmarks/results; empty: do not record")
    given = parser.parse_args()
    given.ref = given.ref or given.checkpoint.parent / "reference.h5"
    if not given.ref.exists():  # said before an hour of sampling, not after it
        parser.error(f"{given.ref} is not there; --ref takes real cubes that the run has not seen")
    if given.n % (given.rounds * CPU_BATCH_SIZE):
        parser.error(
            f"-n is {given.n}, expected a multiple of {given.rounds * CPU_BATCH_SIZE}: whole batches each round"
        )
    return given


if __name__ == "__main__":
    main(arguments())
