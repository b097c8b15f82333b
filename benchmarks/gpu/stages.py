"""What else takes a device's time: k-means at an epoch's start, the extractor, and every stage at 672 x 672 x 16."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.device import forget, found, memory, rate
from benchmarks.gpu.speed import STEPS, Place, sampling, sampling_rate, stage_for
from benchmarks.ldm.configurations import Configuration, autoencoder_of, noise_data, noise_set, normalisation_of
from benchmarks.ldm.stages import SEED, settle
from hseval.extractors.scattering import Scattering
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import ITEMS_PER_BLOCK
from hseval_ldm.models.vqgan import build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_diffusion import encode_cubes
from hseval_ldm.training.stage_perceptual import PerceptualStage, build_perceptual_encoder
from hseval_ldm.utils.distributed import Ranks

EPOCH = 512  # cubes of an epoch whose start is timed; with more of them, both it and the epoch are longer
EXTRACTED = 64
LARGE = Configuration(16, 32, 512)  # that of the preset retina-672
LARGE_CUBES = 64


def autoencoder_stage(place: Place, options: LdmOptions, known: CubeDataset) -> AutoencoderStage:
    """Return the stage with random weights, its perceptual encoder included."""
    ranks = Ranks(device=place.device)
    normalisation = normalisation_of(known.size[0])
    model = build_autoencoder(options, normalisation, seed=SEED)
    features = build_perceptual_encoder(options, len(normalisation.mean), seed=SEED)
    judge = HeldOutEvaluator(known, normalisation, ranks, SEED)
    return AutoencoderStage(options, known, model, perceptual_encoder=features, evaluator=judge, ranks=ranks, seed=SEED)


def kmeans(place: Place, compression: int, channels: int) -> dict[str, Any]:
    """Return the seconds of k-means at an epoch's start, the first and a later one, and their share of an epoch."""
    setting = place.setting
    count = 16 if setting.small else EPOCH
    forget(place.device)
    known = noise_data(count, setting.size)
    options = setting.options(Configuration(compression, channels, 128), ae_steps=STEPS, disc_start=1.0)
    stage = autoencoder_stage(place, options, known)
    starts = [_timed(place, functools.partial(stage.start_epoch, epoch)) for epoch in range(3)]
    stage.discriminator_start_step = (
        0  # from here on with the discriminator: the noise is measured too, and steps cost most
    )
    with_noise = _timed(place, functools.partial(stage.start_epoch, 3))
    steps, _ = rate(stage.step, place.device, **place.few)
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
        "memory": memory(place.device),
        "found": found(place.device),
    }


def extraction(place: Place) -> dict[str, Any]:
    """Return cubes a second of hseval's default extractor on the device and on the CPU, and how far rows differ."""
    size, count = place.setting.size, 4 if place.setting.small else EXTRACTED
    real = noise_set(count, size)
    field = real.masks["fov"]
    cubes = np.where(field[:, None], real.cubes, np.float32(np.nan))
    rows, rates = {}, {}
    for name, device, batch in (("device", place.device, 16), ("cpu", torch.device("cpu"), 8)):
        extractor = Scattering()
        extractor.device = str(device)

        def describe(_: int, extractor: Scattering = extractor, batch: int = batch) -> Any:
            parts = (slice(at, at + batch) for at in range(0, count, batch))
            given = [(cubes[part], {"fov": field[part]}) for part in parts]
            return np.concatenate([extractor(c, wavelengths=real.wavelengths, masks=m) for c, m in given])

        per_second, _ = rate(describe, device, warm=1, each=1, blocks=2 if place.setting.small else 3)
        rows[name], rates[name] = describe(0), per_second * count
    gap = float(np.abs(rows["device"] - rows["cpu"]).max())
    threads = torch.get_num_threads()
    ratio = rates["device"] / rates["cpu"]
    told = {"device_cubes_per_second": rates["device"], "cpu_cubes_per_second": rates["cpu"], "ratio": ratio}
    return {**told, "cpu_threads": threads, "largest_difference": gap, "found": found(place.device)}


