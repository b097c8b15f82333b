"""The 27 configurations of the reference's study, at full size or in small for a trial on a CPU."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import diffusers  # noqa: F401 - must not be imported first under another default device
import numpy as np
import torch

from benchmarks.ldm.stages import SEED
from hseval.core.cubes import ArraySet
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.models.unet import Denoiser, build_denoiser
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder
from hseval_ldm.options import LdmOptions

STRUCTURES = ("artery", "fov", "onh", "vein")  # as phantom eyes have them
BANDS = 16
UNIQUE = 16  # noise cubes; larger sets repeat them


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
    def parse(cls, name: str) -> Configuration:
        """Return the configuration with this :attr:`name`; ValueError if it is not one."""
        compression, channels, base = map(int, name.split("/"))
        return cls(compression, channels, base)


ALL = tuple(Configuration(*c) for c in itertools.product((4, 8, 16), (8, 32, 256), (128, 256, 512)))
PAIRS_PUBLISHED = ((4, 8), (4, 32), (8, 8), (8, 32), (8, 256), (16, 256))
PUBLISHED = tuple(c for c in ALL if (c.compression, c.channels) in PAIRS_PUBLISHED)
LEFT_OUT = tuple(c for c in ALL if c not in PUBLISHED)
# For slow measurements: the study's optimum and two others.
SELECTED = tuple(map(Configuration.parse, ("8/8/128", "8/8/512", "4/8/256")))


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of data and networks.

    Attributes:
        small: for a trial on a CPU; its figures are meaningless.
        size: pixels of a side.
        large: pixels of a side of the largest images.
        width_divisor: divides the U-Net's base channels.
        overrides: options that differ from the preset's.
    """

    small: bool = False
    size: int = 224
    large: int = 672
    width_divisor: int = 1
    overrides: tuple[tuple[str, Any], ...] = ()

    def build_options(self, configuration: Configuration, preset: str = "retina-224", **values: Any) -> LdmOptions:
        """Return the options of a configuration."""
        overridden: dict[str, Any] = {
            "preset": preset,
            "compression": configuration.compression,
            "latent_channels": configuration.channels,
            "base": configuration.base // self.width_divisor,
        }
        return LdmOptions(**(overridden | dict(self.overrides) | values))


FULL = Setting()
SMALL = Setting(
    small=True,
    size=64,
    large=96,
    width_divisor=16,
    overrides=tuple(
        {
            "width": 8, "blocks": 1, "features_width": 4, "disc_width": 8, "codes": 32, "ae_batch": 4, "ldm_batch": 4,
            "unet_blocks": 1, "timesteps": 100, "steps": 3, "batch_size": 4, "loaders": 1, "memory": 1.0,
        }.items()
    ),
)  # fmt: skip


def build_normalization(size: int) -> Normalization:
    """Return a normalization that approximates that of eyes of this size."""
    mean, std = np.full(BANDS, 0.3), np.full(BANDS, 0.1)
    wavelengths = np.linspace(450, 905, BANDS)
    shape = (size, size)
    return Normalization(mean, std, 0 * mean, 1 + 0 * mean, wavelengths, "reflectance", STRUCTURES, shape)


def make_noise_set(count: int, size: int) -> ArraySet:
    """Return cubes of noise in a round field, with masks; speed does not depend on their content."""
    rng, unique = np.random.default_rng(SEED), min(count, UNIQUE)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    field = np.hypot(y, x) <= size / 2
    noise = rng.normal(0.3, 0.1, (unique, BANDS, size, size)).astype(np.float32) * field
    at = np.arange(count) % unique
    masks = {name: np.broadcast_to(field & ((x > 0) | (name == "fov")), (count, size, size)) for name in STRUCTURES}
    return ArraySet(noise[at], wavelengths=np.linspace(450, 905, BANDS), masks=masks)


def make_noise_dataset(count: int, size: int) -> CubeDataset:
    """Return :func:`make_noise_set` as a data set for training stages, in memory."""
    return CubeDataset(make_noise_set(count, size), range(count), build_normalization(size), memory_gib=1e6)


def build_random_autoencoder(options: LdmOptions, size: int, device: torch.device) -> Autoencoder:
    """Return a frozen autoencoder with random weights and codes, channels last."""
    autoencoder = build_autoencoder(options, build_normalization(size), seed=SEED)
    with torch.no_grad():
        autoencoder.codebook.vectors.normal_(generator=torch.Generator().manual_seed(SEED))
        autoencoder.codebook.initialised.fill_(True)
    return autoencoder.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def build_random_unet(options: LdmOptions, device: torch.device) -> Denoiser:
    """Return a U-Net with random weights."""
    with torch.device(device):  # drawing a billion weights takes a minute on a CPU
        return build_denoiser(options, options.latent_channels, seed=SEED)
