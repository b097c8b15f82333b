"""A run from data to checkpoints: features, autoencoder, diffusion, each taken up where it was left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.core.cubes import CubeSet
from hseval.utils.errors import HsevalError, nearest
from hseval_ldm.data.dataset import TrainingData
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.data.normalization import Normalisation
from hseval_ldm.data.split import split
from hseval_ldm.models.perceptual import Features
from hseval_ldm.models.unet import Denoiser, build_unet
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint, lineage
from hseval_ldm.training.console import Console
from hseval_ldm.training.evaluation import Judge
from hseval_ldm.training.loop import run as run_stage
from hseval_ldm.training.run_config import FILE, Config, going_on, hash_of_ids, read_config
from hseval_ldm.training.stage import Best, Every, Stage
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_diffusion import JUDGED, DiffusionStage, encoded
from hseval_ldm.training.stage_perceptual import FeaturesStage, build_features
from hseval_ldm.utils.distributed import Ranks, by_chief, together

FEWEST_TO_JUDGE = 8  # held-out cubes, below which scores say nothing and the loss picks the best checkpoint
STAGES = ("features", "autoencoder", "diffusion")


def train(
    options: LdmOptions,
    data: CubeSet,
    out: Path,
    *,
    seed: int = 0,
    device: str | None = None,
    until: str | None = None,
) -> LdmOptions:
    """Train all stages, or the one that ``options.stage`` names, into the folder ``out``; return the options used.

    Behind torchrun every process calls this. ``until`` names the last stage to train.

    Raises:
        HsevalError: no such stage, too small a set, options that do not fit the run that is resumed, and all that
            :func:`hseval_ldm.training.loop.run` raises.
    """
    if until is not None and until not in STAGES:
        raise HsevalError(f"ldm has no stage {until!r}{nearest(until, STAGES)}")
    wanted = STAGES[: STAGES.index(until) + 1] if until else STAGES
    ranks = Ranks.join(device)
    try:
        work = together(ranks, lambda: Work.prepared(options, data, out, seed=seed, ranks=ranks))
        by_chief(ranks, lambda: work.config.write(out))
        with Console(shown=ranks.chief) as console:
            for name in wanted:
                if work.options.stage in ("all", name) and (name != "features" or work.options.features_steps):
                    work.run(name, console)
        return work.options
    finally:
        ranks.leave()


@dataclasses.dataclass
class Work:
    """What the stages of a run share."""

    config: Config
    out: Path
    ranks: Ranks
    normalisation: Normalisation
    known: TrainingData
    held_out: TrainingData

    @property
    def options(self) -> LdmOptions:
        """The run's options."""
        return self.config.options

    @classmethod
    def prepared(cls, options: LdmOptions, data: CubeSet, out: Path, *, seed: int, ranks: Ranks) -> Work:
        """Split and measure the set, or take both from the run that is resumed."""
        if (out / FILE).exists():
            if not options.resume:
                raise HsevalError(f"{out}: holds a run already; go on with --resume, or train into another folder")
            config, normalisation = _taken_up(options, data, out, seed=seed)
        else:
            config, normalisation = _started(options, data, seed=seed)
        _check_size(config.options, normalisation, data)
        aside = set(config.held_out)
        sides = ([i for i, name in enumerate(data.ids) if (name in aside) == held] for held in (False, True))
        known, held_out = (TrainingData.open(data, side, normalisation, memory=config.options.memory) for side in sides)
        return cls(config, out, ranks, normalisation, known, held_out)

    def run(self, name: str, console: Console) -> None:
        """Train one stage to its end."""
        stage = {"features": self._features, "autoencoder": self._autoencoder, "diffusion": self._diffusion}[name]()
        options = self.options
        every = Every(options.log_every, options.checkpoint_every, options.score_every, options.score_every)
        if name == "features":
            every = dataclasses.replace(every, picture=0)
        run_stage(
            stage,
            self.out,
            ranks=self.ranks,
            resume=options.resume,
            every=every,
            best_by=self._best_by(name),
            progress=console,
            tensorboard=options.tensorboard,
        )

    # The stages.

    def _features(self) -> Stage:
        bands = len(self.normalisation.mean)
        return FeaturesStage(self.options, self.known, self.held_out, bands, ranks=self.ranks, seed=self.config.seed)

    def _autoencoder(self) -> Stage:
        model = build_autoencoder(self.options, self.normalisation, seed=self.config.seed)
        return AutoencoderStage(
            self.options,
            self.known,
            model,
            features=self._trained_features(),
            judge=self._judge(),
            ranks=self.ranks,
            seed=self.config.seed,
        )

    def _diffusion(self) -> Stage:
        options, device = self.options, self.ranks.device
        autoencoder, digest = together(self.ranks, lambda: trained_autoencoder(self.out, options, self.normalisation))
        by_chief(self.ranks, lambda: lineage.note(self.out, digest))
        autoencoder = autoencoder.to(device).eval().requires_grad_(False)
        cache = LatentCache.build(
            self.out / "latents.npy",
            lambda at, variant: encoded(autoencoder, self.known, at, options, device, variant=variant),
            count=len(self.known),
            variants={"none": 1, "horizontal": 2, "both": 4}[options.flip],
            fingerprint={"autoencoder": digest, "data": self.config.data, "flip": options.flip, "ids": self.known.ids},
            ranks=self.ranks,
        )
        judged = np.arange(min(len(self.held_out), JUDGED))
        held_out: Tensor = torch.zeros(0, *cache.shape)
        if len(judged):
            held_out = cache.scale.normalised(encoded(autoencoder, self.held_out, judged, options, device))
        denoiser = together(self.ranks, lambda: self._denoiser(cache.shape[0]))
        judge, ranks, seed = self._judge(), self.ranks, self.config.seed
        return DiffusionStage(options, cache, held_out, denoiser, autoencoder, judge=judge, ranks=ranks, seed=seed)

    def _denoiser(self, channels: int) -> Denoiser:
        denoiser = denoiser_of(self.options, channels, seed=self.config.seed)
        if self.options.start_from is not None and not checkpoint.exists(self.out / "diffusion"):
            start_from(denoiser, Path(self.options.start_from))
        return denoiser

    def _judge(self) -> Judge:
        return Judge(self.held_out, self.normalisation, self.ranks, self.config.seed)

    def _best_by(self, name: str) -> Best:
        if name == "features":
            return ("held_out_contrast", "lower")
        chosen = self.options.best_by
        if name == "diffusion" and not self.options.score_cubes:
            chosen = "loss"
        if chosen != "loss" and len(self.held_out) >= FEWEST_TO_JUDGE:
            return (chosen, "lower")
        return ("held_out_l1" if name == "autoencoder" else "held_out_loss", "lower")

    def _trained_features(self) -> Features | None:
        if not self.options.features_steps or not self.options.perceptual:
            return None

        def load() -> Features:
            model = build_features(self.options, len(self.normalisation.mean), seed=self.config.seed)
            tensors, _ = checkpoint.load(self.out / "features", which=checkpoint.BEST)
            model.load_state_dict(checkpoint.unpack("model", tensors))
            return model

        return together(self.ranks, load)


