"""The 27 configurations of the reference's study, and how each is set up: in full, or in small to try on a CPU."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import diffusers  # noqa: F401 - its first import is not to happen under another default device
import numpy as np
import torch

from benchmarks.ldm.stages import SEED
from hseval.core.cubes import ArraySet
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training.run import build_denoiser

STRUCTURES = ("artery", "fov", "onh", "vein")  # as phantom eyes have them
BANDS = 16
UNIQUE = 16  # noise cubes; sets of more repeat them


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Compression, latent channels and the U-Net's base channels."""

    compression: int
    channels: int
    base: int

    @property
    def name(self) -> str:
        """The three with slashes, as the study writes them."""
        return f"{self.compression}/{self.channels}/{self.base}"

    @classmethod
    def named(cls, name: str) -> Configuration:
        """Return the configuration that :attr:`name` names; ValueError where it is none."""
        compression, channels, base = map(int, name.split("/"))
        return cls(compression, channels, base)


ALL = tuple(Configuration(*c) for c in itertools.product((4, 8, 16), (8, 32, 256), (128, 256, 512)))
PAIRS_PUBLISHED = ((4, 8), (4, 32), (8, 8), (8, 32), (8, 256), (16, 256))
PUBLISHED = tuple(c for c in ALL if (c.compression, c.channels) in PAIRS_PUBLISHED)
LEFT_OUT = tuple(c for c in ALL if c not in PUBLISHED)
CHOSEN = tuple(map(Configuration.named, ("8/8/128", "8/8/512", "4/8/256")))  # for what takes long: its optimum and two


@dataclasses.dataclass(frozen=True)
class Setting:
    """How large everything is.

    Attributes:
        small: for a trial on a CPU; its figures say nothing.
        size: pixels of a side.
        large: pixels of a side where the largest pictures are meant.
        narrow: what the U-Net's base channels are divided by.
        more: options that differ from the preset's.
    """

    small: bool = False
    size: int = 224
    large: int = 672
    narrow: int = 1
    more: tuple[tuple[str, Any], ...] = ()

    def options(self, configuration: Configuration, preset: str = "retina-224", **values: Any) -> LdmOptions:
        """Return the options of a configuration."""
        given: dict[str, Any] = {
            "preset": preset,
            "compression": configuration.compression,
            "latent_channels": configuration.channels,
            "base": configuration.base // self.narrow,
        }
        return LdmOptions(**(given | dict(self.more) | values))


FULL = Setting()
SMALL = Setting(
    small=True,
    size=64,
    large=96,
    narrow=16,
    more=tuple(
        {
            "width": 8, "blocks": 1, "features_width": 4, "disc_width": 8, "codes": 32, "ae_batch": 4, "ldm_batch": 4,
            "unet_blocks": 1, "timesteps": 100, "steps": 3, "batch_size": 4, "loaders": 1, "memory": 1.0,
        }.items()
    ),
)  # fmt: skip


def normalisation_of(size: int) -> Normalization:
    """Return what eyes of a size are normalised with, near enough."""
    mean, deviation = np.full(BANDS, 0.3), np.full(BANDS, 0.1)
    wavelengths = np.linspace(450, 905, BANDS)
    shape = (size, size)
    return Normalization(mean, deviation, 0 * mean, 1 + 0 * mean, wavelengths, "reflectance", STRUCTURES, shape)


def noise_set(count: int, size: int) -> ArraySet:
    """Return cubes of noise in a round field, with masks; speed does not depend on what they show."""
    rng, unique = np.random.default_rng(SEED), min(count, UNIQUE)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    field = np.hypot(y, x) <= size / 2
    noise = rng.normal(0.3, 0.1, (unique, BANDS, size, size)).astype(np.float32) * field
    at = np.arange(count) % unique
    masks = {name: np.broadcast_to(field & ((x > 0) | (name == "fov")), (count, size, size)) for name in STRUCTURES}
    return ArraySet(noise[at], wavelengths=np.linspace(450, 905, BANDS), masks=masks)


def noise_data(count: int, size: int) -> CubeDataset:
    """Return :func:`noise_set` as stages train on it, in memory."""
    return CubeDataset.open(noise_set(count, size), range(count), normalisation_of(size), memory_gib=1e6)


def autoencoder_of(options: LdmOptions, size: int, device: torch.device) -> Autoencoder:
    """Return a frozen autoencoder with random weights and codes, channels last."""
    made = build_autoencoder(options, normalisation_of(size), seed=SEED)
    with torch.no_grad():
        made.codebook.vectors.normal_(generator=torch.Generator().manual_seed(SEED))
        made.codebook.initialised.fill_(True)
    return made.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def unet_of(options: LdmOptions, device: torch.device) -> Denoiser:
    """Return a U-Net with random weights."""
    with torch.device(device):  # a billion weights take a minute to draw on a CPU
        return build_denoiser(options, options.latent_channels, seed=SEED)
