"""A run from data to checkpoints: features, autoencoder, diffusion, each resumed where it was interrupted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hseval.generator_kit import (
    BEST,
    BestCriterion,
    ProgressReporter,
    Ranks,
    Stage,
    StepIntervals,
    check_training_set,
    hold_run_folder,
    load_weights,
    run_on_all_ranks,
    run_on_main_rank,
    sort_as_recorded,
    train_stage,
    unpack_state,
)
from hseval.plugin import CubeSet, HsevalError, format_count, format_suggestion
from hseval_ldm.data.dataset import CubeDataset
from hseval_ldm.data.latent_cache import LatentCache
from hseval_ldm.data.normalization import Normalization
from hseval_ldm.data.split import split_held_out
from hseval_ldm.models.perceptual import PerceptualEncoder
from hseval_ldm.models.unet import Denoiser, build_denoiser
from hseval_ldm.models.vqgan import Autoencoder, build_autoencoder
from hseval_ldm.options import LdmOptions
from hseval_ldm.training import lineage
from hseval_ldm.training.evaluation import HeldOutEvaluator
from hseval_ldm.training.run_config import (
    CONFIG_FILE,
    TRAINER_NAME,
    RunConfig,
    get_checkpoints,
    hash_ids,
    merge_resumed_options,
    read_config,
)
from hseval_ldm.training.stage_autoencoder import AutoencoderStage
from hseval_ldm.training.stage_diffusion import MAX_HELD_OUT_LATENTS, DiffusionStage, encode_cubes
from hseval_ldm.training.stage_perceptual import PerceptualStage, build_perceptual_encoder

# With fewer held-out cubes the loss selects the best checkpoint, because scores would be noise.
MIN_HELD_OUT_FOR_SCORES = 8
STAGE_NAMES = ("features", "autoencoder", "diffusion")


def train(
    options: LdmOptions,
    data: CubeSet,
    out: Path,
    *,
    seed: int = 0,
    device: str | None = None,
    until: str | None = None,
    may_resume: bool = False,
) -> LdmOptions:
    """Train all stages, or the one that ``options.stage`` names, into the folder ``out``; return the options used.

    Under torchrun every process calls this. ``until`` names the last stage to train; ``may_resume`` resumes the run
    that ``out`` holds, if it holds one, while ``options.resume`` requires one.

    Raises:
        HsevalError: an unknown stage, a set that is too small, no run to resume, options or cubes that contradict the
            resumed run, another process that trains into the folder, and the errors of
            :func:`hseval.generator_kit.train_stage`.
    """
    if until is not None and until not in STAGE_NAMES:
        raise HsevalError(f"ldm has no stage {until!r}{format_suggestion(until, STAGE_NAMES)}")
    requested = STAGE_NAMES[: STAGE_NAMES.index(until) + 1] if until else STAGE_NAMES
    ranks = Ranks.join(device)
    try:
        with hold_run_folder(out, ranks):
            options = run_on_all_ranks(ranks, lambda: _resolve_resume(options, out, may_resume=may_resume))
            run = run_on_all_ranks(ranks, lambda: TrainingRun.prepare(options, data, out, seed=seed, ranks=ranks))
            check_training_set(out, TRAINER_NAME, run.data, ranks, resume=options.resume)
            run_on_main_rank(ranks, lambda: run.config.write(out))
            with ProgressReporter(enabled=ranks.is_main) as progress:
                for name in requested:
                    if run.options.stage in ("all", name) and (name != "features" or run.options.features_steps):
                        run.run(name, progress)
            return run.options
    finally:
        ranks.leave()


def _resolve_resume(options: LdmOptions, out: Path, *, may_resume: bool) -> LdmOptions:
    """Return the options, whose ``resume`` says whether the folder's run is resumed."""
    has_run = (out / CONFIG_FILE).exists()
    if options.resume and not has_run:
        raise HsevalError(f"{out}: holds no run of ldm to resume (no {CONFIG_FILE}); omit --resume to start one there")
    if not (has_run and may_resume):
        return options
    explicit = {name: getattr(options, name) for name in options.explicit_names}
    return LdmOptions(**(explicit | {"resume": True}))


