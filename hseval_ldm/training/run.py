"""A run from data to checkpoints: features, autoencoder, diffusion, each taken up where it was left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.core.cubes import CubeSet
from hseval.utils.errors import HsevalError, format_suggestion
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.data.split import split_held_out
from hseval_ldm.models.perceptual import PerceptualEncoder
from hseval_ldm.models.unet import Denoiser, build_unet
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import checkpoint, lineage
from hseval_ldm.training.console import ProgressConsole
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.loop import train_stage as run_stage
from hseval_ldm.training.run_config import CONFIG_FILE, RunConfig, hash_ids, merge_resumed_options, read_config
from hseval_ldm.training.stage import BestCriterion, Stage, StepIntervals
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_diffusion import MAX_HELD_OUT_LATENTS, DiffusionStage, encode_cubes
from hseval_ldm.training.stage_perceptual import PerceptualStage, build_perceptual_encoder
from hseval_ldm.utils.distributed import Ranks, run_on_all_ranks, run_on_main_rank

MIN_HELD_OUT_FOR_SCORES = 8  # held-out cubes, below which scores say nothing and the loss picks the best checkpoint
STAGE_NAMES = ("features", "autoencoder", "diffusion")


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
            :func:`hseval_ldm.training.loop.train_stage` raises.
    """
    if until is not None and until not in STAGE_NAMES:
        raise HsevalError(f"ldm has no stage {until!r}{format_suggestion(until, STAGE_NAMES)}")
    wanted = STAGE_NAMES[: STAGE_NAMES.index(until) + 1] if until else STAGE_NAMES
    ranks = Ranks.join(device)
    try:
        work = run_on_all_ranks(ranks, lambda: TrainingRun.prepare(options, data, out, seed=seed, ranks=ranks))
        run_on_main_rank(ranks, lambda: work.config.write(out))
        with ProgressConsole(is_visible=ranks.is_main) as console:
            for name in wanted:
                if work.options.stage in ("all", name) and (name != "features" or work.options.features_steps):
                    work.run(name, console)
        return work.options
    finally:
        ranks.leave()


@dataclasses.dataclass
class TrainingRun:
    """What the stages of a run share."""

    config: RunConfig
    out: Path
    ranks: Ranks
    normalization: Normalization
    train_data: CubeDataset
    held_out: CubeDataset

    @property
    def options(self) -> LdmOptions:
        """The run's options."""
        return self.config.options

    @classmethod
    def prepare(cls, options: LdmOptions, data: CubeSet, out: Path, *, seed: int, ranks: Ranks) -> TrainingRun:
        """Split and measure the set, or take both from the run that is resumed."""
        if (out / CONFIG_FILE).exists():
            if not options.resume:
                raise HsevalError(f"{out}: holds a run already; go on with --resume, or train into another folder")
            config, normalisation = _resume_config(options, data, out, seed=seed)
        else:
            config, normalisation = _create_config(options, data, seed=seed)
        _check_size(config.options, normalisation, data)
        aside = set(config.held_out)
        sides = ([i for i, name in enumerate(data.ids) if (name in aside) == held] for held in (False, True))
        known, held_out = (
            CubeDataset.open(data, side, normalisation, memory_gib=config.options.memory) for side in sides
        )
        return cls(config, out, ranks, normalisation, known, held_out)

    def run(self, name: str, console: ProgressConsole) -> None:
        """Train one stage to its end."""
        stage = {
            "features": self._build_perceptual_stage,
            "autoencoder": self._build_autoencoder_stage,
            "diffusion": self._build_diffusion_stage,
        }[name]()
        options = self.options
        every = StepIntervals(options.log_every, options.checkpoint_every, options.score_every, options.score_every)
        if name == "features":
            every = dataclasses.replace(every, preview=0)
        run_stage(
            stage,
            self.out,
            ranks=self.ranks,
            resume=options.resume,
            intervals=every,
            best_by=self._choose_best_criterion(name),
            progress=console,
            tensorboard=options.tensorboard,
        )

    # The stages.

    def _build_perceptual_stage(self) -> Stage:
        bands = len(self.normalization.mean)
        return PerceptualStage(
            self.options, self.train_data, self.held_out, bands, ranks=self.ranks, seed=self.config.seed
        )

    def _build_autoencoder_stage(self) -> Stage:
        model = build_autoencoder(self.options, self.normalization, seed=self.config.seed)
        return AutoencoderStage(
            self.options,
            self.train_data,
            model,
            perceptual_encoder=self._load_perceptual_encoder(),
            evaluator=self._build_evaluator(),
            ranks=self.ranks,
            seed=self.config.seed,
        )

    def _build_diffusion_stage(self) -> Stage:
        options, device = self.options, self.ranks.device
        autoencoder, digest = run_on_all_ranks(
            self.ranks, lambda: load_autoencoder(self.out, options, self.normalization)
        )
        run_on_main_rank(self.ranks, lambda: lineage.record_autoencoder(self.out, digest))
        autoencoder = autoencoder.to(device).eval().requires_grad_(False)
        cache = LatentCache.build(
            self.out / "latents.npy",
            lambda at, variant: encode_cubes(autoencoder, self.train_data, at, options, device, variant=variant),
            count=len(self.train_data),
            variants={"none": 1, "horizontal": 2, "both": 4}[options.flip],
            fingerprint={
                "autoencoder": digest,
                "data": self.config.data,
                "flip": options.flip,
                "ids": self.train_data.ids,
            },
            ranks=self.ranks,
        )
        judged = np.arange(min(len(self.held_out), MAX_HELD_OUT_LATENTS))
        held_out: Tensor = torch.zeros(0, *cache.shape)
        if len(judged):
            held_out = cache.scaler.normalize(encode_cubes(autoencoder, self.held_out, judged, options, device))
        denoiser = run_on_all_ranks(self.ranks, lambda: self._build_denoiser(cache.shape[0]))
        judge, ranks, seed = self._build_evaluator(), self.ranks, self.config.seed
        return DiffusionStage(options, cache, held_out, denoiser, autoencoder, evaluator=judge, ranks=ranks, seed=seed)

    def _build_denoiser(self, channels: int) -> Denoiser:
        denoiser = build_denoiser(self.options, channels, seed=self.config.seed)
        if self.options.start_from is not None and not checkpoint.has_checkpoint(self.out / "diffusion"):
            initialize_from_run(denoiser, Path(self.options.start_from))
        return denoiser

    def _build_evaluator(self) -> HeldOutEvaluator:
        return HeldOutEvaluator(self.held_out, self.normalization, self.ranks, self.config.seed)

    def _choose_best_criterion(self, name: str) -> BestCriterion:
        if name == "features":
            return ("held_out_contrast", "lower")
        chosen = self.options.best_by
        if name == "diffusion" and not self.options.score_cubes:
            chosen = "loss"
        if chosen != "loss" and len(self.held_out) >= MIN_HELD_OUT_FOR_SCORES:
            return (chosen, "lower")
        return ("held_out_l1" if name == "autoencoder" else "held_out_loss", "lower")

    def _load_perceptual_encoder(self) -> PerceptualEncoder | None:
        if not self.options.features_steps or not self.options.perceptual:
            return None

        def load() -> PerceptualEncoder:
            model = build_perceptual_encoder(self.options, len(self.normalization.mean), seed=self.config.seed)
            tensors, _ = checkpoint.load(self.out / "features", which=checkpoint.BEST)
            model.load_state_dict(checkpoint.unpack("model", tensors))
            return model

        return run_on_all_ranks(self.ranks, load)


