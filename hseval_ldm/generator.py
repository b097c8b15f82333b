"""The generator ``ldm``: hseval's generator interface on top of training and pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hseval.plugin import CubeSet, HsevalError, Sample, options_to_dict
from hseval_ldm.options import COMMAND_OPTIONS, SAMPLING_OPTIONS, STAGE_OPTIONS, LdmOptions

if TYPE_CHECKING:
    from hseval_ldm.sampling.pipeline import Pipeline


class Ldm:
    """A VQ-GAN and a diffusion model of its latents: cubes with masks."""

    name: ClassVar[str] = "ldm"
    version: ClassVar[str] = "1.0.0"
    summary: ClassVar[str] = "VQ-GAN and latent diffusion: cubes together with their masks"
    Options = LdmOptions
    sampling: ClassVar[tuple[str, ...]] = SAMPLING_OPTIONS
    stages: ClassVar[Mapping[str, tuple[str, ...]]] = STAGE_OPTIONS

    def __init__(self, options: LdmOptions | None = None) -> None:
        self.options = options or LdmOptions()
        self.wavelengths: Any = None
        self.units: str | None = None
        self._pipeline: Pipeline | None = None

    def fit(
        self,
        data: CubeSet,
        out: Path,
        *,
        seed: int = 0,
        device: str | None = None,
        resume: bool = False,
        until: str | None = None,
        start: Path | None = None,
    ) -> None:
        """Train on ``data``, cubes of one shape, into the folder ``out``: all stages, or that of ``options.stage``.

        ``resume`` resumes the run that ``out`` holds, if it holds one; ``options.resume`` requires one. ``until`` is
        the last stage to train, of ``stages``; None: all. ``start`` is a run whose stages of ``stages`` were trained
        with the same options on the same set: they are reused (as hard links where the file system has them), and not
        trained again.

        Raises:
            HsevalError: see :func:`hseval_ldm.training.run.train` and
                :func:`hseval_ldm.training.lineage.reuse_stages`.
        """
        from hseval_ldm.training.lineage import reuse_stages
        from hseval_ldm.training.run import train
        from hseval_ldm.training.run_config import get_checkpoints

        if start is not None:
            reuse_stages(Path(start), self.options, data, Path(out), seed=seed)
        may_resume = resume or start is not None
        self.options = train(
            self.options, data, Path(out), seed=seed, device=device, until=until, may_resume=may_resume
        )
        if get_checkpoints(Path(out) / "diffusion").exist():
            self.load(Path(out), device=device)

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Load the best checkpoints of a run for sampling.

        Raises:
            HsevalError: ``path`` is None, or the run is unfinished, damaged or trained with other options.
        """
        if path is None:
            raise HsevalError("ldm must be trained first: hseval train-ldm DATA --out RUN, then --checkpoint RUN")
        import torch

        from hseval.generator_kit import BEST, choose_device, load_weights, unpack_state
        from hseval_ldm.data.latent_cache import LatentScaler
        from hseval_ldm.data.normalization import Normalization
        from hseval_ldm.models.unet import build_denoiser, select_memory_format
        from hseval_ldm.sampling.pipeline import Pipeline
        from hseval_ldm.sampling.schedule import NoiseSchedule
        from hseval_ldm.training import lineage
        from hseval_ldm.training.run import load_autoencoder
        from hseval_ldm.training.run_config import get_checkpoints, read_config
        from hseval_ldm.utils.precision import build_autocast

        run = Path(path)
        config = read_config(run)
        self.options = self._merge_options(config.options, run)
        self.device = choose_device(device)
        normalization = Normalization.from_record(config.normalization)
        autoencoder, digest = load_autoencoder(run, self.options, normalization)
        checkpoints = get_checkpoints(run / "diffusion")
        tensors, _ = checkpoints.load(which=BEST)
        lineage.check_autoencoder(run, digest)
        denoiser = build_denoiser(self.options, autoencoder.latent_shape[0])
        load_weights(denoiser, unpack_state("ema", tensors), checkpoints.get_path(BEST))
        scaler = LatentScaler.from_tensors(
            unpack_state("scale", tensors), autoencoder.latent_shape[0], checkpoints.get_path(BEST)
        )
        for network, memory_format in (
            (autoencoder, torch.channels_last),
            (denoiser, select_memory_format(self.device)),
        ):
            network.to(self.device).to(memory_format=memory_format).eval().requires_grad_(False)
        schedule = NoiseSchedule(self.options.timesteps)
        precision = self.options.precision
        if precision == "auto" and self.device.type == "cpu":
            precision = "float32"  # so that cubes agree to 1e-5 between CPUs
        autocast = build_autocast(precision, self.device)
        denoise = torch.compile(denoiser) if self.options.compile else denoiser
        self._pipeline = Pipeline(autoencoder, denoise, scaler, schedule, self.options, self.device, autocast)
        self._structures = normalization.structures
        self.wavelengths, self.units = normalization.wavelengths, normalization.units

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1`` with their masks; cube i depends on (seed, i) alone.

        Raises:
            HsevalError: nothing was loaded, or memory runs out.
        """
        if self._pipeline is None:
            raise HsevalError("ldm: nothing is loaded; load a run first")
        from hseval.generator_kit import explain_out_of_memory

        generated = self._pipeline.generate_cubes(range(start, n), seed=seed)
        while True:
            with explain_out_of_memory("ldm, sampling", "batch_size (or set tile)"):
                item = next(generated, None)
            if item is None:
                return
            index, cube = item
            masks = {name: cube.masks[0, number].numpy() for number, name in enumerate(self._structures)}
            yield Sample(cube.cubes[0].float().numpy(), masks, f"ldm-{seed}-{index:06d}")

    def _merge_options(self, trained: LdmOptions, run: Path) -> LdmOptions:
        """Return the run's options, overridden by the explicit options of sampling."""
        explicit = {name: getattr(self.options, name) for name in self.options.explicit_names}
        stored = options_to_dict(trained)
        for name, value in explicit.items():
            if name not in (*SAMPLING_OPTIONS, "preset", *COMMAND_OPTIONS) and value != stored[name]:
                mismatch = f"was trained with {name}={stored[name]}, not {value}"
                raise HsevalError(f"{run}: {mismatch}; for sampling, only {', '.join(SAMPLING_OPTIONS)} can be set")
        return LdmOptions(**(stored | {name: value for name, value in explicit.items() if name in SAMPLING_OPTIONS}))
