"""A trained run, and hseval_ldm's own diffusion stage on its latents, as benchmarks take them."""

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
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentCache, LatentScaler
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.models.vqgan import Autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.run import build_denoiser, load_autoencoder
from hseval_ldm.training.run_config import read_config
from hseval_ldm.training.stage_diffusion import DiffusionStage, encode_cubes
from hseval_ldm.utils.distributed import Ranks

SEED = 0


@dataclasses.dataclass
class Trained:
    """The networks of a run as samples are drawn with them, and the training set's cubes."""

    options: LdmOptions
    normalisation: Normalization
    autoencoder: Autoencoder
    scale: LatentScaler
    weights: dict[str, torch.Tensor]

    @classmethod
    def read(cls, run: Path) -> Trained:
        """Read a run's best checkpoints.

        Raises:
            HsevalError: it is no run, or has no finished stages.
        """
        config = read_config(run)
        normalisation = Normalization.from_record(config.normalisation)
        autoencoder, _ = load_autoencoder(run, config.options, normalisation)
        tensors, _ = checkpoint.load(run / "diffusion", which=checkpoint.BEST)
        scale = LatentScaler(tensors["scale.mean"], tensors["scale.deviation"])
        weights = checkpoint.unpack("ema", tensors)
        return cls(config.options, normalisation, autoencoder.eval().requires_grad_(False), scale, weights)

    def denoiser(self) -> Denoiser:
        """Return a new U-Net with the run's averaged weights."""
        made = build_denoiser(self.options, self.autoencoder.latent_shape[0])
        made.load_state_dict(self.weights)
        return made

    def known(self, data: CubeSet, most: int) -> CubeDataset:
        """Return the first cubes of the training set, in memory where they fit."""
        self.normalisation.check_compatible(data)
        indices = range(min(len(data), most))
        return CubeDataset.open(data, indices, self.normalisation, memory_gib=self.options.memory)

    def cached(self, known: CubeDataset, folder: Path) -> LatentCache:
        """Write the latents of all cubes and flips as a run does, and return them memory-mapped."""
        options, cpu = self.options, torch.device("cpu")
        return LatentCache.build(
            folder / "latents.npy",
            lambda at, variant: encode_cubes(self.autoencoder, known, at, options, cpu, variant=variant),
            count=len(known),
            variants={"none": 1, "horizontal": 2, "both": 4}[options.flip],
            fingerprint={},
            ranks=Ranks(),
        )


def diffusion_stage(
    options: LdmOptions,
    cache: LatentCache,
    denoiser: Denoiser,
    autoencoder: Autoencoder,
    known: CubeDataset,
    *,
    device: torch.device | None = None,
) -> DiffusionStage:
    """Return the stage that trains on ``cache`` for as many steps as a benchmark may ask."""
    ranks = Ranks(device=device or torch.device("cpu"))
    judge = HeldOutEvaluator(known, autoencoder.normalization, ranks, SEED)
    held_out = torch.zeros(0, *cache.shape)
    return DiffusionStage(options, cache, held_out, denoiser, autoencoder, evaluator=judge, ranks=ranks, seed=SEED)


def changed(options: LdmOptions, **values: Any) -> LdmOptions:
    """Return the options with other values."""
    return LdmOptions(**(options_to_dict(options) | values))


def random_rows(count: int, shape: tuple[int, int, int]) -> LatentCache:
    """Return a cache in memory of ``count`` noise latents."""
    rows = np.random.default_rng(SEED).standard_normal((count, *shape), dtype=np.float32)
    return LatentCache(rows, LatentScaler(torch.zeros(shape[0]), torch.ones(shape[0])))


@contextmanager
def clocked(*methods: tuple[type, str], device: torch.device | None = None) -> Iterator[dict[str, float]]:
    """Sum the wall-clock seconds spent inside methods of classes, by ``Class.method``, while the block runs.

    A GPU is waited for before and after each call, so that its time counts where it was asked for.
    """
    spent: dict[str, float] = {}
    kept = [(owner, name, getattr(owner, name)) for owner, name in methods]
    for owner, name, method in kept:
        spent[f"{owner.__name__}.{name}"] = 0.0
        setattr(owner, name, _clocked(method, spent, f"{owner.__name__}.{name}", device))
    try:
        yield spent
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)


def _clocked(
    method: Callable[..., Any], spent: dict[str, float], name: str, device: torch.device | None
) -> Callable[..., Any]:
    def called(*given: Any, **named: Any) -> Any:
        settle(device)
        start = time.perf_counter()
        result = method(*given, **named)
        settle(device)
        spent[name] += time.perf_counter() - start
        return result

    return called


def settle(device: torch.device | None) -> None:
    """Wait until a GPU has done all that it was asked for."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