def large_parts(place: Place) -> Mapping[str, Callable[[], dict[str, Any]]]:
    """Return what is measured at the largest size, by name: each alone, with the memory that it takes."""
    parts: dict[str, Callable[[Place], dict[str, Any]]] = {
        "features": _large_features,
        "autoencoder": _large_autoencoder,
        "encode": _large_encode,
        "diffusion": _large_diffusion,
        "sampling": _large_sampling,
    }
    return {name: functools.partial(_alone, place, part) for name, part in parts.items()}


def _alone(place: Place, part: Callable[[Place], dict[str, Any]]) -> dict[str, Any]:
    forget(place.device)
    return {**part(place), "memory": memory(place.device), "found": found(place.device)}


def _large_options(place: Place, **values: Any) -> LdmOptions:
    given: dict[str, Any] = {"crop": 32, "tile": 2} if place.setting.small else {}
    return place.setting.options(LARGE, "retina-672", **(given | values))


def _large_data(place: Place) -> CubeDataset:
    return noise_data(4 if place.setting.small else LARGE_CUBES, place.setting.large)


def _large_features(place: Place) -> dict[str, Any]:
    options, known = _large_options(place, features_steps=STEPS), _large_data(place)
    ranks = Ranks(device=place.device)
    stage = PerceptualStage(options, known, known, len(normalisation_of(1).mean), ranks=ranks, seed=SEED)
    steps, _ = rate(stage.step, place.device, **place.few)
    stage.prefetcher.close()
    return {"steps_per_second": steps, "batch": stage.batch_size, "crop": options.crop}


def _large_autoencoder(place: Place) -> dict[str, Any]:
    options, known = _large_options(place, ae_steps=STEPS, disc_start=0.0), _large_data(place)
    stage = autoencoder_stage(place, options, known)
    start = _timed(place, functools.partial(stage.start_epoch, 0))  # k-means encodes whole cubes
    started = memory(place.device)
    forget(place.device)
    steps, _ = rate(stage.step, place.device, **place.few)
    stage.prefetcher.close()
    told = {"steps_per_second": steps, "batch": stage.batch_size, "crop": options.crop}
    return {**told, "epoch_start_seconds": start, "epoch_start_memory": started}


def _large_encode(place: Place) -> dict[str, Any]:
    """Encode as many whole cubes at once as the latents' cache does."""
    options, known = _large_options(place), _large_data(place)
    autoencoder = autoencoder_of(options, place.setting.large, place.device)
    at = np.arange(min(ITEMS_PER_BLOCK, len(known)))

    def encode(_: int) -> None:
        encode_cubes(autoencoder, known, at, options, place.device)

    blocks, _ = rate(encode, place.device, warm=1, each=1, blocks=2)
    return {"cubes_per_second": blocks * len(at), "at_once": len(at)}


def _large_diffusion(place: Place) -> dict[str, Any]:
    stage = stage_for(place, _large_options(place, ldm_steps=STEPS), size=place.setting.large)
    steps, _ = rate(stage.step, place.device, **place.few)
    stage.prefetcher.close()
    return {"steps_per_second": steps, "batch": stage.batch_size, "latents": list(stage.cache.shape)}


def _large_sampling(place: Place) -> dict[str, Any]:
    stage = stage_for(place, _large_options(place), size=place.setting.large)
    pipeline = sampling(stage)
    del stage
    forget(place.device)
    samples, seconds = sampling_rate(place, pipeline)
    tile = pipeline.options.tile
    return {"samples_per_second": samples, "batch": pipeline.batch_size, "tile": tile, "seconds": seconds}


def _timed(place: Place, run: Callable[[], object]) -> float:
    settle(place.device)
    start = time.perf_counter()
    run()
    settle(place.device)
    return time.perf_counter() - start