def load_autoencoder(run: Path, options: LdmOptions, normalization: Normalization) -> tuple[Autoencoder, str]:
    """Return the autoencoder of a run's best checkpoint, and what tells it from any other.

    Raises:
        HsevalError: there is none, or it is broken.
    """
    tensors, record = checkpoint.load(run / "autoencoder", which=checkpoint.BEST)
    model = build_autoencoder(options, normalization)
    _load_weights(model, checkpoint.unpack("model", tensors), checkpoint.get_path(run / "autoencoder", checkpoint.BEST))
    return model.to(memory_format=torch.channels_last), f"step {record['step']}, {lineage.hash_weights(model)}"


def build_denoiser(options: LdmOptions, channels: int, *, seed: int = 0) -> Denoiser:
    """Return the U-Net that the options describe."""
    return build_unet(
        channels=channels,
        base=options.base,
        multipliers=options.multipliers,
        blocks=options.unet_blocks,
        attention=_select_attention_levels(len(options.multipliers)),
        dropout=options.dropout,
        seed=seed,
    )


def initialize_from_run(denoiser: Denoiser, run: Path) -> None:
    """Fill a U-Net with the averaged weights of another run's, which may be of another resolution.

    Raises:
        HsevalError: there is none, or its channels differ.
    """
    tensors, _ = checkpoint.load(run / "diffusion", which=checkpoint.BEST)
    _load_weights(denoiser, checkpoint.unpack("ema", tensors), checkpoint.get_path(run / "diffusion", checkpoint.BEST))


def _select_attention_levels(levels: int) -> tuple[bool, ...]:
    # All levels but the first: 196 tokens at most of 28 x 28 latents, and a fixed rule lets weights move between sizes.
    return tuple(level > 0 for level in range(levels))


def _load_weights(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise HsevalError(f"{path}: belongs to a network of another shape ({told})") from error


def _resume_config(options: LdmOptions, data: CubeSet, out: Path, *, seed: int) -> tuple[RunConfig, Normalization]:
    saved = read_config(out)
    normalisation = Normalization.from_record(saved.normalisation)
    normalisation.check_compatible(data)
    chosen = merge_resumed_options(saved, options, seed=seed, data_hash=hash_ids(data), run=out)
    return dataclasses.replace(saved, options=chosen), normalisation


def _create_config(options: LdmOptions, data: CubeSet, *, seed: int) -> tuple[RunConfig, Normalization]:
    if len(data) < 2:
        found = f"holds {len(data)} cube{'s' * (len(data) != 1)}"
        raise HsevalError(f"{data.info.location}: {found}, ldm needs 2 or more, and hundreds to be of use")
    parts = split_held_out(data, share=options.held_out, seed=seed)
    normalisation = Normalization.measure(data, parts.train, seed=seed)
    held_out = [data.ids[index] for index in parts.held_out]
    record = normalisation.to_record()
    config = RunConfig(options, seed, record, held_out, hash_ids(data), data.info.location)
    return config, normalisation


def _check_size(options: LdmOptions, normalization: Normalization, data: CubeSet) -> None:
    shorter = min(normalization.size)
    if options.crop is not None and options.crop > shorter:
        told = f"crop={options.crop} is more than its cubes' shorter side of {shorter} px"
        raise HsevalError(f"{data.info.location}: {told}; set crop=none or less")
    latents = -(-shorter // options.compression)
    if latents < 2 ** (len(options.multipliers) - 1):
        told = f"{shorter} px at compression={options.compression} are {latents} latents"
        levels = len(options.multipliers)
        way_out = f"too few for {levels} levels; lower compression or multipliers"
        raise HsevalError(f"{data.info.location}: {told}, {way_out}")
