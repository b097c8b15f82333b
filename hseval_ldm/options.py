"""All that can be set, declared once: command line, presets, the run's config.json and the docs derive from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from hseval.core.options import option
from hseval.utils.errors import HsevalError, format_suggestion

PRESETS = ("smoke", "demo", "retina-224", "retina-672")
STAGE_CHOICES = ("all", "features", "autoencoder", "diffusion")
COMMAND_OPTIONS = ("stage", "resume")  # what one command is asked to do; no property of a run


@dataclasses.dataclass(frozen=True, init=False)
class LdmOptions:
    """Options of the generator ``ldm``: those that are not set come from the preset, then from the defaults below.

    Beside its fields an instance remembers which of them were ``explicit_names`` and which the preset holds (``preset_names``).
    """

    explicit_names: ClassVar[frozenset[str]]
    preset_names: ClassVar[frozenset[str]]

    preset: str | None = option(None, "smoke, demo, retina-224, retina-672, or a TOML file")
    stage: Literal["all", "features", "autoencoder", "diffusion"] = option("all", "train this stage only")
    resume: bool = option(False, "go on from the run's last checkpoints")

    held_out: float = option(0.125, "share of the cubes (whole groups) that is not trained on and judges the training")
    memory: float = option(8.0, "GiB that cubes held in memory may take; a larger set is read as it is needed")
    loaders: int = option(2, "threads that prepare batches; 0, fastest on a CPU of few cores: the one that trains")
    flip: Literal["none", "horizontal", "both"] = option("none", "flips that turn a real cube into a plausible one")

    model: Literal["vqgan", "vqvae"] = option("vqgan", "autoencoder with a discriminator, or without")
    compression: int = option(8, "pixels of a side that one latent stands for: 4, 8 or 16")
    latent_channels: int = option(8, "channels of a latent")
    width: int = option(64, "channels of the autoencoder's finest level; doubled twice towards the latents")
    blocks: int = option(2, "residual blocks of each level of encoder and decoder")
    stem: int = option(2, "space-to-depth of the autoencoder's first step: 1, 2 or 4")
    codes: int = option(1024, "vectors of the codebook")
    kmeans: Literal["every", "first", "off"] = option("every", "epochs at whose start k-means sets the codebook")
    kmeans_iterations: int = option(5, "iterations of k-means each time")
    kmeans_cubes: int = option(4096, "training cubes whose latents k-means sees, a fixed random part of larger sets")
    code_decay: float = option(0.99, "of the codebook's moving averages, a step")

    crop: int | None = option(None, "side of the crops that the autoencoder is trained on; none: whole cubes")
    features_steps: int = option(1000, "steps of the perceptual encoder; 0: no perceptual term")
    features_width: int = option(32, "channels of the perceptual encoder's finest level")
    features_lr: float = option(1e-3, "peak learning rate of the perceptual encoder")
    ae_steps: int = option(100000, "steps of the autoencoder")
    ae_batch: int = option(16, "cubes a step of autoencoder and perceptual encoder, over all ranks")
    ae_lr: float = option(4e-4, "peak learning rate of the autoencoder")
    disc_lr: float = option(2e-4, "learning rate of the discriminator")
    disc_width: int = option(64, "channels of the discriminator's first layer")
    disc_start: float = option(0.5, "share of the autoencoder's steps before the discriminator joins")
    mask_gain: float = option(3.0, "extra weight of pixels in structures; grows as a structure's area shrinks")
    contrast_gain: float = option(1.0, "extra weight of pixels of high local contrast")
    fine: float = option(2.0, "weight of the L1 of what is finer than 5 pixels")
    angle: float = option(0.5, "weight of the spectral angle, radians")
    masks: float = option(1.0, "weight of the masks' cross-entropy and Dice")
    perceptual: float = option(0.5, "weight of the perceptual term")
    adversarial: float = option(0.2, "weight of the adversarial term, on top of the adaptive weight")
    commitment: float = option(0.25, "weight of the distance of latents from their codes")

    base: int = option(256, "channels of the U-Net's finest level: 128, 256, 512")
    multipliers: tuple[int, ...] = option((1, 2, 4), "channels of each level of the U-Net, times base")
    unet_blocks: int = option(2, "residual blocks of each level of the U-Net")
    dropout: float = option(0.0, "of the U-Net, in training")
    timesteps: int = option(1000, "noise levels of the diffusion")
    snr_gamma: float = option(5.0, "cap of the min-SNR weight")
    ldm_steps: int = option(200000, "steps of the diffusion model")
    ldm_batch: int = option(32, "latents a step of the diffusion model, over all ranks")
    ldm_lr: float = option(2e-4, "peak learning rate of the diffusion model")
    ema: float = option(0.9999, "decay of the moving average of the U-Net's weights, a step")
    start_from: str | None = option(None, "run whose U-Net this one starts from, of another resolution perhaps")

    sampler: Literal["ddpm", "ddim", "dpm-solver"] = option("dpm-solver", "how latents are sampled")
    steps: int = option(12, "U-Net evaluations a sample")
    batch_size: int = option(16, "cubes sampled at once")
    tile: int = option(0, "side in latents of the tiles that are decoded one by one; 0: whole cubes")
    noise: float = option(1.0, "sensor noise drawn into samples, relative to the training set's own; 0: none")

    precision: Literal["auto", "float32", "bf16"] = option("auto", "auto: bf16 where fast, float32 to sample on a CPU")
    compile: bool = option(False, "compile the networks (torch.compile; needs a C++ compiler or Triton)")
    log_every: int = option(50, "steps between lines of metrics.jsonl")
    checkpoint_every: int = option(1000, "steps between checkpoints")
    score_every: int = option(10000, "steps between held-out figures, scores and pictures")
    score_cubes: int = option(64, "cubes sampled for scores during training")
    best_by: Literal["fid", "spectral-kl", "loss"] = option("fid", "held-out figure that picks the best checkpoints")
    tensorboard: bool = option(False, "log to TensorBoard as well (pip install tensorboard)")

    def __init__(self, **values: Any) -> None:
        """Fill in the preset's values and the defaults below what is given.

        Raises:
            TypeError: an unknown name.
            ValueError: a value that can't be.
        """
        known = {field.name: field.default for field in dataclasses.fields(self)}
        if unknown := sorted(set(values) - set(known)):
            raise TypeError(f"no option {unknown[0]!r}{format_suggestion(unknown[0], known)}")
        preset = values.get("preset")
        # A run's record stands for itself: its preset's file may have changed since, or be on another machine.
        recorded = set(known) <= {*values, *COMMAND_OPTIONS}
        of_preset = dict(load_preset(preset)) if preset and not recorded else {}
        for name, value in (known | of_preset | values).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "explicit_names", frozenset(values))
        object.__setattr__(self, "preset_names", frozenset(of_preset))
        check_options(self)


SAMPLING_OPTIONS = ("sampler", "steps", "batch_size", "tile", "noise", "precision", "compile")

# What decides each stage that runs can share, beside what decides the stages before it. What is in neither list, nor in
# SAMPLING or NEUTRAL, decides the diffusion model alone.
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
NEUTRAL_OPTIONS = ("preset", "memory", "loaders", "log_every", "checkpoint_every", "tensorboard", *COMMAND_OPTIONS)


def enable_resume(options: LdmOptions) -> LdmOptions:
    """Return the same options, asked to go on with a run."""
    return LdmOptions(**({name: getattr(options, name) for name in options.explicit_names} | {"resume": True}))


def load_preset(preset: str) -> Mapping[str, Any]:
    """Return the values of a preset that ships with hseval_ldm, or of a TOML file.

    Raises:
        HsevalError: no such preset or file, or one that can't be read, or an option that there is not.
    """
    import tomllib
    from importlib import resources
    from pathlib import Path

    from hseval.core.options import convert_value

    shipped = resources.files("hseval_ldm") / "presets" / f"{preset}.toml"
    if preset in PRESETS:
        text = shipped.read_text(encoding="utf-8")
    elif not preset.endswith(".toml"):
        told = f"preset {preset!r}: is none that ships with hseval, and no .toml file"
        raise HsevalError(told + format_suggestion(preset, PRESETS))
    else:
        try:
            text = Path(preset).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise HsevalError(f"preset {preset}: can't be read: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HsevalError(f"preset {preset}: is no TOML: {error}") from error
    hints = _get_type_hints()
    for name in table:
        if name not in hints or name == "preset":
            raise HsevalError(
                f"preset {preset}: has no option {name!r}{format_suggestion(name, set(hints) - {'preset'})}"
            )
    return {name: convert_value(value, hints[name], owner=f"preset {preset}: {name}") for name, value in table.items()}


def _get_type_hints() -> Mapping[str, Any]:
    import typing

    return typing.get_type_hints(LdmOptions)


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
    """Raise ValueError for a value that can't be."""
    for name, (low, high) in OPTION_BOUNDS.items():
        if not low <= getattr(options, name) <= high:  # NaN is neither
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
