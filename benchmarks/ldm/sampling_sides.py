"""The two sides of ``sampling_speed.py``, run alternately: the reference recipe, and hseval_ldm in each precision."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.ldm.bars import get_stds
from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.stages import SEED, TrainedRun, build_diffusion_stage, replace_options, time_methods
from hseval import score
from hseval.core.cubes import ArraySet
from hseval.core.protocols import Sample
from hseval_ldm.data.augmentation import apply_flips, draw_flips
from hseval_ldm.data.batches import draw_batch_indices
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Batch
from hseval_ldm.generator import Ldm
from hseval_ldm.models.autoencoder import Decoder
from hseval_ldm.models.codebook import Codebook
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import CPU_BATCH_SIZE
from hseval_ldm.utils.precision import resolve_precision

CPU = torch.device("cpu")
REFERENCE = "reference"
WARM_UP = 2  # training steps


class TimedRounds(NamedTuple):
    """Outputs and seconds of alternating runs: by side, a list over rounds."""

    outputs: dict[str, list[Any]]
    seconds: dict[str, list[float]]

    def compute_rates(self, count: int) -> dict[str, float]:
        """Return each side's items a second, with ``count`` items in the median time of a round."""
        return {side: count / statistics.median(seconds) for side, seconds in self.seconds.items()}


def alternate(sides: Mapping[str, Callable[[int], Any]], rounds: int) -> TimedRounds:
    """Call the sides in turn with the number of the round, and time them."""
    result = TimedRounds({side: [] for side in sides}, {side: [] for side in sides})
    for number in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            output = run(number)
            result.seconds[side].append(time.perf_counter() - start)
            result.outputs[side].append(output)
    return result


def list_precisions() -> tuple[str, ...]:
    """Return float32, and bf16 if this CPU is fast at it."""
    return ("float32", "bf16") if resolve_precision("auto", CPU) == "bf16" else ("float32",)


def load_generators(run: Path, steps: int | None) -> dict[str, Ldm]:
    """Return the generator loaded in each precision."""
    overrides: dict[str, Any] = {} if steps is None else {"steps": steps}
    loaded = {name: Ldm(LdmOptions(precision=name, **overrides)) for name in list_precisions()}
    for generator in loaded.values():
        generator.load(run, device="cpu")
    return loaded


def time_sampling(
    recipe: Recipe, ours: Mapping[str, Ldm], structures: Sequence[str], count: int, rounds: int
) -> TimedRounds:
    """Draw ``count`` cubes a round on all sides."""

    def sample_reference(number: int) -> list[Sample]:
        samples = ((number * count + index, recipe.sample()) for index in range(count))
        return [
            Sample(s.cubes[0].numpy(), {n: s.masks[0, k].numpy() for k, n in enumerate(structures)}, f"reference-{i}")
            for i, s in samples
        ]

    def make_sampler(generator: Ldm) -> Callable[[int], list[Sample]]:
        return lambda number: list(generator.sample((number + 1) * count, seed=SEED, start=number * count))

    recipe.sample()
    for generator in ours.values():
        list(generator.sample(CPU_BATCH_SIZE, seed=SEED + 1))
    return alternate(
        {REFERENCE: sample_reference} | {name: make_sampler(generator) for name, generator in ours.items()}, rounds
    )


def profile_sampling(generator: Ldm, count: int) -> dict[str, float]:
    """Return the shares of sampling time inside U-Net, decoder and codebook, and the rest."""
    methods = ((Denoiser, "forward"), (Decoder, "forward"), (Codebook, "find_nearest"))
    with time_methods(*methods) as by_method:
        start = time.perf_counter()
        list(generator.sample(count, seed=SEED + 2))
        total = time.perf_counter() - start
    unet, decoder, codebook = (seconds / total for seconds in by_method.values())
    return {"unet": unet, "decoder": decoder, "codebook": codebook, "rest": 1 - unet - decoder - codebook}


def compute_fid(samples: Sequence[Sample], reference: Path, wavelengths: Any) -> dict[str, Any]:
    """Return hseval's ``fid`` of samples against real cubes, with floor and standard deviations."""
    masks = {name: np.stack([s.masks[name] for s in samples]) for name in samples[0].masks}
    generated = ArraySet(np.stack([s.cube for s in samples]), wavelengths=wavelengths, masks=masks)
    fid = score(generated, ref=reference, metrics=["fid"], seed=SEED, device="cpu", cache=False).scores[0]
    return {"value": fid.value, "floor": fid.floor, "n": fid.n, "verdict": fid.verdict, **get_stds(fid)}


def time_training(
    run: TrainedRun, data: CubeDataset, recipe: Recipe, *, folder: Path, count: int, rounds: int
) -> TimedRounds:
    """Take ``count`` training steps a round on all sides, at the run's batch; cache the latents in ``folder``."""
    options = replace_options(run.options, ldm_steps=WARM_UP + count * rounds)
    cache = run.build_latent_cache(data, folder)
    stages = {
        name: build_diffusion_stage(
            replace_options(options, precision=name), cache, run.build_denoiser(), run.autoencoder, data
        )
        for name in list_precisions()
    }

    def load_batch(step: int) -> Batch:
        indices = draw_batch_indices(step, batch_size=options.ldm_batch, count=len(data), seed=SEED, name="reference")
        flips = draw_flips(options.flip, seed=SEED, step=step, count=options.ldm_batch)
        return apply_flips(data.load_batch(indices), options.flip, flips)

    step_functions: dict[str, Callable[[int], Any]] = {REFERENCE: lambda step: recipe.step(load_batch(step))}
    step_functions |= {name: stage.step for name, stage in stages.items()}

    def make_runner(take_step: Callable[[int], Any]) -> Callable[[int], None]:
        steps = itertools.count(WARM_UP)

        def run_steps(_: int) -> None:
            for step in itertools.islice(steps, count):
                take_step(step)

        for step in range(WARM_UP):
            take_step(step)
        return run_steps

    result = alternate({name: make_runner(take_step) for name, take_step in step_functions.items()}, rounds)
    for stage in stages.values():
        stage.prefetcher.close()
    return result