@dataclasses.dataclass
class TrainingRun:
    """The shared state of a run's stages."""

    config: RunConfig
    out: Path
    ranks: Ranks
    normalization: Normalization
    data: CubeSet
    train_data: CubeDataset
    held_out: CubeDataset

    @property
    def options(self) -> LdmOptions:
        """The run's options."""
        return self.config.options

    @classmethod
    def prepare(cls, options: LdmOptions, data: CubeSet, out: Path, *, seed: int, ranks: Ranks) -> TrainingRun:
        """Split and measure the set, or load both from the resumed run."""
        if (out / CONFIG_FILE).exists():
            if not options.resume:
                raise HsevalError(f"{out}: already holds a run; use --resume to continue it, or another folder")
            data = sort_as_recorded(out, TRAINER_NAME, data)
            config, normalization = _resume_config(options, data, out, seed=seed)
        else:
            config, normalization = _create_config(options, data, seed=seed)
        _check_size(config.options, normalization, data)
        held_out_ids, memory = set(config.held_out), config.options.memory
        train_indices = [index for index, name in enumerate(data.ids) if name not in held_out_ids]
        parts = (train_indices, sorted({*range(len(data))} - {*train_indices}))
        train_data, held_out = (CubeDataset(data, part, normalization, memory_gib=memory) for part in parts)
        return cls(config, out, ranks, normalization, data, train_data, held_out)

    def run(self, name: str, progress: ProgressReporter) -> None:
        """Train one stage to its last step."""
        stage = {
            "features": self._build_perceptual_stage,
            "autoencoder": self._build_autoencoder_stage,
            "diffusion": self._build_diffusion_stage,
        }[name]()
        options = self.options
        intervals = StepIntervals(options.log_every, options.checkpoint_every, options.score_every, options.score_every)
        if name == "features":
            intervals = dataclasses.replace(intervals, preview=0)
        train_stage(
            stage,
            self.out,
            checkpoints=get_checkpoints(self.out / name),
            ranks=self.ranks,
            resume=options.resume,
            intervals=intervals,
            best_by=self._choose_best_criterion(name),
            progress=progress,
            tensorboard=options.tensorboard,
        )

    # Stages.

    def _build_perceptual_stage(self) -> Stage:
        bands = len(self.normalization.mean)
        ranks, seed = self.ranks, self.config.seed
        return PerceptualStage(self.options, self.train_data, self.held_out, bands, ranks=ranks, seed=seed)

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
        options, ranks, seed, device = self.options, self.ranks, self.config.seed, self.ranks.device
        autoencoder, digest = run_on_all_ranks(ranks, lambda: load_autoencoder(self.out, options, self.normalization))
        run_on_main_rank(ranks, lambda: lineage.record_autoencoder(self.out, digest))
        autoencoder = autoencoder.to(device).eval().requires_grad_(False)
        inputs = {"autoencoder": digest, "data": self.config.data_hash, "flip": options.flip}
        cache = LatentCache.build(
            self.out / "latents.npy",
            lambda items, variant: encode_cubes(autoencoder, self.train_data, items, options, device, variant=variant),
            count=len(self.train_data),
            variants={"none": 1, "horizontal": 2, "both": 4}[options.flip],
            fingerprint=inputs | {"ids": self.train_data.ids},
            ranks=ranks,
        )
        indices = np.arange(min(len(self.held_out), MAX_HELD_OUT_LATENTS))
        held_out: Tensor = torch.zeros(0, *cache.shape)
        if len(indices):
            held_out = cache.scaler.normalize(encode_cubes(autoencoder, self.held_out, indices, options, device))
        denoiser = run_on_all_ranks(ranks, lambda: self._build_denoiser(cache.shape[0]))
        evaluator = self._build_evaluator()
        return DiffusionStage(
            options, cache, held_out, denoiser, autoencoder, evaluator=evaluator, ranks=ranks, seed=seed
        )

    def _build_denoiser(self, channels: int) -> Denoiser:
        denoiser = build_denoiser(self.options, channels, seed=self.config.seed)
        if self.options.start_from is not None and not get_checkpoints(self.out / "diffusion").exist():
            initialize_from_run(denoiser, Path(self.options.start_from))
        return denoiser

    def _build_evaluator(self) -> HeldOutEvaluator:
        return HeldOutEvaluator(self.held_out, self.normalization, self.ranks, self.config.seed)

    def _choose_best_criterion(self, name: str) -> BestCriterion:
        if name == "features":
            return ("held_out_contrast", "lower")
        metric = self.options.best_by
        if name == "diffusion" and not self.options.score_cubes:
            metric = "loss"
        if metric != "loss" and len(self.held_out) >= MIN_HELD_OUT_FOR_SCORES:
            return (metric, "lower")
        return ("held_out_l1" if name == "autoencoder" else "held_out_loss", "lower")

    def _load_perceptual_encoder(self) -> PerceptualEncoder | None:
        if not self.options.features_steps or not self.options.perceptual:
            return None

        def load() -> PerceptualEncoder:
            model = build_perceptual_encoder(self.options, len(self.normalization.mean), seed=self.config.seed)
            checkpoints = get_checkpoints(self.out / "features")
            load_weights(model, unpack_state("model", checkpoints.load(which=BEST)[0]), checkpoints.get_path(BEST))
            return model

        return run_on_all_ranks(self.ranks, load)


