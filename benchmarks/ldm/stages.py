"""A trained run, and hseval_ldm's own diffusion stage on its latents, for benchmarks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hseval.core.cubes import CubeSet
from hseval.core.options import options_to_dict
from hseval.training.checkpoints import BEST, unpack_state
from hseval.utils.distributed import Ranks
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentCache, LatentScaler
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import Denoiser, build_denoiser
from hseval_ldm.models.vqgan import Autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.run import load_autoencoder
from hseval_ldm.training.run_config import get_checkpoints, read_config
from hseval_ldm.training.stage_diffusion import DiffusionStage, encode_cubes

SEED = 0


@dataclasses.dataclass
class TrainedRun:
    """The networks of a run as used for sampling, and access to the training set's cubes and latents."""

    options: LdmOptions
    normalization: Normalization
    autoencoder: Autoencoder
    scale: LatentScaler
    weights: dict[str, torch.Tensor]

    @classmethod
    def read(cls, run: Path) -> TrainedRun:
        """Read a run's best checkpoints.

        Raises:
            HsevalError: not a run, or one without finished stages.
        """
        config = read_config(run)
        normalization = Normalization.from_record(config.normalization)
        autoencoder, _ = load_autoencoder(run, config.options, normalization)
        tensors, _ = get_checkpoints(run / "diffusion").load(which=BEST)
        scale = LatentScaler(tensors["scale.mean"], tensors["scale.deviation"])
        weights = unpack_state("ema", tensors)
        return cls(config.options, normalization, autoencoder.eval().requires_grad_(False), scale, weights)

    def build_denoiser(self) -> Denoiser:
        """Return a new U-Net with the run's averaged weights."""
        denoiser = build_denoiser(self.options, self.autoencoder.latent_shape[0])
        denoiser.load_state_dict(self.weights)
        return denoiser

    def load_cubes(self, data: CubeSet, max_count: int) -> CubeDataset:
        """Return up to ``max_count`` first cubes of the training set, in memory if they fit."""
        self.normalization.check_compatible(data)
        indices = range(min(len(data), max_count))
        return CubeDataset(data, indices, self.normalization, memory_gib=self.options.memory)

    def build_latent_cache(self, data: CubeDataset, folder: Path) -> LatentCache:
        """Write the latents of all cubes and flips as a run does; return them memory-mapped."""
        options, cpu = self.options, torch.device("cpu")
        return LatentCache.build(
            folder / "latents.npy",
            lambda at, variant: encode_cubes(self.autoencoder, data, at, options, cpu, variant=variant),
            count=len(data),
            variants={"none": 1, "horizontal": 2, "both": 4}[options.flip],
            fingerprint={},
            ranks=Ranks(),
        )


def build_diffusion_stage(
    options: LdmOptions,
    cache: LatentCache,
    denoiser: Denoiser,
    autoencoder: Autoencoder,
    data: CubeDataset,
    *,
    device: torch.device | None = None,
) -> DiffusionStage:
    """Return the stage that trains on ``cache``."""
    ranks = Ranks(device_name=str(device or "cpu"))
    evaluator = HeldOutEvaluator(data, autoencoder.normalization, ranks, SEED)
    held_out = torch.zeros(0, *cache.shape)
    return DiffusionStage(options, cache, held_out, denoiser, autoencoder, evaluator=evaluator, ranks=ranks, seed=SEED)


def replace_options(options: LdmOptions, **values: Any) -> LdmOptions:
    """Return the options with some values replaced."""
    return LdmOptions(**(options_to_dict(options) | values))


def make_random_latents(count: int, shape: tuple[int, int, int]) -> LatentCache:
    """Return a cache of ``count`` noise latents in memory."""
    latents = np.random.default_rng(SEED).standard_normal((count, *shape), dtype=np.float32)
    return LatentCache(latents, LatentScaler(torch.zeros(shape[0]), torch.ones(shape[0])))


@contextmanager
def time_methods(*methods: tuple[type, str], device: torch.device | None = None) -> Iterator[dict[str, float]]:
    """Sum the wall-clock seconds spent inside methods of classes, by ``Class.method``, while the block runs.

    A GPU is synchronized before and after each call, so that its time counts for the call that started the work.
    """
    seconds: dict[str, float] = {}
    originals = [(owner, name, getattr(owner, name)) for owner, name in methods]
    for owner, name, method in originals:
        seconds[f"{owner.__name__}.{name}"] = 0.0
        setattr(owner, name, _time_method(method, seconds, f"{owner.__name__}.{name}", device))
    try:
        yield seconds
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def _time_method(
    method: Callable[..., Any], seconds: dict[str, float], name: str, device: torch.device | None
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        synchronize(device)
        start = time.perf_counter()
        result = method(*args, **kwargs)
        synchronize(device)
        seconds[name] += time.perf_counter() - start
        return result

    return call


def synchronize(device: torch.device | None) -> None:
    """Wait until a GPU has finished all queued work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
