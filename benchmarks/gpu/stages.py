"""Time of k-means at an epoch's start, of the extractor, and of every stage at 672 x 672 x 16."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.device import free_memory, get_peak_memory, measure_rate, read_device_state
from benchmarks.gpu.speed import STEPS, Environment, build_sampling_pipeline, build_stage, measure_sampling_rate
from benchmarks.ldm.configurations import (
    Configuration,
    build_normalization,
    build_random_autoencoder,
    make_noise_dataset,
    make_noise_set,
)
from benchmarks.ldm.stages import SEED, synchronize
from hseval.extractors.scattering import Scattering
from hseval.utils.distributed import Ranks
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import ITEMS_PER_BLOCK
from hseval_ldm.models.vqgan import build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_diffusion import encode_cubes
from hseval_ldm.training.stage_perceptual import PerceptualStage, build_perceptual_encoder

EPOCH = 512  # cubes of the epoch whose start is timed; both scale with the number of cubes
EXTRACTED = 64
LARGE = Configuration(16, 32, 512)  # as in the preset retina-672
LARGE_CUBES = 64


def build_autoencoder_stage(env: Environment, options: LdmOptions, data: CubeDataset) -> AutoencoderStage:
    """Return the stage with random weights, its perceptual encoder included."""
    ranks = Ranks(device_name=str(env.device))
    normalization = build_normalization(data.size[0])
    model = build_autoencoder(options, normalization, seed=SEED)
    features = build_perceptual_encoder(options, len(normalization.mean), seed=SEED)
    evaluator = HeldOutEvaluator(data, normalization, ranks, SEED)
    return AutoencoderStage(
        options, data, model, perceptual_encoder=features, evaluator=evaluator, ranks=ranks, seed=SEED
    )


def measure_kmeans(env: Environment, compression: int, channels: int) -> dict[str, Any]:
    """Return the seconds of k-means at an epoch's start, the first and a later one, and their share of an epoch."""
    setting = env.setting
    count = 16 if setting.small else EPOCH
    free_memory(env.device)
    data = make_noise_dataset(count, setting.size)
    options = setting.build_options(Configuration(compression, channels, 128), ae_steps=STEPS, disc_start=1.0)
    stage = build_autoencoder_stage(env, options, data)
    starts = [_time_call(env, functools.partial(stage.start_epoch, epoch)) for epoch in range(3)]
    # From here on with the discriminator: the noise is measured too, and steps are slowest.
    stage.discriminator_start_step = 0
    with_noise = _time_call(env, functools.partial(stage.start_epoch, 3))
    steps, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    return {
        "cubes": count,
        "first_start_seconds": starts[0],
        "later_start_seconds": starts[-1],
        "later_start_with_noise_seconds": with_noise,
        "steps_per_second": steps,
        "batch": stage.batch_size,
        "share_of_an_epoch": starts[-1] / (starts[-1] + stage.epoch_steps / steps),
        "share_with_noise": with_noise / (with_noise + stage.epoch_steps / steps),
        "memory": get_peak_memory(env.device),
        "found": read_device_state(env.device),
    }


def measure_extraction(env: Environment) -> dict[str, Any]:
    """Return cubes a second of the default extractor on the device and on the CPU, and the features' difference."""
    size, count = env.setting.size, 4 if env.setting.small else EXTRACTED
    real = make_noise_set(count, size)
    field = real.masks["fov"]
    cubes = np.where(field[:, None], real.cubes, np.float32(np.nan))
    features, rates = {}, {}
    for name, device, batch in (("device", env.device, 16), ("cpu", torch.device("cpu"), 8)):
        extractor = Scattering()
        extractor.device = str(device)

        def extract(_: int, extractor: Scattering = extractor, batch: int = batch) -> Any:
            slices = (slice(start, start + batch) for start in range(0, count, batch))
            batches = [(cubes[part], {"fov": field[part]}) for part in slices]
            return np.concatenate([extractor(c, wavelengths=real.wavelengths, masks=m) for c, m in batches])

        per_second, _ = measure_rate(extract, device, warm=1, calls=1, blocks=2 if env.setting.small else 3)
        features[name], rates[name] = extract(0), per_second * count
    difference = float(np.abs(features["device"] - features["cpu"]).max())
    threads = torch.get_num_threads()
    ratio = rates["device"] / rates["cpu"]
    speeds = {"device_cubes_per_second": rates["device"], "cpu_cubes_per_second": rates["cpu"], "ratio": ratio}
    return {**speeds, "cpu_threads": threads, "largest_difference": difference, "found": read_device_state(env.device)}


