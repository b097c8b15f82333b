"""How fast the diffusion model trains and samples on a device, and where the time goes."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.gpu.device import decoder_flops, denoiser_flops, forget, found, matrix_rate, memory, rate
from benchmarks.ldm.configurations import Configuration, Setting, autoencoder_of, noise_data, unet_of
from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.stages import SEED, changed, clocked, diffusion_stage, random_rows, settle
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.models.autoencoder import Decoder
from hseval_ldm.models.codebook import Codebook
from hseval_ldm.models.unet import Denoiser, count_parameters
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import Pipeline
from hseval_ldm.training.loop import train_stage as run_loop
from hseval_ldm.training.run import build_denoiser
from hseval_ldm.training.stage import StepIntervals
from hseval_ldm.training.stage_diffusion import DiffusionStage
from hseval_ldm.utils.distributed import Ranks

T = TypeVar("T")
STEPS = 1 << 20  # more training steps than are taken
LINES, LINE = 6, 20  # of the journal, and steps between them, in the real loop


@dataclasses.dataclass
class Place:
    """Where measurements run, how large they are, and a folder for what they leave."""

    device: torch.device
    setting: Setting
    work: Path

    @property
    def few(self) -> dict[str, int]:
        """How often a small trial does what is timed."""
        return {"warm": 1, "each": 1, "blocks": 2} if self.setting.small else {}


def stage_for(
    place: Place, options: LdmOptions, *, rows: LatentCache | None = None, size: int | None = None
) -> DiffusionStage:
    """Return the diffusion stage that the options describe, with random weights, on noise latents."""
    side = size or place.setting.size
    autoencoder = autoencoder_of(options, side, place.device)
    cache = rows or random_rows(2 * options.ldm_batch, autoencoder.latent_shape)
    unet = unet_of(options, place.device)
    return diffusion_stage(options, cache, unet, autoencoder, noise_data(2, side), device=place.device)


def halving(place: Place, options: LdmOptions, measure: Callable[[LdmOptions], T]) -> T:
    """Measure at the options' batches, or at half, a quarter or an eighth where memory does not take them."""
    for part in (1, 2, 4, 8):
        batches = {name: max(1, getattr(options, name) // part) for name in ("ldm_batch", "batch_size")}
        forget(place.device)
        try:
            return measure(changed(options, **batches))
        except torch.OutOfMemoryError:
            print(f"out of memory with {batches}")
    raise MemoryError("an eighth of the batch is too much")


# Every configuration: what is reached of what the device can do.


def speed(place: Place, configuration: Configuration) -> dict[str, Any]:
    """Return training steps and samples a second, FLOPs, and the share of the device's rate that they are."""
    most = matrix_rate(place.device, small=place.setting.small)
    options = place.setting.options(configuration, ldm_steps=STEPS)
    result = halving(place, options, functools.partial(_speed, place))
    flops = result["flops"]
    training = result["training_steps_per_second"] * result["batch"] * flops["training"]
    sampling = result["samples_per_second"] * (options.steps * flops["unet"] + flops["decoder"])
    shares = {"training_share_of_matrix_rate": training / most, "sampling_share_of_matrix_rate": sampling / most}
    return {**result, **shares, "matrix_flops_per_second": most, "found": found(place.device)}


def _speed(place: Place, options: LdmOptions) -> dict[str, Any]:
    stage = stage_for(place, options)
    shape = stage.cache.shape
    unet, both = denoiser_flops(lambda: build_denoiser(options, shape[0]), shape)
    steps, seconds = rate(stage.step, place.device, **place.few)
    taken = memory(place.device)
    stage.prefetcher.close()
    decoding = decoder_flops(stage.autoencoder.decoder, shape)
    parameters, pipeline = count_parameters(stage.model), sampling(stage)
    del stage  # the optimiser's state is not what sampling needs
    forget(place.device)
    samples, batches = sampling_rate(place, pipeline)
    return {
        "batch": options.ldm_batch,
        "latents": list(shape),
        "parameters": parameters,
        "training_steps_per_second": steps,
        "training_memory": taken,
        "samples_per_second": samples,
        "sampling_batch": pipeline.batch_size,
        "sampling_memory": memory(place.device),
        "inside": inside(place, pipeline),
        "flops": {"unet": unet, "training": both, "decoder": decoding},
        "seconds": {"training": seconds, "sampling": batches},
    }


def sampling(stage: DiffusionStage) -> Pipeline:
    """Return what samples are drawn with, without the gradients' memory."""
    stage.optimizer.zero_grad(set_to_none=True)
    stage.model.eval().requires_grad_(False)
    return stage.build_pipeline()


def sampling_rate(place: Place, pipeline: Pipeline) -> tuple[float, list[float]]:
    """Return finished cubes a second, a batch at a time, and the seconds of each."""
    count = pipeline.batch_size

    def draw(number: int) -> None:
        for _ in pipeline.generate_cubes(range(number * count, (number + 1) * count), seed=SEED):
            pass

    per_second, seconds = rate(draw, place.device, warm=1, each=1, blocks=2 if place.setting.small else 5)
    return per_second * count, seconds


def inside(place: Place, pipeline: Pipeline) -> dict[str, float]:
    """Return the shares of sampling time inside U-Net, decoder and codebook, the device waited for at each."""
    watched = ((Denoiser, "forward"), (Decoder, "forward"), (Codebook, "nearest"))
    count = 2 * pipeline.batch_size
    with clocked(*watched, device=place.device) as spent:
        start = time.perf_counter()
        for _ in pipeline.generate_cubes(range(count), seed=SEED):
            pass
        whole = time.perf_counter() - start
    return {name: seconds / whole for name, seconds in spent.items()}


# The reference recipe on the same device.


def reference(place: Place, configuration: Configuration) -> dict[str, Any]:
    """Return the rates of hseval_ldm and of the reference recipe at equal networks and batch."""
    options = place.setting.options(configuration, ldm_steps=STEPS)
    result = halving(place, options, functools.partial(_reference, place))
    ratios = {f"{what}_ratio": result["ours"][what] / result["reference"][what] for what in ("samples", "steps")}
    return {**result, **ratios, "found": found(place.device)}


def _reference(place: Place, options: LdmOptions) -> dict[str, Any]:
    stage = stage_for(place, options)
    steps, _ = rate(stage.step, place.device, **place.few)
    stage.prefetcher.close()
    autoencoder, scale, schedule = stage.autoencoder, stage.cache.scaler, stage.schedule
    pipeline = sampling(stage)
    del stage
    samples, _ = sampling_rate(place, pipeline)
    denoiser: Any = pipeline.denoise
    recipe = Recipe(autoencoder, denoiser, scale, schedule, device=place.device)
    del pipeline, denoiser
    forget(place.device)
    known = noise_data(2 * options.ldm_batch, place.setting.size)
    order = np.arange(len(known))

    def step(number: int) -> None:
        recipe.step(known.load_batch(np.roll(order, number * options.ldm_batch)[: options.ldm_batch]))

    theirs, _ = rate(step, place.device, **place.few)
    one, seconds = rate(lambda _: recipe.sample(), place.device, warm=1, each=1, blocks=2 if place.setting.small else 3)
    return {
        "batch": options.ldm_batch,
        "ours": {"samples": samples, "steps": steps, "sampler": f"{options.sampler}, {options.steps} steps"},
        "reference": {"samples": one, "steps": theirs, "sampler": f"{recipe.steps} steps, one by one"},
        "seconds_a_reference_sample": seconds,
    }


# The loop around the step.


class Resident:
    """A feed whose batches lie on the device already."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches = batches

    def get(self, step: int) -> torch.Tensor:
        """Return one of the batches."""
        return self.batches[step % len(self.batches)]


def loop(place: Place, configuration: Configuration) -> dict[str, Any]:
    """Return steps a second of the real loop on a memory-mapped cache, and of its step alone on resident latents."""
    lines, line = (2, 2) if place.setting.small else (LINES, LINE)
    folder = place.work / "loop"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = place.setting.options(configuration, ldm_steps=lines * line)
    side = place.setting.size // options.compression
    noise = random_rows(8 * options.ldm_batch, (configuration.channels, side, side))
    np.save(folder / "latents.npy", noise.load_batch(np.arange(len(noise))).numpy())
    cache = LatentCache(np.load(folder / "latents.npy", mmap_mode="r"), noise.scaler)
    stage = stage_for(place, options, rows=cache)
    every = StepIntervals(log=line, checkpoint=0, preview=0, evaluate=0)
    run_loop(stage, folder, ranks=Ranks(device=place.device), resume=False, intervals=every, best_by=("loss", "lower"))
    written = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    paces = [json.loads(text)["steps_per_s"] for text in written]
    stage.prefetcher.close()
    batches = [
        cache.load_batch(np.arange(options.ldm_batch) + k * options.ldm_batch).to(place.device) for k in range(8)
    ]
    resident: Any = Resident(batches)
    stage.prefetcher = resident
    alone, _ = rate(stage.step, place.device, **place.few)
    shutil.rmtree(folder)
    whole = statistics.median(paces[1:])  # the first line pays for what is compiled and allocated once
    return {
        "batch": options.ldm_batch,
        "loop_steps_per_second": whole,
        "resident_steps_per_second": alone,
        "share": whole / alone,
        "paces": paces,
        "found": found(place.device),
    }


# The sampler around the networks.


def sampler(place: Place, configuration: Configuration) -> dict[str, Any]:
    """Return the seconds of a sampled batch, and of its steps times a U-Net evaluation plus a decode, alone."""
    return halving(place, place.setting.options(configuration), functools.partial(_sampler, place))


def _sampler(place: Place, options: LdmOptions) -> dict[str, Any]:
    stage = stage_for(place, options)
    pipeline, plain = sampling(stage), stage.model
    result: dict[str, Any] = {"batch": pipeline.batch_size, "steps": options.steps, "found": found(place.device)}
    result |= {f"eager_{name}": value for name, value in _against_parts(place, pipeline).items()}
    try:
        pipeline.denoise = torch.compile(plain)
        result |= {f"compiled_{name}": value for name, value in _against_parts(place, pipeline).items()}
    except Exception as error:  # noqa: BLE001 - no compiler, most likely; what ran without one is kept
        result["not_compiled"] = str(error)[:200]
    return result


@torch.no_grad()
def _against_parts(place: Place, pipeline: Pipeline) -> Mapping[str, float]:
    device, shape = place.device, pipeline.autoencoder.latent_shape
    noisy = torch.randn((pipeline.batch_size, *shape), generator=torch.Generator().manual_seed(SEED)).to(device)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    times = torch.full((pipeline.batch_size,), pipeline.schedule.steps // 2, device=device)

    def evaluate(_: int) -> None:
        with pipeline.autocast():
            pipeline.denoise(noisy, times)

    def decode(_: int) -> None:
        with pipeline.autocast():
            pipeline.autoencoder.decode(noisy, tile=pipeline.options.tile)

    evaluations, decodes = (rate(run, device, **place.few)[0] for run in (evaluate, decode))
    samples, _ = sampling_rate(place, pipeline)
    settle(device)
    seconds = pipeline.batch_size / samples
    parts = pipeline.options.steps / evaluations + 1 / decodes
    return {"seconds_a_batch": seconds, "seconds_of_parts": parts, "share": parts / seconds}
