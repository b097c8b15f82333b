"""The generator ``diffusers``: the interface to hseval, on top of :mod:`hseval_diffusers.diffusion`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval import CubeSet, HsevalError, Sample
from hseval.core.options import build_options, options_to_dict
from hseval.generator_kit import (
    ChannelCodec,
    LoopConfig,
    build_seeded_network,
    choose_device,
    from_numpy,
    load_checkpoint,
    merge_options,
    sample_in_batches,
    save_checkpoint,
    train,
)
from hseval_diffusers.options import SAMPLING_OPTIONS, DiffusersOptions

if TYPE_CHECKING:
    import torch

FORMAT = "hseval-diffusers-1"
MUTABLE_ON_RESUME = ("steps", "checkpoint_every", "resume", *SAMPLING_OPTIONS)


class Diffusers:
    """A denoising U-Net (Ho et al. 2020) on images of pixels and masks."""

    name = "diffusers"
    version = "1.0.0"
    summary = "diffusers' U-Net on pixels (DDPM), masks as further channels; DPM-Solver++ when sampling"
    Options = DiffusersOptions

    def __init__(self, options: DiffusersOptions | None = None) -> None:
        self.options = options or DiffusersOptions()
        self.network: torch.nn.Module | None = None

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0, device: str | None = None) -> None:
        """Train on ``data`` and write ``diffusers.safetensors`` and ``diffusers.json`` to the folder ``out``.

        Raises:
            HsevalError: no cubes, cubes of several shapes, another training's checkpoint, or a loss that is not finite.
        """
        import torch

        from hseval_diffusers.diffusion import DiffusionProcess

        options, torch_device = self.options, choose_device(device)
        channels = ChannelCodec.from_set(data, multiple=2 ** (len(options.channels) - 1))
        network = build_seeded_network(lambda: self._build_unet(channels), seed=seed, name=self.name).to(torch_device)
        process, loop = DiffusionProcess(options.timesteps), _build_loop(options, seed, channels)

        def loss(step: int) -> torch.Tensor:
            clean = [torch.from_numpy(channels.encode(data[index])) for index in loop.draw_indices(step, len(data))]
            return process.compute_loss(network, torch.stack(clean).to(torch_device), loop.make_rng("noise", step))

        weights = train(network, loss, loop, out)
        record = {"version": self.version, "options": options_to_dict(options), "channels": channels.as_record()}
        tensors = {f"unet.{name}": value for name, value in weights.items()} | channels.as_tensors()
        save_checkpoint(out, "diffusers", tensors, record, format=FORMAT)
        self.load(out, device=device)

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Read what :meth:`fit` wrote to ``path``, for sampling.

        Raises:
            HsevalError: ``path`` is None, or its checkpoint is missing, damaged or has other options.
        """
        if path is None:
            raise HsevalError(
                "diffusers has to be trained first: hseval train diffusers DATA --out RUN, then --checkpoint RUN"
            )
        hint = "create one by: hseval train diffusers"
        tensors, record = load_checkpoint(
            path, "diffusers", format=FORMAT, required_keys=("options", "channels"), hint=hint
        )
        trained = build_options(type(self), record["options"], owner=f"{path}: diffusers.json")
        self.options = merge_options(self.options, trained, sampling_options=SAMPLING_OPTIONS, path=path)
        self.channels = ChannelCodec.from_record(record["channels"], tensors)
        self.wavelengths, self.units = self.channels.wavelengths, self.channels.units
        self.device = choose_device(device)
        network = self._build_unet(self.channels)
        weights = {name.removeprefix("unet."): tensor for name, tensor in tensors.items() if name.startswith("unet.")}
        network.load_state_dict(from_numpy(weights))
        self.network = network.to(self.device).eval()

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i is drawn from the stream (seed, "diffusers", i) alone."""
        if self.network is None:
            raise HsevalError("diffusers: no checkpoint is loaded; call load first")
        from hseval_diffusers.diffusion import DiffusionProcess

        process, network = DiffusionProcess(self.options.timesteps), self.network

        def draw(noise: Any) -> Any:
            return process.sample(network, noise, steps=self.options.solver_steps, device=self.device)

        arguments: dict[str, Any] = {
            "batch_size": self.options.sample_batch,
            "seed": seed,
            "name": self.name,
            "shape": self.channels.shape,
        }
        for index, image in sample_in_batches(draw, start=start, stop=n, **arguments):
            yield Sample(*self.channels.decode(image), f"{self.name}-{seed}-{index:06d}")

    def _build_unet(self, channels: ChannelCodec) -> torch.nn.Module:
        from hseval_diffusers.diffusion import build_unet

        return build_unet(channels.n_channels, widths=self.options.channels, blocks=self.options.blocks)


def _build_loop(options: DiffusersOptions, seed: int, channels: ChannelCodec) -> LoopConfig:
    fixed_options = {
        name: value for name, value in dataclasses.asdict(options).items() if name not in MUTABLE_ON_RESUME
    }
    return LoopConfig(
        name="diffusers",
        steps=options.steps,
        batch_size=options.batch,
        learning_rate=options.rate,
        ema_decay=options.average,
        checkpoint_every=options.checkpoint_every,
        seed=seed,
        resume=options.resume,
        run_settings={**fixed_options, **channels.as_record()},
    )
