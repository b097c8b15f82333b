"""Training and sampling speed of the diffusion model on a device, and how the time is spent."""

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

from benchmarks.gpu.device import (
    count_decoder_flops,
    count_denoiser_flops,
    free_memory,
    get_peak_memory,
    measure_matrix_rate,
    measure_rate,
    read_device_state,
)
from benchmarks.ldm.configurations import (
    Configuration,
    Setting,
    build_random_autoencoder,
    build_random_unet,
    make_noise_dataset,
)
from benchmarks.ldm.reference_recipe import Recipe
from benchmarks.ldm.stages import (
    SEED,
    build_diffusion_stage,
    make_random_latents,
    replace_options,
    synchronize,
    time_methods,
)
from hseval.training.loop import train_stage as run_loop
from hseval.training.stage import StepIntervals
from hseval.utils.distributed import Ranks
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.models.autoencoder import Decoder
from hseval_ldm.models.codebook import Codebook
from hseval_ldm.models.unet import Denoiser, build_denoiser
from hseval_ldm.options import LdmOptions
from hseval_ldm.sampling.pipeline import Pipeline
from hseval_ldm.training.stage_diffusion import DiffusionStage

T = TypeVar("T")
STEPS = 1 << 20  # training steps of the options: more than are taken
LINES, LINE = 6, 20  # lines of the metrics log, and steps between them, in the real loop


@dataclasses.dataclass
class Environment:
    """Device and sizes of the measurements, and a folder for their files."""

    device: torch.device
    setting: Setting
    work: Path

    @property
    def quick_settings(self) -> dict[str, int]:
        """Arguments of :func:`measure_rate` for a small trial."""
        return {"warm": 1, "calls": 1, "blocks": 2} if self.setting.small else {}


def build_stage(
    env: Environment, options: LdmOptions, *, cache: LatentCache | None = None, size: int | None = None
) -> DiffusionStage:
    """Return the diffusion stage that the options describe, with random weights, on noise latents."""
    side = size or env.setting.size
    autoencoder = build_random_autoencoder(options, side, env.device)
    cache = cache or make_random_latents(2 * options.ldm_batch, autoencoder.latent_shape)
    unet = build_random_unet(options, env.device)
    return build_diffusion_stage(options, cache, unet, autoencoder, make_noise_dataset(2, side), device=env.device)