def load_autoencoder(run: Path, options: LdmOptions, normalization: Normalization) -> tuple[Autoencoder, str]:
    """Return the autoencoder of a run's best checkpoint, and a text that identifies it.

    Raises:
        HsevalError: the checkpoint is missing or damaged.
    """
    checkpoints = get_checkpoints(run / "autoencoder")
    tensors, record = checkpoints.load(which=BEST)
    model = build_autoencoder(options, normalization)
    load_weights(model, unpack_state("model", tensors), checkpoints.get_path(BEST))
    return model.to(memory_format=torch.channels_last), f"step {record['step']}, {lineage.hash_weights(model)}"


def initialize_from_run(denoiser: Denoiser, run: Path) -> None:
    """Initialize a U-Net with the averaged weights of another run, which may be of another resolution.

    Raises:
        HsevalError: the run has no U-Net, or its channels differ.
    """
    checkpoints = get_checkpoints(run / "diffusion")
    tensors, _ = checkpoints.load(which=BEST)
    load_weights(denoiser, unpack_state("ema", tensors), checkpoints.get_path(BEST))


def _resume_config(options: LdmOptions, data: CubeSet, out: Path, *, seed: int) -> tuple[RunConfig, Normalization]:
    saved = read_config(out)
    normalization = Normalization.from_record(saved.normalization)
    normalization.check_compatible(data)
    merged = merge_resumed_options(saved, options, seed=seed, data_hash=hash_ids(data), run=out)
    return dataclasses.replace(saved, options=merged), normalization


def _create_config(options: LdmOptions, data: CubeSet, *, seed: int) -> tuple[RunConfig, Normalization]:
    if len(data) < 2:
        content = f"holds {format_count(len(data), 'cube')}"
        raise HsevalError(f"{data.info.location}: {content}, ldm needs 2 or more, and hundreds for useful samples")
    split = split_held_out(data, share=options.held_out, seed=seed)
    normalization = Normalization.measure(data, split.train, seed=seed)
    held_out = [data.ids[index] for index in split.held_out]
    record = normalization.to_record()
    config = RunConfig(options, seed, record, held_out, hash_ids(data), data.info.location)
    return config, normalization


def _check_size(options: LdmOptions, normalization: Normalization, data: CubeSet) -> None:
    shorter = min(normalization.size)
    if options.crop is not None and options.crop > shorter:
        reason = f"crop={options.crop} is more than the shorter side of its cubes, {shorter} px"
        raise HsevalError(f"{data.info.location}: {reason}; lower crop, or set crop=none")
    latents = -(-shorter // options.compression)
    if latents < 2 ** (len(options.multipliers) - 1):
        resolution = f"{shorter} px at compression={options.compression} give {format_count(latents, 'latent')}"
        levels = len(options.multipliers)
        hint = "lower compression, or use fewer multipliers"
        raise HsevalError(f"{data.info.location}: {resolution}, too few for {levels} levels; {hint}")