def list_large_measurements(env: Environment) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Return the measurements at the largest size, by name: each on its own, with its peak memory."""
    measurements: dict[str, Callable[[Environment], dict[str, Any]]] = {
        "features": _measure_large_features,
        "autoencoder": _measure_large_autoencoder,
        "encode": _measure_large_encode,
        "diffusion": _measure_large_diffusion,
        "sampling": _measure_large_sampling,
    }
    return {name: functools.partial(_measure_alone, env, measure) for name, measure in measurements.items()}


def _measure_alone(env: Environment, measure: Callable[[Environment], dict[str, Any]]) -> dict[str, Any]:
    free_memory(env.device)
    return {**measure(env), "memory": get_peak_memory(env.device), "found": read_device_state(env.device)}


def _build_large_options(env: Environment, **values: Any) -> LdmOptions:
    overrides: dict[str, Any] = {"crop": 32, "tile": 2} if env.setting.small else {}
    return env.setting.build_options(LARGE, "retina-672", **(overrides | values))


def _make_large_data(env: Environment) -> CubeDataset:
    return make_noise_dataset(4 if env.setting.small else LARGE_CUBES, env.setting.large)


def _measure_large_features(env: Environment) -> dict[str, Any]:
    options, data = _build_large_options(env, features_steps=STEPS), _make_large_data(env)
    ranks = Ranks(device_name=str(env.device))
    stage = PerceptualStage(options, data, data, len(build_normalization(1).mean), ranks=ranks, seed=SEED)
    steps, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    return {"steps_per_second": steps, "batch": stage.batch_size, "crop": options.crop}


def _measure_large_autoencoder(env: Environment) -> dict[str, Any]:
    options, data = _build_large_options(env, ae_steps=STEPS, disc_start=0.0), _make_large_data(env)
    stage = build_autoencoder_stage(env, options, data)
    start = _time_call(env, functools.partial(stage.start_epoch, 0))  # k-means encodes whole cubes
    start_memory = get_peak_memory(env.device)
    free_memory(env.device)
    steps, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    speed = {"steps_per_second": steps, "batch": stage.batch_size, "crop": options.crop}
    return {**speed, "epoch_start_seconds": start, "epoch_start_memory": start_memory}


def _measure_large_encode(env: Environment) -> dict[str, Any]:
    """Encode as many whole cubes at once as the latent cache does."""
    options, data = _build_large_options(env), _make_large_data(env)
    autoencoder = build_random_autoencoder(options, env.setting.large, env.device)
    at = np.arange(min(ITEMS_PER_BLOCK, len(data)))

    def encode(_: int) -> None:
        encode_cubes(autoencoder, data, at, options, env.device)

    blocks, _ = measure_rate(encode, env.device, warm=1, calls=1, blocks=2)
    return {"cubes_per_second": blocks * len(at), "at_once": len(at)}


def _measure_large_diffusion(env: Environment) -> dict[str, Any]:
    stage = build_stage(env, _build_large_options(env, ldm_steps=STEPS), size=env.setting.large)
    steps, _ = measure_rate(stage.step, env.device, **env.quick_settings)
    stage.prefetcher.close()
    return {"steps_per_second": steps, "batch": stage.batch_size, "latents": list(stage.cache.shape)}


def _measure_large_sampling(env: Environment) -> dict[str, Any]:
    stage = build_stage(env, _build_large_options(env), size=env.setting.large)
    pipeline = build_sampling_pipeline(stage)
    del stage
    free_memory(env.device)
    samples, seconds = measure_sampling_rate(env, pipeline)
    tile = pipeline.options.tile
    return {"samples_per_second": samples, "batch": pipeline.batch_size, "tile": tile, "seconds": seconds}


def _time_call(env: Environment, run: Callable[[], object]) -> float:
    synchronize(env.device)
    start = time.perf_counter()
    run()
    synchronize(env.device)
    return time.perf_counter() - start