def trained_autoencoder(run: Path, options: LdmOptions, normalisation: Normalisation) -> tuple[Autoencoder, str]:
    """Return the autoencoder of a run's best checkpoint, and what tells it from any other.

    Raises:
        HsevalError: there is none, or it is broken.
    """
    tensors, record = checkpoint.load(run / "autoencoder", which=checkpoint.BEST)
    model = build_autoencoder(options, normalisation)
    _fill(model, checkpoint.unpack("model", tensors), checkpoint.file_of(run / "autoencoder", checkpoint.BEST))
    return model.to(memory_format=torch.channels_last), f"step {record['step']}, {lineage.digest(model)}"


def denoiser_of(options: LdmOptions, channels: int, *, seed: int = 0) -> Denoiser:
    """Return the U-Net that the options describe."""
    return build_unet(
        channels=channels,
        base=options.base,
        multipliers=options.multipliers,
        blocks=options.unet_blocks,
        attention=_attention(len(options.multipliers)),
        dropout=options.dropout,
        seed=seed,
    )


def start_from(denoiser: Denoiser, run: Path) -> None:
    """Fill a U-Net with the averaged weights of another run's, which may be of another resolution.

    Raises:
        HsevalError: there is none, or its channels differ.
    """
    tensors, _ = checkpoint.load(run / "diffusion", which=checkpoint.BEST)
    _fill(denoiser, checkpoint.unpack("ema", tensors), checkpoint.file_of(run / "diffusion", checkpoint.BEST))


def _attention(levels: int) -> tuple[bool, ...]:
    # All levels but the first: 196 tokens at most of 28 x 28 latents, and a fixed rule lets weights move between sizes.
    return tuple(level > 0 for level in range(levels))


def _fill(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise HsevalError(f"{path}: belongs to a network of another shape ({told})") from error


def _taken_up(options: LdmOptions, data: CubeSet, out: Path, *, seed: int) -> tuple[Config, Normalisation]:
    saved = read_config(out)
    normalisation = Normalisation.from_record(saved.normalisation)
    normalisation.check(data)
    chosen = going_on(saved, options, seed=seed, data=hash_of_ids(data), run=out)
    return dataclasses.replace(saved, options=chosen), normalisation


def _started(options: LdmOptions, data: CubeSet, *, seed: int) -> tuple[Config, Normalisation]:
    if len(data) < 2:
        found = f"holds {len(data)} cube{'s' * (len(data) != 1)}"
        raise HsevalError(f"{data.info.location}: {found}, ldm needs 2 or more, and hundreds to be of use")
    parts = split(data, share=options.held_out, seed=seed)
    normalisation = Normalisation.measure(data, parts.train, seed=seed)
    held_out = [data.ids[index] for index in parts.held_out]
    record = normalisation.as_record()
    config = Config(options, seed, record, held_out, hash_of_ids(data), data.info.location)
    return config, normalisation


def _check_size(options: LdmOptions, normalisation: Normalisation, data: CubeSet) -> None:
    shorter = min(normalisation.size)
    if options.crop is not None and options.crop > shorter:
        told = f"crop={options.crop} is more than its cubes' shorter side of {shorter} px"
        raise HsevalError(f"{data.info.location}: {told}; set crop=none or less")
    latents = -(-shorter // options.compression)
    if latents < 2 ** (len(options.multipliers) - 1):
        told = f"{shorter} px at compression={options.compression} are {latents} latents"
        levels = len(options.multipliers)
        way_out = f"too few for {levels} levels; lower compression or multipliers"
        raise HsevalError(f"{data.info.location}: {told}, {way_out}")