def measure_with_halving(env: Environment, options: LdmOptions, measure: Callable[[LdmOptions], T]) -> T:
    """Measure at the options' batches, or at half, a quarter or an eighth if memory is too small."""
    for divisor in (1, 2, 4, 8):
        batches = {name: max(1, getattr(options, name) // divisor) for name in ("ldm_batch", "batch_size")}
        free_memory(env.device)
        try:
            return measure(replace_options(options, **batches))
        except torch.OutOfMemoryError:
            print(f"out of memory with {batches}")
    raise MemoryError("an eighth of the batch does not fit")


# Speed of every configuration relative to the device's peak rate.


def measure_speed(env: Environment, configuration: Configuration) -> dict[str, Any]:
    """Return training steps and samples a second, FLOPs, and their share of the device's matrix rate."""
    peak_rate = measure_matrix_rate(env.device, small=env.setting.small)
    options = env.setting.build_options(configuration, ldm_steps=STEPS)
    result = measure_with_halving(env, options, functools.partial(_measure_speed, env))
    flops = result["flops"]
    training = result["training_steps_per_second"] * result["batch"] * flops["training"]
    sampling = result["samples_per_second"] * (options.steps * flops["unet"] + flops["decoder"])
    shares = {
        "training_share_of_matrix_rate": training / peak_rate,
        "sampling_share_of_matrix_rate": sampling / peak_rate,
    }
    return {**result, **shares, "matrix_flops_per_second": peak_rate, "found": read_device_state(env.device)}


def _measure_speed(env: Environment, options: LdmOptions) -> dict[str, Any]:
    stage = build_stage(env, options)
    shape = stage.cache.shape
    unet, both = count_denoiser_flops(lambda: build_denoiser(options, shape[0]), shape)
    steps, seconds = measure_rate(stage.step, env.device, **env.quick_settings)
    training_memory = get_peak_memory(env.device)
    stage.prefetcher.close()
    decoding = count_decoder_flops(stage.autoencoder.decoder, shape)
    parameters, pipeline = sum(weight.numel() for weight in stage.model.parameters()), build_sampling_pipeline(stage)
    del stage  # frees the optimizer's state
    free_memory(env.device)
    samples, batches = measure_sampling_rate(env, pipeline)
    return {
        "batch": options.ldm_batch,
        "latents": list(shape),
        "parameters": parameters,
        "training_steps_per_second": steps,
        "training_memory": training_memory,
        "samples_per_second": samples,
        "sampling_batch": pipeline.batch_size,
        "sampling_memory": get_peak_memory(env.device),
        "inside": profile_sampling(env, pipeline),
        "flops": {"unet": unet, "training": both, "decoder": decoding},
        "seconds": {"training": seconds, "sampling": batches},
    }


def build_sampling_pipeline(stage: DiffusionStage) -> Pipeline:
    """Return the sampling pipeline of a stage, with its gradients freed."""
    stage.optimizer.zero_grad(set_to_none=True)
    stage.model.eval().requires_grad_(False)
    return stage.build_pipeline()


def measure_sampling_rate(env: Environment, pipeline: Pipeline) -> tuple[float, list[float]]:
    """Return finished cubes a second, a batch at a time, and the seconds of each."""
    count = pipeline.batch_size

    def draw(number: int) -> None:
        for _ in pipeline.generate_cubes(range(number * count, (number + 1) * count), seed=SEED):
            pass

    per_second, seconds = measure_rate(draw, env.device, warm=1, calls=1, blocks=2 if env.setting.small else 5)
    return per_second * count, seconds


def profile_sampling(env: Environment, pipeline: Pipeline) -> dict[str, float]:
    """Return the shares of sampling time inside U-Net, decoder and codebook, synchronized at each call."""
    methods = ((Denoiser, "forward"), (Decoder, "forward"), (Codebook, "find_nearest"))
    count = 2 * pipeline.batch_size
    with time_methods(*methods, device=env.device) as by_method:
        start = time.perf_counter()
        for _ in pipeline.generate_cubes(range(count), seed=SEED):
            pass
        total = time.perf_counter() - start
    return {name: seconds / total for name, seconds in by_method.items()}


# The reference recipe on the same device.


def measure_reference(env: Environment, configuration: Configuration) -> dict[str, Any]:
    """Return the rates of hseval_ldm and of the reference recipe at equal networks and batch."""
    options = env.setting.build_options(configuration, ldm_steps=STEPS)
    result = measure_with_halving(env, options, functools.partial(_measure_reference, env))
    ratios = {f"{kind}_ratio": result["ours"][kind] / result["reference"][kind] for kind in ("samples", "steps")}
    return {**result, **ratios, "found": read_device_state(env.device)}


def _measure_reference(env: Environment, options: LdmOptions) -> dict[str, Any]:
    stage = build_stage(env, options)
    steps, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    autoencoder, scale, schedule = stage.autoencoder, stage.cache.scaler, stage.schedule
    pipeline = build_sampling_pipeline(stage)
    del stage
    samples, _ = measure_sampling_rate(env, pipeline)
    denoiser: Any = pipeline.denoise
    recipe = Recipe(autoencoder, denoiser, scale, schedule, device=env.device)
    del pipeline, denoiser
    free_memory(env.device)
    data = make_noise_dataset(2 * options.ldm_batch, env.setting.size)
    order = np.arange(len(data))

    def step(number: int) -> None:
        recipe.step(data.load_batch(np.roll(order, number * options.ldm_batch)[: options.ldm_batch]))

    reference_steps, _ = measure_rate(step, env.device, **env.quick_settings)
    reference_samples, seconds = measure_rate(
        lambda _: recipe.sample(), env.device, warm=1, calls=1, blocks=2 if env.setting.small else 3
    )
    return {
        "batch": options.ldm_batch,
        "ours": {"samples": samples, "steps": steps, "sampler": f"{options.sampler}, {options.steps} steps"},
        "reference": {
            "samples": reference_samples,
            "steps": reference_steps,
            "sampler": f"{recipe.steps} steps, one cube at a time",
        },
        "seconds_a_reference_sample": seconds,
    }


# The loop around the step.


class Resident:
    """A prefetcher whose batches are on the device already."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self.batches = batches

    def get(self, step: int) -> torch.Tensor:
        """Return one of the batches."""
        return self.batches[step % len(self.batches)]


def measure_loop(env: Environment, configuration: Configuration) -> dict[str, Any]:
    """Return steps a second of the real loop on a memory-mapped cache, and of its step alone on resident latents."""
    lines, line = (2, 2) if env.setting.small else (LINES, LINE)
    folder = env.work / "loop"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = env.setting.build_options(configuration, ldm_steps=lines * line)
    side = env.setting.size // options.compression
    noise = make_random_latents(8 * options.ldm_batch, (configuration.channels, side, side))
    np.save(folder / "latents.npy", noise.load_batch(np.arange(len(noise))).numpy())
    cache = LatentCache(np.load(folder / "latents.npy", mmap_mode="r"), noise.scaler)
    stage = build_stage(env, options, cache=cache)
    every = StepIntervals(log=line, checkpoint=0, preview=0, evaluate=0)
    ranks = Ranks(device_name=str(env.device))
    run_loop(stage, folder, ranks=ranks, resume=False, intervals=every, best_by=("loss", "lower"))
    written = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    paces = [json.loads(text)["steps_per_s"] for text in written]
    stage.prefetcher.close()
    batches = [cache.load_batch(np.arange(options.ldm_batch) + k * options.ldm_batch).to(env.device) for k in range(8)]
    resident: Any = Resident(batches)
    stage.prefetcher = resident
    alone, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    shutil.rmtree(folder)
    loop = statistics.median(paces[1:])  # the first line includes compilation and allocation
    return {
        "batch": options.ldm_batch,
        "loop_steps_per_second": loop,
        "resident_steps_per_second": alone,
        "share": loop / alone,
        "paces": paces,
        "found": read_device_state(env.device),
    }


# The sampler around the networks.


def measure_sampler(env: Environment, configuration: Configuration) -> dict[str, Any]:
    """Return the seconds of a sampled batch, and of its steps times a U-Net evaluation plus a decode, alone."""
    return measure_with_halving(env, env.setting.build_options(configuration), functools.partial(_measure_sampler, env))


def _measure_sampler(env: Environment, options: LdmOptions) -> dict[str, Any]:
    stage = build_stage(env, options)
    pipeline, plain = build_sampling_pipeline(stage), stage.model
    result: dict[str, Any] = {
        "batch": pipeline.batch_size,
        "steps": options.steps,
        "found": read_device_state(env.device),
    }
    result |= {f"eager_{name}": value for name, value in _compare_with_parts(env, pipeline).items()}
    try:
        pipeline.denoise = torch.compile(plain)
        result |= {f"compiled_{name}": value for name, value in _compare_with_parts(env, pipeline).items()}
    except Exception as error:  # noqa: BLE001 - most likely no compiler; the eager results remain
        result["not_compiled"] = str(error)[:200]
    return result


@torch.no_grad()
def _compare_with_parts(env: Environment, pipeline: Pipeline) -> Mapping[str, float]:
    device, shape = env.device, pipeline.autoencoder.latent_shape
    noisy = torch.randn((pipeline.batch_size, *shape), generator=torch.Generator().manual_seed(SEED)).to(device)
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    times = torch.full((pipeline.batch_size,), pipeline.schedule.steps // 2, device=device)

    def evaluate(_: int) -> None:
        with pipeline.autocast():
            pipeline.denoise(noisy, times)

    def decode(_: int) -> None:
        with pipeline.autocast():
            pipeline.autoencoder.decode(noisy, tile=pipeline.options.tile)

    evaluations, decodes = (measure_rate(run, device, **env.quick_settings)[0] for run in (evaluate, decode))
    samples, _ = measure_sampling_rate(env, pipeline)
    synchronize(device)
    seconds = pipeline.batch_size / samples
    parts = pipeline.options.steps / evaluations + 1 / decodes
    return {"seconds_a_batch": seconds, "seconds_of_parts": parts, "share": parts / seconds}
