"""All options, declared once: command line, presets, the run's config.json and the docs derive from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from hseval.plugin import HsevalError, format_suggestion, option

PRESETS = ("smoke", "demo", "retina-224", "retina-672")
STAGE_CHOICES = ("all", "features", "autoencoder", "diffusion")
COMMAND_OPTIONS = ("stage", "resume")  # of a single command, not of a run


@dataclasses.dataclass(frozen=True, init=False)
class LdmOptions:
    """Options of the generator ``ldm``: those that are not set come from the preset, then from the defaults below.

    Attributes:
        explicit_names: names of the options that were passed.
        preset_names: names of the options that the preset sets.
    """

    explicit_names: ClassVar[frozenset[str]]
    preset_names: ClassVar[frozenset[str]]

    preset: str | None = option(None, "smoke, demo, retina-224, retina-672, or a TOML file")
    stage: Literal["all", "features", "autoencoder", "diffusion"] = option("all", "train this stage only")
    resume: bool = option(False, "resume from the run's last checkpoints")

    held_out: float = option(0.125, "share of the cubes (whole groups) held out of training for evaluation")
    memory: float = option(8.0, "GiB of memory for cubes; a larger set is read from disk on demand")
    loaders: int = option(
        2, "threads that prepare batches; 0 uses the training thread, fastest on a CPU with few cores"
    )
    flip: Literal["none", "horizontal", "both"] = option("none", "flips that augment the training cubes")

    model: Literal["vqgan", "vqvae"] = option("vqgan", "autoencoder with a discriminator, or without")
    compression: int = option(8, "downsampling factor from pixels to latents: 4, 8 or 16")
    latent_channels: int = option(8, "channels of a latent")
    width: int = option(64, "channels of the autoencoder's finest level; doubled up to twice toward the latents")
    blocks: int = option(2, "residual blocks of each level of encoder and decoder")
    stem: int = option(2, "space-to-depth factor of the autoencoder's first layer: 1, 2 or 4")
    codes: int = option(1024, "number of codebook vectors")
    kmeans: Literal["every", "first", "off"] = option("every", "epochs at whose start k-means sets the codebook")
    kmeans_iterations: int = option(5, "iterations of each k-means")
    kmeans_cubes: int = option(
        4096, "training cubes whose latents k-means clusters; a fixed random subset of larger sets"
    )
    code_decay: float = option(0.99, "decay per step of the codebook's moving averages")

    crop: int | None = option(None, "side in pixels of the autoencoder's training crops; none: whole cubes")
    features_steps: int = option(1000, "training steps of the perceptual encoder; 0: no perceptual term")
    features_width: int = option(32, "channels of the perceptual encoder's finest level")
    features_lr: float = option(1e-3, "peak learning rate of the perceptual encoder")
    ae_steps: int = option(100000, "training steps of the autoencoder")
    ae_batch: int = option(16, "cubes per step of autoencoder and perceptual encoder, over all ranks")
    ae_lr: float = option(4e-4, "peak learning rate of the autoencoder")
    disc_lr: float = option(2e-4, "learning rate of the discriminator")
    disc_width: int = option(64, "channels of the discriminator's first layer")
    disc_start: float = option(0.5, "share of the autoencoder's steps before adversarial training starts")
    mask_gain: float = option(3.0, "extra weight of pixels in structures; grows as a structure's area shrinks")
    contrast_gain: float = option(1.0, "extra weight of pixels of high local contrast")
    fine: float = option(2.0, "weight of the L1 term of detail finer than 5 pixels")
    angle: float = option(0.5, "weight of the spectral angle in radians")
    masks: float = option(1.0, "weight of the masks' cross-entropy and Dice")
    perceptual: float = option(0.5, "weight of the perceptual term")
    adversarial: float = option(0.2, "weight of the adversarial term, on top of the adaptive weight")
    commitment: float = option(0.25, "weight of the distance of latents from their codes")

    base: int = option(256, "channels of the U-Net's finest level, such as 128, 256, 512")
    multipliers: tuple[int, ...] = option((1, 2, 4), "channels of each level of the U-Net, times base")
    unet_blocks: int = option(2, "residual blocks of each level of the U-Net")
    dropout: float = option(0.0, "dropout of the U-Net in training")
    timesteps: int = option(1000, "noise levels of the diffusion")
    snr_gamma: float = option(5.0, "gamma of the min-SNR loss weight")
    ldm_steps: int = option(200000, "training steps of the diffusion model")
    ldm_batch: int = option(32, "latents per step of the diffusion model, over all ranks")
    ldm_lr: float = option(2e-4, "peak learning rate of the diffusion model")
    ema: float = option(0.9999, "decay per step of the moving average of the U-Net's weights")
    start_from: str | None = option(None, "run whose U-Net initializes this one; it may be of another resolution")

    sampler: Literal["ddpm", "ddim", "dpm-solver"] = option("dpm-solver", "sampler of the latents")
    steps: int = option(12, "U-Net evaluations per sample")
    batch_size: int = option(16, "cubes sampled together")
    tile: int = option(0, "side in latents of the tiles that are decoded separately; 0: whole cubes")
    noise: float = option(1.0, "sensor noise added to samples, relative to that of the training set; 0: none")

    precision: Literal["auto", "float32", "bf16"] = option("auto", "auto: bf16 where fast, float32 to sample on a CPU")
    compile: bool = option(False, "compile the networks (torch.compile; needs a C++ compiler or Triton)")
    log_every: int = option(50, "steps between lines of metrics.jsonl")
    checkpoint_every: int = option(1000, "steps between checkpoints")
    score_every: int = option(10000, "steps between evaluations: held-out metrics, scores and preview images")
    score_cubes: int = option(64, "cubes sampled for the scores during training")
    best_by: Literal["fid", "spectral-kl", "loss"] = option("fid", "held-out metric that selects the best checkpoints")
    tensorboard: bool = option(False, "also log to TensorBoard (pip install tensorboard)")

    def __init__(self, **values: Any) -> None:
        """Complete the given values by those of the preset, then by the defaults.

        Raises:
            TypeError: an unknown name.
            ValueError: an invalid value.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if unknown := sorted(set(values) - set(defaults)):
            raise TypeError(f"no option {unknown[0]!r}{format_suggestion(unknown[0], defaults)}")
        preset = values.get("preset")
        # A run's record is complete: its preset's file may have changed since, or be on another machine.
        is_complete = set(defaults) <= {*values, *COMMAND_OPTIONS}
        preset_values = dict(load_preset(preset)) if preset and not is_complete else {}
        for name, value in (defaults | preset_values | values).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "explicit_names", frozenset(values))
        object.__setattr__(self, "preset_names", frozenset(preset_values))
        check_options(self)


