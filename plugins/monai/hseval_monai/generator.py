"""The generator ``monai``: the interface to hseval, on top of the stages in :mod:`hseval_monai.stages`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hseval import CubeSet, HsevalError, Sample
from hseval.core.options import build_options, options_to_dict
from hseval.generator_kit import (
    ChannelCodec,
    choose_device,
    from_numpy,
    load_checkpoint,
    merge_options,
    sample_in_batches,
    save_checkpoint,
)
from hseval_monai.options import SAMPLING_OPTIONS, MonaiOptions

if TYPE_CHECKING:
    import torch

FORMAT = "hseval-monai-1"


class Monai:
    """An autoencoder of pixels and masks, and a flow from noise to its latents."""

    name = "monai"
    version = "1.0.0"
    summary = "MONAI's AutoencoderKL and DiffusionModelUNet in its latent space, masks as further channels"
    Options = MonaiOptions

    def __init__(self, options: MonaiOptions | None = None) -> None:
        self.options = options or MonaiOptions()
        self._networks: tuple[Any, Any] | None = None

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0, device: str | None = None) -> None:
        """Train both stages on ``data`` and write ``monai.safetensors`` and ``monai.json`` to the folder ``out``.

        Raises:
            HsevalError: no cubes, cubes of several shapes, another training's checkpoint, or a loss that is not finite.
        """
        from hseval_monai.stages import TwoStageTrainer

        options = self.options
        halvings = len(options.ae_channels) + len(options.channels) - 2
        channels = ChannelCodec.from_set(data, multiple=2**halvings)
        stages = TwoStageTrainer(options, data, channels, out=out, seed=seed, device=choose_device(device))
        encoder = stages.train_autoencoder()
        latents, mean, std = stages.encode_latents(encoder)
        denoiser = stages.train_unet(latents)
        stored = {"latents.mean": mean, "latents.deviation": std, **channels.as_tensors()}
        for prefix, network in (("autoencoder.", encoder), ("unet.", denoiser)):
            stored |= {prefix + name: value.cpu().numpy() for name, value in network.state_dict().items()}
        record = {"version": self.version, "options": options_to_dict(options), "channels": channels.as_record()}
        save_checkpoint(out, "monai", stored, record, format=FORMAT)
        self.load(out, device=device)

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Read what :meth:`fit` wrote to ``path``, for sampling.

        Raises:
            HsevalError: ``path`` is None, or its checkpoint is missing, damaged or has other options.
        """
        if path is None:
            raise HsevalError("monai has to be trained first: hseval train monai DATA --out RUN, then --checkpoint RUN")
        hint = "create one by: hseval train monai"
        tensors, record = load_checkpoint(
            path, "monai", format=FORMAT, required_keys=("options", "channels"), hint=hint
        )
        trained = build_options(type(self), record["options"], owner=f"{path}: monai.json")
        self.options = merge_options(self.options, trained, sampling_options=SAMPLING_OPTIONS, path=path)
        self.channels = ChannelCodec.from_record(record["channels"], tensors)
        self.wavelengths, self.units = self.channels.wavelengths, self.channels.units
        self.device = choose_device(device)
        self._latent_mean, self._latent_std = (
            tensors[f"latents.{name}"][:, None, None] for name in ("mean", "deviation")
        )
        self._networks = self._restore_network("autoencoder.", tensors), self._restore_network("unet.", tensors)

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i is drawn from the stream (seed, "monai", i) alone."""
        if self._networks is None:
            raise HsevalError("monai: no checkpoint is loaded; call load first")
        import torch

        from hseval_monai.networks import RectifiedFlow

        (decoder, denoiser), flow = self._networks, RectifiedFlow()

        def draw(noise: Any) -> Any:
            with torch.inference_mode():
                normal = flow.sample(denoiser, noise, steps=self.options.flow_steps, device=self.device).cpu().numpy()
                latents = torch.from_numpy(normal * self._latent_std + self._latent_mean).to(self.device)
                return decoder.decode(latents).cpu().numpy()

        _, height, width = self.channels.shape
        half = 2 ** (len(self.options.ae_channels) - 1)
        shape = (self.options.latent_channels, height // half, width // half)
        arguments: dict[str, Any] = {
            "batch_size": self.options.sample_batch,
            "seed": seed,
            "name": self.name,
            "shape": shape,
        }
        for index, image in sample_in_batches(draw, start=start, stop=n, **arguments):
            yield Sample(*self.channels.decode(image), f"{self.name}-{seed}-{index:06d}")

    def _restore_network(self, prefix: str, tensors: dict[str, np.ndarray[Any, Any]]) -> torch.nn.Module:
        from hseval_monai.networks import build_autoencoder, build_unet

        network = (
            build_unet(self.options) if prefix == "unet." else build_autoencoder(self.channels.n_channels, self.options)
        )
        weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        network.load_state_dict(from_numpy(weights))
        return network.to(self.device).eval()
