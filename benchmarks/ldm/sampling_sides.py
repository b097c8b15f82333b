"""The two sides of ``ldm.py``, taking turns: the reference recipe, and hseval_ldm in each precision."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.stages import SEED, Trained, changed, clocked, diffusion_stage
from hseval import score
from hseval.core.cubes import ArraySet
from hseval.core.hookspecs import Sample
from hseval_ldm.data.augmentation import apply_flips, draw_flips
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.epoch_order import draw_batch_indices
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


class Rounds(NamedTuple):
    """What taking turns gave: things made and seconds taken, a list by side and round."""

    made: dict[str, list[Any]]
    seconds: dict[str, list[float]]

    def rates(self, count: int) -> dict[str, float]:
        """Return each side's median of ``count`` things a round over its seconds."""
        return {side: count / statistics.median(taken) for side, taken in self.seconds.items()}


def in_turn(sides: Mapping[str, Callable[[int], Any]], rounds: int) -> Rounds:
    """Call every side with the number of the round, one after the other, and time it."""
    result = Rounds({side: [] for side in sides}, {side: [] for side in sides})
    for number in range(rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            made = run(number)
            result.seconds[side].append(time.perf_counter() - start)
            result.made[side].append(made)
    return result


def precisions() -> tuple[str, ...]:
    """Return float32, and bf16 if this CPU is fast at it."""
    return ("float32", "bf16") if resolve_precision("auto", CPU) == "bf16" else ("float32",)


def generators(run: Path, steps: int | None) -> dict[str, Ldm]:
    """Return the generator loaded in each precision."""
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    loaded = {name: Ldm(LdmOptions(precision=name, **given)) for name in precisions()}
    for generator in loaded.values():
        generator.load(run, device="cpu")
    return loaded


def sampled(recipe: Recipe, ours: Mapping[str, Ldm], structures: Sequence[str], each: int, rounds: int) -> Rounds:
    """Draw ``each`` cubes a round on all sides."""

    def theirs(number: int) -> list[Sample]:
        finished = ((number * each + place, recipe.sample()) for place in range(each))
        return [
            Sample(f.cubes[0].numpy(), {s: f.masks[0, k].numpy() for k, s in enumerate(structures)}, f"reference-{i}")
            for i, f in finished
        ]

    def drawn_by(generator: Ldm) -> Callable[[int], list[Sample]]:
        return lambda number: list(generator.sample((number + 1) * each, seed=SEED, start=number * each))

    recipe.sample()
    for generator in ours.values():
        list(generator.sample(CPU_BATCH_SIZE, seed=SEED + 1))
    return in_turn({REFERENCE: theirs} | {name: drawn_by(generator) for name, generator in ours.items()}, rounds)


def inside(generator: Ldm, count: int) -> dict[str, float]:
    """Return the shares of sampling time inside U-Net, decoder and codebook, and the rest."""
    watched = ((Denoiser, "forward"), (Decoder, "forward"), (Codebook, "nearest"))
    with clocked(*watched) as spent:
        start = time.perf_counter()
        list(generator.sample(count, seed=SEED + 2))
        whole = time.perf_counter() - start
    unet, decoder, codebook = (seconds / whole for seconds in spent.values())
    return {"unet": unet, "decoder": decoder, "codebook": codebook, "rest": 1 - unet - decoder - codebook}


def quality(samples: Sequence[Sample], reference: Path, wavelengths: Any) -> dict[str, Any]:
    """Return hseval's ``fid`` of samples against real cubes, with floor and spreads."""
    masks = {name: np.stack([s.masks[name] for s in samples]) for name in samples[0].masks}
    made = ArraySet(np.stack([s.cube for s in samples]), wavelengths=wavelengths, masks=masks)
    found = score(made, ref=reference, metrics=["fid"], seed=SEED, device="cpu", cache=False).scores[0]
    spreads = {name: found.details.get(name) for name in ("spread", "floor_spread")}
    return {"value": found.value, "floor": found.floor, "n": found.n, "verdict": found.verdict, **spreads}


def trained(run: Trained, known: CubeDataset, recipe: Recipe, *, folder: Path, each: int, rounds: int) -> Rounds:
    """Take ``each`` training steps a round on all sides, at the run's batch; the latents' cache goes to ``folder``."""
    options = changed(run.options, ldm_steps=WARM_UP + each * rounds)
    cache = run.cached(known, folder)
    stages = {
        name: diffusion_stage(changed(options, precision=name), cache, run.denoiser(), run.autoencoder, known)
        for name in precisions()
    }

    def batch(step: int) -> Batch:
        chosen = draw_batch_indices(step, batch_size=options.ldm_batch, count=len(known), seed=SEED, name="reference")
        flips = draw_flips(options.flip, seed=SEED, step=step, count=options.ldm_batch)
        return apply_flips(known.load_batch(chosen), options.flip, flips)

    takers: dict[str, Callable[[int], Any]] = {REFERENCE: lambda step: recipe.step(batch(step))}
    takers |= {name: stage.step for name, stage in stages.items()}

    def several(take: Callable[[int], Any]) -> Callable[[int], None]:
        steps = itertools.count(WARM_UP)

        def run_steps(_: int) -> None:
            for step in itertools.islice(steps, each):
                take(step)

        for step in range(WARM_UP):
            take(step)
        return run_steps

    found = in_turn({name: several(take) for name, take in takers.items()}, rounds)
    for stage in stages.values():
        stage.prefetcher.close()
    return found