SAMPLING_OPTIONS = ("sampler", "steps", "batch_size", "tile", "noise", "precision", "compile")

# The options that determine each stage that runs can share, in addition to those of the stages before it.
STAGE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "features": (
        "held_out", "flip", "crop", "features_steps", "features_width", "features_lr", "ae_batch", "score_every",
        "precision", "compile",
    ),
    "autoencoder": (
        "model", "compression", "latent_channels", "width", "blocks", "stem", "codes", "kmeans", "kmeans_iterations",
        "kmeans_cubes", "code_decay", "ae_steps", "ae_lr", "disc_lr", "disc_width", "disc_start", "mask_gain",
        "contrast_gain", "fine", "angle", "masks", "perceptual", "adversarial", "commitment", "noise", "best_by",
    ),
}  # fmt: skip


def load_preset(preset: str) -> Mapping[str, Any]:
    """Return the values of a preset that ships with hseval_ldm, or of a TOML file.

    Raises:
        HsevalError: no such preset, an unreadable file, or an unknown option.
    """
    import tomllib
    from importlib import resources
    from typing import get_type_hints

    from hseval.plugin import convert_value, read_toml

    if preset in PRESETS:
        table = tomllib.loads((resources.files("hseval_ldm") / "presets" / f"{preset}.toml").read_text("utf-8"))
    elif not preset.endswith(".toml"):
        message = f"preset {preset!r}: neither a preset that ships with hseval nor a .toml file"
        raise HsevalError(message + format_suggestion(preset, PRESETS))
    else:
        table = read_toml(preset)
    hints = get_type_hints(LdmOptions)
    for name in table:
        if name not in hints or name == "preset":
            suggestion = format_suggestion(name, set(hints) - {"preset"})
            raise HsevalError(f"preset {preset}: has no option {name!r}{suggestion}")
    return {name: convert_value(value, hints[name], owner=f"preset {preset}: {name}") for name, value in table.items()}


OPTION_BOUNDS: Mapping[str, tuple[float, float]] = {
    "held_out": (0, 0.9), "memory": (0, 1e6), "loaders": (0, 64), "latent_channels": (1, 4096), "width": (4, 4096),
    "blocks": (1, 16), "codes": (2, 1 << 20), "kmeans_iterations": (1, 1000), "kmeans_cubes": (1, 1 << 30),
    "code_decay": (0, 0.999999), "features_steps": (0, 1 << 40), "features_width": (4, 4096), "features_lr": (0, 1),
    "ae_steps": (1, 1 << 40), "ae_batch": (1, 1 << 20), "ae_lr": (0, 1), "disc_lr": (0, 1), "disc_width": (4, 4096),
    "disc_start": (0, 1), "mask_gain": (0, 1e6), "contrast_gain": (0, 1e6), "fine": (0, 1e6), "angle": (0, 1e6),
    "masks": (0, 1e6), "perceptual": (0, 1e6), "adversarial": (0, 1e6), "commitment": (0, 1e6), "base": (8, 8192),
    "unet_blocks": (1, 16), "dropout": (0, 0.95), "timesteps": (2, 100000), "snr_gamma": (0, 1e9),
    "ldm_steps": (1, 1 << 40), "ldm_batch": (1, 1 << 20), "ldm_lr": (0, 1), "ema": (0, 1), "steps": (1, 100000),
    "batch_size": (1, 1 << 20), "tile": (0, 1 << 20), "noise": (0, 1000), "log_every": (1, 1 << 40),
    "checkpoint_every": (1, 1 << 40), "score_every": (1, 1 << 40), "score_cubes": (0, 1 << 20),
}  # fmt: skip


def check_options(options: LdmOptions) -> None:
    """Raise ValueError for an invalid value."""
    for name, (low, high) in OPTION_BOUNDS.items():
        if not low <= getattr(options, name) <= high:  # false for NaN, too
            raise ValueError(f"{name} is {getattr(options, name)}, expected {low:g} to {high:g}")
    for name, choices in (("compression", (4, 8, 16)), ("stem", (1, 2, 4))):
        if getattr(options, name) not in choices:
            raise ValueError(f"{name} is {getattr(options, name)}, expected {', '.join(map(str, choices))}")
    if options.crop is not None and (options.crop < 16 or options.crop % options.compression):
        expected = f"16 or more and a multiple of compression={options.compression}"
        raise ValueError(f"crop is {options.crop}, expected {expected}")
    if not options.multipliers or any(not 1 <= m <= 64 for m in options.multipliers):
        raise ValueError(f"multipliers is {options.multipliers}, expected whole numbers from 1 to 64, as in 1,2,4")
    if options.steps > options.timesteps:
        raise ValueError(f"steps is {options.steps}, more than timesteps={options.timesteps}")
